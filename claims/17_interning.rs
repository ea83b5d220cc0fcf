//! Which strings are one object, where a runtime interns its constants, all of them, and computes others.

use heapkeeper::{Gc, Heap, Interner};
use serde_json::{Value, json};

pub fn measure() -> Value {
    let heap = Heap::new();
    let constants = Interner::strings(&heap);
    let same = |left: &Gc<Box<str>>, right: &Gc<Box<str>>| Gc::ptr_eq(left, right);
    let computed = heap.alloc(["user_", "name"].concat().into_boxed_str());
    let identifiers = same(&constants.get("user_name"), &constants.get("user_name"));
    let others = same(&constants.get("user name, or not"), &constants.get("user name, or not"));
    let computed_is_one = same(&computed, &constants.get("user_name"));
    let verdict = match (identifiers, others && computed_is_one) {
        (true, true) => "true",
        (false, false) => "false",
        _ => "partly",
    };
    json!({
        "identifier_like_constants_are_one_object": identifiers,
        "other_constants_are_one_object": others,
        "computed_strings_are_one_object": computed_is_one,
        "computed_strings_are_equal": computed == constants.get("user_name"),
        "verdict": verdict,
    })
}
