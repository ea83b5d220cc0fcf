//! A first sign of life; the generated programs are in `tests/`.

use std::vec::Vec;

use crate::claim::Claim;
use crate::os::Access;
use crate::{ARENA_BYTES, CLASSES, Heap, Range, SizeClass};

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn classes_are_the_tightest_that_fit() {
    let mut last = 0;
    for i in 0..CLASSES {
        let class = SizeClass::from_index(i).unwrap();
        assert!(class.block_bytes() > last);
        assert_eq!(SizeClass::of(class.block_bytes()), Some(class));
        assert_eq!(SizeClass::of(last + 1), Some(class));
        assert!(class.capacity_blocks() * class.block_bytes() <= class.pool_slots() * 16384);
        last = class.block_bytes();
    }
    assert_eq!(last, 32 << 10);
}

#[test]
fn random_churn_keeps_contents_and_invariants() {
    let range = Range::reserve(1 << 30).unwrap();
    let mut heap = Heap::new(range).unwrap();
    let mut live: Vec<(*mut u8, usize, u8)> = Vec::new();
    let mut seed = 0x1234_5678_9abc_def1;
    // SAFETY: checked are live blocks, with their lengths.
    let check = |p: *mut u8, n: usize, tag: u8| unsafe {
        assert_eq!((*p, *p.add(n - 1), *p.add(n / 2)), (tag, tag, tag));
    };
    for step in 0..200_000 {
        let r = random(&mut seed);
        if live.len() < 2000 || r.is_multiple_of(3) {
            let shift = (r >> 8) % 22;
            let n = 1 + (random(&mut seed) as usize & ((1 << shift) - 1));
            let p = if r & 64 == 0 { heap.alloc_zeroed(n) } else { heap.alloc(n) };
            assert!(!p.is_null() && p.addr() % 16 == 0);
            assert!(heap.usable_bytes(p) >= n);
            if r & 64 == 0 {
                check(p, n, 0);
            }
            let tag = step as u8;
            // SAFETY: a new block of so many bytes.
            unsafe { p.write_bytes(tag, n) };
            live.push((p, n, tag));
        } else {
            let i = (r >> 16) as usize % live.len();
            let (p, n, tag) = live[i];
            check(p, n, tag);
            if r.is_multiple_of(5) {
                let m = 1 + (random(&mut seed) as usize & ((1 << ((r >> 40) % 22)) - 1));
                // SAFETY: a live block of this heap; what it became takes its place.
                let q = unsafe { heap.realloc(p, m) };
                check(q, n.min(m), tag);
                // SAFETY: a live block of so many bytes.
                unsafe { q.write_bytes(tag, m) };
                live[i] = (q, m, tag);
            } else {
                live.swap_remove(i);
                // SAFETY: a live block of this heap, listed no more.
                assert!(unsafe { heap.free(p) });
            }
        }
        if step % 5000 == 0 {
            heap.check().unwrap();
            assert_eq!(heap.live_blocks(), live.len());
            let mut found = 0;
            heap.visit_live(|_| found += 1);
            assert_eq!(found, live.len());
        }
    }
    for (p, n, tag) in live.drain(..) {
        check(p, n, tag);
        // SAFETY: a live block of this heap, listed no more.
        assert!(unsafe { heap.free(p) });
    }
    heap.check().unwrap();
    heap.trim();
    heap.check().unwrap();
    let stats = heap.stats();
    assert_eq!((stats.held_bytes, stats.live_blocks, stats.arenas), (0, 0, 0));
    drop(heap);
    assert_eq!((range.stats().held_bytes, range.stats().retained_bytes), (0, 0));
}

#[test]
fn kept_memory_comes_before_fresh() {
    let range = Range::reserve(1 << 30).unwrap();
    let mut heap = Heap::new(range).unwrap();
    let neighbour = heap.alloc(100);
    let span = heap.alloc(2 * ARENA_BYTES);
    // SAFETY: allocated above, and not used again.
    assert!(unsafe { heap.free(span) });
    let kept = range.stats().retained_bytes;
    assert_eq!(kept, 2 * ARENA_BYTES);
    // The first arena has room, but no memory there.
    let block = heap.alloc(100_000);
    assert_ne!(block.addr() / ARENA_BYTES, neighbour.addr() / ARENA_BYTES);
    assert!(heap.stats().retained_bytes + range.stats().retained_bytes < kept);
    heap.check().unwrap();
    // SAFETY: allocated above, and not used again.
    assert!(unsafe { heap.free(block) && heap.free(neighbour) });
}

#[test]
fn a_limit_is_widened_as_often_as_it_is_asked_for() {
    let range = Range::reserve(1 << 30).unwrap();
    let mut heap = Heap::new(range).unwrap();
    let held = heap.alloc(4 * ARENA_BYTES);
    range.set_limit(2 * ARENA_BYTES, None);
    let mut room = |arenas: usize| {
        let block = heap.alloc(arenas * ARENA_BYTES);
        // SAFETY: allocated just now, and not used again.
        !block.is_null() && unsafe { heap.free(block) }
    };
    assert!(!room(1));
    // By so much more than what is held, which is more than the limit.
    let first = range.widen_limit(3 * ARENA_BYTES);
    assert!(room(3) && !room(4));
    let second = range.widen_limit(3 * ARENA_BYTES);
    range.narrow_limit(first);
    assert!(room(3));
    range.narrow_limit(second);
    assert!(!room(1));
    // A child of a fork has none of it, and what ends there changes nothing.
    let forked = range.widen_limit(3 * ARENA_BYTES);
    range.after_fork_in_child();
    range.narrow_limit(forked);
    assert!(!room(1));
    // SAFETY: allocated above, and not used again.
    assert!(unsafe { heap.free(held) });
}

