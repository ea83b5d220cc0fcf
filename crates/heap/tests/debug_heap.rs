//! The debug heap: each kind of fault is planted and found, and programs without any raise none.

use std::cell::RefCell;

use heapkeeper_heap::{DEAD, DebugHeap, FRESH, Fault, FaultKind, Heap, Range};

thread_local! {
    static FAULTS: RefCell<Vec<Fault>> = const { RefCell::new(Vec::new()) };
}

fn note(fault: &Fault) {
    FAULTS.with_borrow_mut(|faults| faults.push(*fault));
}

/// What was reported since the last call: kind, block, bytes, serial.
fn faults() -> Vec<(FaultKind, *mut u8, usize, u64)> {
    FAULTS.take().iter().map(|fault| (fault.kind, fault.block, fault.bytes, fault.serial)).collect()
}

fn debug_heap() -> DebugHeap {
    DebugHeap::new(Heap::new(Range::reserve(64 << 20).unwrap()).unwrap()).on_fault(note)
}

/// Of every tier: small, medium, span of slots, span of arenas.
const SIZES: [usize; 9] = [0, 1, 16, 100, 500, 5000, 40_000, 300_000, 3_000_000];

#[test]
fn writes_past_the_end_are_found_when_the_block_is_freed() {
    let mut heap = debug_heap();
    for (serial, bytes) in (1..).zip(SIZES) {
        let block = heap.alloc(bytes);
        // SAFETY: the byte past the end lies in the redzone; the block is live.
        unsafe {
            block.add(bytes).write(0);
            assert!(heap.free(block));
        }
        assert_eq!(faults(), [(FaultKind::WriteAfter, block, bytes, serial)]);
    }
    assert_eq!((heap.check(), faults()), (Ok(0), vec![]));
}

#[test]
fn writes_before_the_start_are_found_when_the_block_is_freed() {
    let mut heap = debug_heap();
    for (serial, bytes) in (1..).zip(SIZES) {
        let block = heap.alloc(bytes);
        // SAFETY: the byte before the start lies in the redzone; the block is live.
        unsafe {
            block.sub(1).write(0);
            assert!(heap.free(block));
        }
        assert_eq!(faults(), [(FaultKind::WriteBefore, block, bytes, serial)]);
    }
    assert_eq!((heap.check(), faults()), (Ok(0), vec![]));
}

/// One that reaches the header leaves nothing to say whose block it was.
#[test]
fn a_long_write_before_the_start_ruins_the_block_and_nothing_else() {
    let mut heap = debug_heap();
    for bytes in SIZES {
        let (before, block, after) = (heap.alloc(bytes), heap.alloc(bytes), heap.alloc(bytes));
        // SAFETY: the header is written over; all blocks are live.
        unsafe {
            block.sub(40).write_bytes(0xff, 40);
            assert!(!heap.free(block));
            assert_eq!(faults(), [(FaultKind::WriteBefore, block, 0, 0)]);
            assert!(heap.free(before) && heap.free(after));
        }
        assert_eq!(heap.check(), Ok(1), "the check reports it too");
        assert_eq!(faults().len(), 1);
        assert_eq!((heap.check(), faults()), (Ok(0), vec![]), "but once");
    }
}

#[test]
fn second_frees_are_found_in_quarantine_and_after_it() {
    for quarantine_bytes in [1 << 20, 0] {
        let mut heap = debug_heap().quarantine_bytes(quarantine_bytes);
        let neighbour = heap.alloc(100);
        let block = heap.alloc(100);
        // SAFETY: what is freed twice is reported instead.
        unsafe {
            assert!(heap.free(block));
            assert!(faults().is_empty());
            assert!(!heap.free(block));
            assert!(heap.realloc(block, 10).is_null());
            assert!(heap.free(neighbour));
        }
        let fault = (FaultKind::DoubleFree, block, 100, 2);
        assert_eq!(faults(), [fault, fault]);
        assert_eq!(heap.check(), Ok(0));
    }
}

