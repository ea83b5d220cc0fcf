//! What only the crate itself can see; everything else is in `tests/`.

#![cfg(all(debug_assertions, not(heapkeeper_asan)))]

use crate::poison::DEAD_BYTE;
use crate::{Gc, Heap};

/// Debug builds notice handles to freed memory: that is how the tests would find one.
#[test]
fn freed_objects_are_marked() {
    let heap = Heap::new();
    let _neighbour = heap.alloc([1u64; 4]);
    let object = heap.alloc([7u64; 4]);
    let address = Gc::as_ptr(&object);
    // SAFETY: a second handle that is not counted: the fault that is looked for. It is not dropped.
    let forged = std::mem::ManuallyDrop::new(unsafe { std::ptr::read(&object) });
    drop(object);
    // SAFETY: the pool is still there, for the neighbour's sake.
    assert_eq!(unsafe { address.read() }, [u64::from_ne_bytes([DEAD_BYTE; 8]); 4]);
    let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| forged[0]));
    assert!(used.unwrap_err().downcast_ref::<&str>().unwrap().contains("freed memory"));
}
