//! What once broke, each under a name that says how.

use std::ptr;

use heapkeeper_heap::{ARENA_BYTES, Heap, LimitHandler, Range};

const MIB: usize = 1 << 20;

/// A range and a heap in it, both gone at the end.
fn with_heap<R>(reserve_bytes: usize, work: impl FnOnce(&'static Range, &mut Heap) -> R) -> R {
    let range = Range::reserve(reserve_bytes).unwrap();
    let mut heap = Heap::new(range).unwrap();
    let result = work(range, &mut heap);
    heap.check().unwrap();
    drop(heap);
    assert_eq!(range.stats().held_bytes, 0);
    range.check().unwrap();
    // SAFETY: the only heap is gone, and no block is used any more.
    unsafe { range.release() };
    result
}

#[test]
fn refused_requests_counted_as_requested() {
    with_heap(16 * MIB, |_, heap| {
        let before = heap.requested_bytes();
        for bytes in [1 << 30, 1 << 40, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX] {
            assert!(heap.alloc(bytes).is_null());
            assert!(heap.alloc_zeroed(bytes).is_null());
            assert!(heap.alloc_aligned(bytes, 4096).is_null());
        }
        assert_eq!(heap.requested_bytes(), before);
        let block = heap.alloc(100);
        assert_eq!(heap.requested_bytes(), before + 100);
        // SAFETY: a live block; refused requests leave it alone.
        unsafe {
            assert!(heap.realloc(block, 1 << 40).is_null());
            assert!(heap.realloc(block, usize::MAX).is_null());
            assert_eq!(heap.requested_bytes(), before + 100);
            assert!(heap.free(block));
        }
    });
}

#[test]
fn refused_requests_raised_the_peak() {
    with_heap(16 * MIB, |range, heap| {
        let block = heap.alloc(3 * MIB);
        let peak = range.stats().peak_bytes;
        assert_eq!(peak, 3 * MIB);
        assert!(heap.alloc(1 << 40).is_null());
        assert!(heap.alloc(isize::MAX as usize).is_null());
        // SAFETY: a live block.
        assert!(unsafe { heap.realloc(block, 1 << 40) }.is_null());
        assert_eq!((range.stats().peak_bytes, range.stats().held_bytes), (peak, peak));
    });
}

#[test]
fn shrinking_failed_at_the_limit() {
    with_heap(64 * MIB, |range, heap| {
        let block = heap.alloc(4 * MIB);
        // SAFETY: the span is this long.
        unsafe { block.write_bytes(7, 4 * MIB) };
        range.set_limit(range.stats().held_bytes, None);
        // SAFETY: a live block.
        let shrunk = unsafe { heap.realloc(block, 100_000) };
        assert!(!shrunk.is_null());
        // SAFETY: it holds 100,000 bytes at least.
        assert!(unsafe { std::slice::from_raw_parts(shrunk, 100_000) }.iter().all(|b| *b == 7));
        range.set_limit(usize::MAX, None::<LimitHandler>);
        // SAFETY: a live block.
        assert!(unsafe { heap.free(shrunk) });
        assert!(!heap.owns(ptr::null()));
    });
}

#[test]
fn free_run_below_the_frontier_was_not_joined_with_fresh_arenas() {
    with_heap(16 * MIB, |range, heap| {
        let arenas = range.bounds().len() / ARENA_BYTES;
        let block = heap.alloc((arenas - 3) * ARENA_BYTES);
        // SAFETY: a live block.
        assert!(unsafe { heap.free(block) });
        let all = heap.alloc(arenas * ARENA_BYTES);
        assert!(!all.is_null());
        // SAFETY: a live block of the whole range.
        unsafe {
            all.write_bytes(1, arenas * ARENA_BYTES);
            assert!(heap.free(all));
        }
    });
}

#[test]
fn locked_memory_came_back_as_zeroed() {
    with_heap(64 * MIB, |range, heap| {
        // One span of slots whose arena stays in use, one of arenas.
        let neighbour = heap.alloc(100);
        for bytes in [100_000, 3 * MIB] {
            let block = heap.alloc(bytes);
            // SAFETY: a live block of this length; locking changes no content.
            unsafe {
                block.write_bytes(0xff, bytes);
                let locked = libc::mlock(block.cast(), 65536);
                assert_eq!(locked, 0, "needs `ulimit -l` of 64 KiB at least");
                assert!(heap.free(block));
            }
            heap.trim();
            range.trim();
            let again = heap.alloc_zeroed(bytes);
            assert_eq!(again, block, "the test wants the same memory again");
            // SAFETY: a live block of this length.
            unsafe {
                assert!(std::slice::from_raw_parts(again, bytes).iter().all(|b| *b == 0));
                assert!(heap.free(again));
            }
        }
        // SAFETY: a live block.
        assert!(unsafe { heap.free(neighbour) });
    });
}