#[test]
fn addresses_where_no_block_starts_are_not_freed() {
    let mut heap = debug_heap();
    let mut other = Heap::new(heap.heap().range()).unwrap();
    let mut foreign = 0u64;
    let blocks = SIZES.map(|bytes| heap.alloc(bytes));
    let mut strangers = vec![(&raw mut foreign).cast(), other.alloc(100), other.alloc(100_000)];
    strangers.push(blocks[3].wrapping_add(1 << 14 << 4)); // a block of its pool, or a slot, that was never handed out
    for (block, bytes) in blocks.iter().zip(SIZES) {
        strangers.extend([block.wrapping_add(1), block.wrapping_add(bytes + 8), block.wrapping_sub(64)]);
    }
    for stranger in strangers {
        // SAFETY: none of these is a block of the heap, which is to find that out.
        assert!(!unsafe { heap.free(stranger) });
        assert_eq!(faults(), [(FaultKind::NotABlock, stranger, 0, 0)]);
    }
    for block in blocks {
        // SAFETY: live blocks.
        assert!(unsafe { heap.free(block) });
    }
    // SAFETY: nothing to free is no fault.
    assert!(unsafe { heap.free(std::ptr::null_mut()) });
    assert_eq!((heap.check(), faults()), (Ok(0), vec![]));
}

#[test]
fn writes_after_free_are_found_by_check_and_when_leaving_quarantine() {
    for bytes in SIZES.into_iter().filter(|bytes| *bytes > 0) {
        let mut heap = debug_heap().quarantine_bytes(8 << 20);
        let block = heap.alloc(bytes);
        // SAFETY: the memory is in quarantine, so that the write hurts nobody; this is what is to be found.
        unsafe {
            assert_eq!(block.add(bytes / 2).read(), FRESH);
            assert!(heap.free(block));
            assert_eq!(block.add(bytes / 2).read(), DEAD);
            block.add(bytes / 2).write(1);
        }
        assert_eq!((heap.check(), faults()), (Ok(1), vec![(FaultKind::UseAfterFree, block, bytes, 1)]));
        assert_eq!((heap.check(), faults()), (Ok(0), vec![]), "each fault is reported once");
        // SAFETY: as above; the other blocks are live.
        unsafe {
            block.write(1);
            for _ in 0..10_000 {
                let other = heap.alloc(1000);
                assert!(heap.free(other));
            }
        }
        assert_eq!(faults(), [(FaultKind::UseAfterFree, block, bytes, 1)]);
    }
}

#[test]
fn damage_to_a_header_in_quarantine_is_found() {
    let mut heap = debug_heap();
    let block = heap.alloc(100);
    // SAFETY: the block is in quarantine when it is written to.
    unsafe {
        assert!(heap.free(block));
        block.sub(30).write(!block.sub(30).read());
        for _ in 0..2000 {
            let other = heap.alloc(1000);
            assert!(heap.free(other));
        }
    }
    assert_eq!(faults(), [(FaultKind::UseAfterFree, block, 0, 0)]);
    assert_eq!(heap.check(), Ok(0));
}

#[test]
fn what_is_live_is_listed_with_size_and_serial() {
    let mut heap = debug_heap();
    let blocks: Vec<_> = SIZES.iter().map(|bytes| heap.alloc(*bytes)).collect();
    let list = |heap: &DebugHeap| {
        let mut list = Vec::new();
        heap.leaks(|leak| list.push((leak.serial, leak.bytes, leak.block)));
        list.sort_unstable();
        list
    };
    let expected =
        |from: usize| -> Vec<_> { (from..SIZES.len()).map(|i| (i as u64 + 1, SIZES[i], blocks[i])).collect() };
    assert_eq!(list(&heap), expected(0));
    for (i, block) in blocks.iter().enumerate() {
        // SAFETY: live blocks.
        assert!(unsafe { heap.free(*block) });
        assert_eq!(list(&heap), expected(i + 1));
    }
    assert!(faults().is_empty());
}

#[test]
#[should_panic(expected = "write past the end of block")]
fn faults_panic_by_default() {
    let mut heap = DebugHeap::new(Heap::new(Range::reserve(0).unwrap()).unwrap());
    let block = heap.alloc(10);
    // SAFETY: the byte past the end lies in the redzone; the block is live.
    unsafe {
        block.add(10).write(0);
        heap.free(block);
    }
}

