//! Which integers exist once, where a runtime asks `SmallInts` for them.

use heapkeeper::{Gc, Heap, SmallInts};
use serde_json::{Value, json};

const SEARCHED: i64 = 5000;

pub fn measure() -> Value {
    let heap = Heap::new();
    let ints = SmallInts::new(&heap);
    let exists_once = |number| Gc::ptr_eq(&ints.get(number), &ints.get(number));
    let first = (-SEARCHED..0).rev().take_while(|number| exists_once(*number)).last().unwrap_or(0);
    let last = (1..SEARCHED).take_while(|number| exists_once(*number)).last().unwrap_or(0);
    let verdict = match (first, last) {
        (-5, 256) => "true",
        (0, 0) => "false",
        _ => "partly",
    };
    json!({ "first": first, "last": last, "verdict": verdict })
}