/// A kernel that refuses to move memory leaves a hole at the target (Linux 5.7 to 6.16): once the copy went there.
#[test]
fn refused_moves_left_holes() {
    let words = 3 * ARENA_BYTES / size_of::<usize>();
    let range = Range::reserve(1 << 30).unwrap();
    let mut heap = Heap::new(range).unwrap();
    for granted in 0..=3 {
        let block = heap.alloc(words * size_of::<usize>());
        let behind = heap.alloc(2 * ARENA_BYTES); // so that growing in place is out
        let ours = block.cast::<usize>();
        // SAFETY: the block has so many words.
        (0..words).for_each(|i| unsafe { ours.add(i).write(i ^ granted) });
        crate::os::refusal::after(granted);
        // SAFETY: a live block of this heap, not used again.
        let moved = unsafe { heap.realloc(block, 20 * ARENA_BYTES) };
        crate::os::refusal::after(usize::MAX);
        assert!(!moved.is_null() && moved != block);
        // SAFETY: the block has more words than these.
        (0..words).for_each(|i| unsafe { assert_eq!(moved.cast::<usize>().add(i).read(), i ^ granted) });
        // SAFETY: the block has so many bytes.
        unsafe { moved.write_bytes(0xff, 20 * ARENA_BYTES) };
        heap.check().unwrap();
        // SAFETY: live blocks of this heap, not used again.
        assert!(unsafe { heap.free(behind) && heap.free(moved) });
        // What was moved from, and to, is as good as any other memory.
        let zeroed = heap.alloc_zeroed(40 * ARENA_BYTES);
        let zeroed_words = 40 * ARENA_BYTES / size_of::<usize>();
        // SAFETY: the block has so many words.
        (0..zeroed_words).for_each(|i| unsafe { assert_eq!(zeroed.cast::<usize>().add(i).read(), 0) });
        // SAFETY: allocated above, and not used again.
        assert!(unsafe { heap.free(zeroed) });
    }
    heap.check().unwrap();
}

#[test]
fn holes_of_one_slot_do_not_make_pools_of_several_take_an_arena_each() {
    let range = Range::reserve(1 << 30).unwrap();
    let mut heap = Heap::new(range).unwrap();
    // Forty arenas of pools of one slot, every other pool empty again: no run of two slots in any of them.
    let class = SizeClass::of(512).unwrap();
    assert_eq!(class.pool_slots(), 1);
    let mut blocks = Vec::new();
    for _ in 0..40 * 128 * class.capacity_blocks() {
        blocks.push(heap.alloc(512));
    }
    for (i, block) in blocks.iter().enumerate() {
        if (i / class.capacity_blocks()).is_multiple_of(2) {
            // SAFETY: a live block of this heap; the blocks of this pool are not used again.
            assert!(unsafe { heap.free(*block) });
        }
    }
    let arenas = heap.stats().arenas;
    let large = SizeClass::of(8192).unwrap();
    assert_eq!(large.pool_slots(), 2);
    for _ in 0..60 * large.capacity_blocks() {
        assert!(!heap.alloc(8192).is_null());
    }
    assert!(heap.stats().arenas <= arenas + 2, "{} arenas, then {}", arenas, heap.stats().arenas);
    heap.check().unwrap();
}

/// What `free` asks and `free_small` takes for granted makes no difference.
#[test]
fn small_blocks_freed_without_questions() {
    let range = Range::reserve(64 << 20).unwrap();
    let mut heap = Heap::new(range).unwrap();
    let mut state = 7;
    for round in 0..50 {
        let count = [1, 3, 2000][round % 3];
        let mut blocks: Vec<*mut u8> = (0..count).map(|_| heap.alloc(random(&mut state) as usize % 512 + 1)).collect();
        while !blocks.is_empty() {
            let block = blocks.swap_remove(random(&mut state) as usize % blocks.len());
            // SAFETY: a live block of this heap, of at most 512 bytes.
            unsafe { heap.free_small(block) };
            if blocks.len() % 100 < 2 {
                heap.check().unwrap();
                assert_eq!(heap.live_blocks(), blocks.len());
            }
        }
    }
    heap.trim();
    assert_eq!(heap.held_bytes(), 0);
    drop(heap);
    // SAFETY: the only heap is gone.
    unsafe { range.release() };
}

#[test]
fn a_claim_that_was_mapped_as_a_whole_stays_so() {
    let (whole, less) = (4 * ARENA_BYTES, ARENA_BYTES);
    let mut claim = Claim::take(None, whole, less, Access::Table).unwrap();
    assert_eq!(claim.mapped_bytes(), whole);
    // SAFETY: the memory was not used.
    unsafe { claim.shrink(less) };
    assert_eq!(claim.mapped_bytes(), whole);
    assert!(claim.grow(whole));
    // SAFETY: nobody refers to it.
    unsafe { claim.release() };
}
