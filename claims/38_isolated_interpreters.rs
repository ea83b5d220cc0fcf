//! Whether two heaps of one process share pools.

use std::collections::HashSet;

use heapkeeper::{Gc, Heap};
use serde_json::{Value, json};

const POOL_BYTES: usize = 4096; // or a multiple: what shares no piece of this size shares no pool

pub fn measure() -> Value {
    let (heap, other) = (Heap::new(), Heap::new());
    // Half of the blocks in our pools are free: a heap that shares the pools takes those.
    let mut ours = (0..20_000).map(|number| Some(heap.alloc(number))).collect::<Vec<_>>();
    ours.iter_mut().step_by(2).for_each(|place| *place = None);
    let theirs = (0..1000).map(|number| other.alloc(number)).collect::<Vec<_>>();
    let pool = |thing: &Gc<i32>| Gc::as_ptr(thing).addr() / POOL_BYTES;
    let used = ours.iter().flatten().map(pool).collect::<HashSet<_>>();
    let shared = theirs.iter().any(|thing| used.contains(&pool(thing)));
    json!({ "other_interpreter_uses_our_pools": shared, "verdict": if shared { "false" } else { "true" } })
}
