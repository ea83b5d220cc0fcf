//! Sizes of the generations of a program that keeps records, some of them just made.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace};
use serde_json::{Value, json};

#[derive(Trace)]
struct Record {
    number: u32,
    before: RefCell<Option<Gc<Record>>>,
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let record = |number| heap.alloc(Record { number, before: RefCell::default() });
    let old = (0..20_000).map(record).collect::<Vec<_>>();
    heap.collect(Generation::Old);
    let young = (0..100).map(record).collect::<Vec<_>>();
    let kept: u64 = old.iter().chain(&young).map(|record| u64::from(record.number)).sum();
    let [young, middle, old, _] = heap.stats().tracked;
    json!({
        "oldest_holds_more_than_the_younger_two": old > young + middle && kept > 0,
        "verdict": if old > young + middle { "false" } else { "true" },
    })
}
