//! What a weak reference keeps alive; the cache is an interner, which holds its objects weakly.

use heapkeeper::{Gc, Heap, Interner};
use serde_json::{Value, json};

pub fn measure() -> Value {
    let heap = Heap::new();
    let cache = Interner::strings(&heap);
    let picture = cache.get("cover");
    let reference = Gc::downgrade(&picture);
    let before = reference.upgrade().is_some_and(|same| Gc::ptr_eq(&same, &picture)) && cache.stats().distinct == 1;
    drop(picture);
    let (there, cached) = (reference.upgrade().is_some(), cache.stats().distinct > 0);
    json!({
        "there_while_in_use": before,
        "there_after": there,
        "cached_after": cached,
        "verdict": if before && !there && !cached { "true" } else { "false" },
    })
}
