//! The hard limit: null at it, usable after it, grace for whoever handles the refusal, and a handler that is asked first.

use std::ffi::c_void;
use std::ptr;

use heapkeeper_heap::{Heap, LimitHandler, Range, SLOT_BYTES};

const MIB: usize = 1 << 20;
const LIMIT: usize = 32 * MIB;

fn heap_with_limit(handler: Option<LimitHandler>) -> (&'static Range, Heap) {
    let range = Range::reserve(256 * MIB).unwrap();
    range.set_limit(LIMIT, handler);
    (range, Heap::new(range).unwrap())
}

/// Allocate blocks of this size until the first refusal.
fn fill(heap: &mut Heap, bytes: usize) -> Vec<*mut u8> {
    std::iter::from_fn(|| Some(heap.alloc(bytes)).filter(|block| !block.is_null())).collect()
}

fn free_all(heap: &mut Heap, blocks: &[*mut u8]) {
    for block in blocks {
        // SAFETY: live blocks of this heap.
        assert!(unsafe { heap.free(*block) });
    }
}

#[test]
fn requests_beyond_the_limit_get_null_and_the_heap_stays_usable() {
    for bytes in [48, 500, 3000, 30_000, 100_000, 3 * MIB] {
        let (range, mut heap) = heap_with_limit(None);
        let blocks = fill(&mut heap, bytes);
        let live = blocks.len() * bytes;
        assert!(live <= LIMIT && live > LIMIT / 2, "{live} of {LIMIT} with blocks of {bytes}");
        assert!(range.stats().held_bytes <= LIMIT && heap.alloc(4 * MIB).is_null());
        heap.check().unwrap();
        // What one gives back another may have, whatever its size.
        free_all(&mut heap, &blocks[..blocks.len() / 2]);
        let other = if bytes > 1000 { 64 } else { 200_000 };
        let others = fill(&mut heap, other);
        assert!(others.len() * other > LIMIT / 3, "{} of {other} after freeing half of {bytes}", others.len());
        free_all(&mut heap, &others);
        free_all(&mut heap, &blocks[blocks.len() / 2..]);
        heap.check().unwrap();
        drop(heap);
        assert_eq!(range.stats().held_bytes, 0);
        // SAFETY: the only heap is gone.
        unsafe { range.release() };
    }
}

#[test]
fn below_what_is_held_there_is_the_grace_all_the_same() {
    let (range, mut heap) = heap_with_limit(None);
    let large: Vec<*mut u8> = (0..20).map(|_| heap.alloc(MIB)).collect();
    let held = range.stats().held_bytes;
    range.set_limit(8 * MIB, None);
    assert!(heap.alloc(64).is_null() || range.stats().held_bytes == held, "nothing more without a refusal");
    assert!(heap.alloc(MIB).is_null());
    // A sixteenth of the limit, beside what is held.
    let in_grace = fill(&mut heap, 64);
    let used = range.stats().held_bytes - held;
    assert!(used > MIB / 4 && used <= MIB / 2, "{used}");
    // It goes down with what is held, and not up again.
    free_all(&mut heap, &large[..10]);
    let now = range.stats().held_bytes;
    let more = fill(&mut heap, 64);
    assert!(range.stats().held_bytes <= now + MIB / 2, "{} after {now}", range.stats().held_bytes);
    assert!(fill(&mut heap, MIB).is_empty());
    heap.check().unwrap();
    for blocks in [&in_grace, &more, &large[10..].to_vec()] {
        free_all(&mut heap, blocks);
    }
    assert!(!heap.alloc(7 * MIB).is_null(), "well below the limit it is as before");
    drop(heap);
    // SAFETY: the only heap is gone.
    unsafe { range.release() };
}

/// For those who could not handle a refusal: the handler opens the grace, once.
#[test]
fn a_handler_may_open_the_grace() {
    unsafe fn open(context: *mut c_void, _: usize) -> bool {
        // SAFETY: the context is the range.
        unsafe { &*context.cast::<Range>() }.open_grace()
    }
    let (range, mut heap) = heap_with_limit(None);
    range.set_limit(LIMIT, Some(LimitHandler { context: (&raw const *range).cast_mut().cast(), at_limit: open }));
    let small = fill(&mut heap, 64);
    let more = range.stats().held_bytes - LIMIT;
    assert!((MIB - SLOT_BYTES..=MIB).contains(&more), "{more} bytes beyond the limit");
    free_all(&mut heap, &small);
    let large = fill(&mut heap, 100_000);
    assert!(range.stats().held_bytes <= LIMIT, "not for large ones");
    free_all(&mut heap, &large);
    heap.check().unwrap();
    drop(heap);
    // SAFETY: the only heap is gone.
    unsafe { range.release() };
}