#[test]
fn messages_say_what_where_and_which() {
    let mut heap = debug_heap();
    let block = heap.alloc(24);
    // SAFETY: the byte past the end lies in the redzone; the block is live.
    unsafe {
        block.add(24).write(0);
        heap.free(block);
    }
    let message = FAULTS.take()[0].to_string();
    assert_eq!(message, format!("write past the end of block {block:p} (24 bytes, allocation 1)"));
}

#[test]
fn at_the_limit_the_quarantine_is_given_up_and_shrinking_works() {
    let mut heap = debug_heap().quarantine_bytes(16 << 20);
    heap.heap().range().set_limit(8 << 20, None);
    for _ in 0..20 {
        let block = heap.alloc(5 << 20);
        assert!(!block.is_null());
        // SAFETY: a live block.
        assert!(unsafe { heap.free(block) });
    }
    let block = heap.alloc(7 << 20);
    // SAFETY: a live block, of which at least the new size stays.
    unsafe {
        block.write_bytes(5, 7 << 20);
        assert!(heap.realloc(block, 8 << 20).is_null());
        let small = heap.realloc(block, 2 << 20);
        assert_eq!((small, heap.usable_bytes(small), small.add((2 << 20) - 1).read()), (block, 2 << 20, 5));
        assert_eq!(heap.check(), Ok(0));
        small.add(2 << 20).write(0);
        assert!(heap.free(small));
    }
    assert_eq!(faults(), [(FaultKind::WriteAfter, block, 2 << 20, 21)]);
}

/// Programs without a fault, at random, with every byte of every block used.
#[test]
fn correct_programs_raise_no_fault() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) as usize % below
    };
    let mut heap = debug_heap();
    let mut live: Vec<(*mut u8, usize, u8)> = Vec::new();
    let holds = |block: *mut u8, bytes: usize, tag: u8| {
        // SAFETY: the block has this many bytes.
        unsafe { std::slice::from_raw_parts(block, bytes) }.iter().all(|byte| *byte == tag)
    };
    let fill = |(block, bytes, tag): (*mut u8, usize, u8)| {
        // SAFETY: a live block of this many bytes.
        unsafe { block.write_bytes(tag, bytes) };
    };
    for step in 0..20_000 {
        let magnitude = random(17);
        let bytes = random(1 << magnitude);
        let tag = step as u8;
        let at = if live.len() < 300 || random(2) == 0 {
            let align = 1 << random(14);
            let (block, first) = match random(3) {
                0 => (heap.alloc(bytes), FRESH),
                1 => (heap.alloc_zeroed(bytes), 0),
                _ => (heap.alloc_aligned(bytes, align), FRESH),
            };
            assert!(holds(block, bytes, first) && heap.usable_bytes(block) == bytes);
            live.push((block, bytes, tag));
            live.len() - 1
        } else {
            let i = random(live.len());
            let (block, old_bytes, old_tag) = live[i];
            assert!(holds(block, old_bytes, old_tag));
            if random(3) == 0 {
                // SAFETY: a live block.
                let new = unsafe { heap.realloc(block, bytes) };
                assert!(new != block && holds(new, bytes.min(old_bytes), old_tag));
                live[i] = (new, bytes, tag);
                i
            } else {
                live.swap_remove(i);
                // SAFETY: a live block.
                assert!(unsafe { heap.free(block) });
                continue;
            }
        };
        fill(live[at]);
        if step % 1000 == 0 {
            assert_eq!(heap.check(), Ok(0));
        }
    }
    let mut leaks = 0;
    heap.leaks(|_| leaks += 1);
    assert_eq!(leaks, live.len());
    for (block, bytes, tag) in live {
        assert!(holds(block, bytes, tag));
        // SAFETY: a live block.
        assert!(unsafe { heap.free(block) });
    }
    assert_eq!((heap.check(), faults()), (Ok(0), vec![]));
    heap.leaks(|leak| panic!("{leak:?}"));
}
