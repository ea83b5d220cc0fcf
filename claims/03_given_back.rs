//! The share of a peak that goes back to the system.

use heapkeeper::{Gc, Heap};
use serde_json::{Value, json};

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// The share, in quarters, of the memory of 500,000 texts that goes back when all are dropped, or all but every so many.
fn given_back(heap: &Heap, keep_every: Option<usize>) -> f64 {
    heap.trim();
    let before = resident_kib();
    let mut texts: Vec<Option<Gc<[u8; 64]>>> = Vec::with_capacity(500_000);
    texts.extend((0..500_000_u32).map(|number| Some(heap.alloc([number as u8; 64]))));
    let peak = resident_kib();
    for (number, text) in texts.iter_mut().enumerate() {
        if keep_every.is_none_or(|every| number % every != 0) {
            *text = None;
        }
    }
    heap.trim();
    let after = resident_kib();
    // The vector itself is 4 MB of either figure.
    let held_kib = (texts.capacity() * size_of::<Option<Gc<[u8; 64]>>>()) as f64 / 1024.0;
    ((4.0 * (peak - after) / (peak - before - held_kib)).round() / 4.0).clamp(0.0, 1.0)
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let everything = given_back(&heap, None);
    let scattered = given_back(&heap, Some(2000));
    json!({
        "share_back_when_all_are_dropped": everything,
        "share_back_when_one_in_2000_stays": scattered,
        "verdict": if everything > 0.5 { "false" } else { "true" },
    })
}