#[test]
fn after_a_refusal_small_blocks_may_use_the_grace() {
    let (range, mut heap) = heap_with_limit(None);
    let large = fill(&mut heap, 100_000);
    // That ended with a refusal: from here on there is the grace, a megabyte, for small blocks, and for no others.
    let medium = fill(&mut heap, 20_000);
    assert!(range.stats().held_bytes <= LIMIT);
    let in_grace = fill(&mut heap, 64);
    let more = range.stats().held_bytes - LIMIT;
    assert!((MIB - SLOT_BYTES..=MIB).contains(&more), "{more} bytes beyond the limit");
    // It is granted once: when much has been freed, the limit holds again without it.
    free_all(&mut heap, &in_grace);
    free_all(&mut heap, &large[..large.len() / 2]);
    let again = fill(&mut heap, 64);
    let held = range.stats().held_bytes;
    assert!(held <= LIMIT, "{held} after room was made");
    for blocks in [&again, &medium, &large[large.len() / 2..].to_vec()] {
        free_all(&mut heap, blocks);
    }
    heap.check().unwrap();
}

#[test]
fn memory_kept_for_reuse_counts_at_the_limit() {
    let (range, mut heap) = heap_with_limit(None);
    for _ in 0..20 {
        let blocks = fill(&mut heap, 100_000);
        free_all(&mut heap, &blocks);
        let blocks = fill(&mut heap, 5 * MIB);
        assert!(blocks.len() >= 6);
        for block in &blocks {
            // SAFETY: a live block of this length.
            unsafe { block.write_bytes(1, 5 * MIB) };
        }
        let stats = range.stats();
        let kept = stats.retained_bytes + heap.stats().retained_bytes;
        assert!(stats.held_bytes + kept <= LIMIT + 2 * MIB, "{} held and {kept} kept", stats.held_bytes);
        free_all(&mut heap, &blocks);
    }
}

/// What the handler was asked, and what it has to give.
struct Giver {
    asked: Vec<usize>,
    heap: Heap,
    blocks: Vec<*mut u8>,
}

/// # Safety
/// `context` is a live `Giver`.
unsafe fn give_one(context: *mut c_void, needed_bytes: usize) -> bool {
    // SAFETY: by contract.
    let giver = unsafe { &mut *context.cast::<Giver>() };
    giver.asked.push(needed_bytes);
    let Some(block) = giver.blocks.pop() else { return false };
    // SAFETY: a live block of that heap, which is not the one that asks.
    unsafe { giver.heap.free(block) }
}

#[test]
fn the_handler_is_asked_until_it_gives_up() {
    let range = Range::reserve(256 * MIB).unwrap();
    let mut heap = Heap::new(range).unwrap();
    let mut giver = Giver { asked: Vec::new(), heap: Heap::new(range).unwrap(), blocks: Vec::new() };
    giver.blocks = (0..4).map(|_| giver.heap.alloc(MIB)).collect();
    let context = ptr::from_mut(&mut giver);
    range.set_limit(8 * MIB, Some(LimitHandler { context: context.cast(), at_limit: give_one }));

    let first = heap.alloc(4 * MIB); // 4 here and 4 there: full, and nobody asked
    // SAFETY: `giver` outlives the handler, and is touched by nobody else meanwhile.
    let giver = unsafe { &mut *context };
    assert!(!first.is_null() && giver.asked.is_empty());
    let second = heap.alloc(3 * MIB); // three times asked, then there is room
    assert!(!second.is_null());
    assert_eq!(giver.asked, [3 * MIB; 3]);
    let third = heap.alloc(2 * MIB); // one more to give, which is not enough
    assert!(third.is_null());
    assert_eq!(giver.asked[3..], [2 * MIB; 2]);
    free_all(&mut heap, &[first, second]);
    range.set_limit(usize::MAX, None);
    assert!(!heap.alloc(20 * MIB).is_null());
    assert_eq!(giver.asked.len(), 5);
    heap.check().unwrap();
    giver.heap.check().unwrap();
}
