//! Whether dropping a handle frees the object.

use heapkeeper::{Gc, Heap};
use serde_json::{Value, json};

pub fn measure() -> Value {
    let heap = Heap::new();
    let first = heap.alloc("thing");
    let second = first.clone();
    let reference = Gc::downgrade(&first);
    drop(first);
    let after_one = !reference.is_empty();
    drop(second);
    let after_last = !reference.is_empty();
    json!({
        "there_after_del_of_one_name": after_one,
        "there_after_del_of_the_last": after_last,
        "verdict": if after_one { "false" } else { "true" },
    })
}
