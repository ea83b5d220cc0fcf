//! Tags against a map of what was tagged: generated programs of allocations, resizings and frees on two heaps of one range.

use std::collections::HashMap;

use heapkeeper_heap::{Heap, MAX_TAG, Range, Tagged, Tags};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Alloc { heap: usize, bytes: usize, tag: Option<u32> },
    Resize { of: usize, bytes: usize, tag: Option<u32> },
    Free { of: usize },
    Clear,
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0usize..600,
        3 => 500usize..40_000,
        1 => 30_000usize..3_000_000,
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let tag = || proptest::option::weighted(0.8, 1..=MAX_TAG);
    prop_oneof![
        60 => (0usize..2, bytes(), tag()).prop_map(|(heap, bytes, tag)| Op::Alloc { heap, bytes, tag }),
        20 => (any::<usize>(), bytes(), tag()).prop_map(|(of, bytes, tag)| Op::Resize { of, bytes, tag }),
        40 => any::<usize>().prop_map(|of| Op::Free { of }),
        1 => Just(Op::Clear),
    ]
}

fn run(program: Vec<Op>) {
    let range = Range::reserve(1 << 30).unwrap();
    let tags = Tags::reserve(range).unwrap();
    let mut heaps = [Heap::new(range).unwrap(), Heap::new(range).unwrap()];
    let mut live: Vec<(usize, *mut u8)> = Vec::new();
    let mut tagged: HashMap<usize, Tagged> = HashMap::new();
    let set = |tagged: &mut HashMap<usize, Tagged>, block: *mut u8, bytes: usize, tag: Option<u32>| {
        if let Some(tag) = tag {
            // SAFETY: a live block of one of the two heaps, of so many bytes.
            assert!(unsafe { tags.set(block, bytes, tag) });
            tagged.insert(block.addr(), Tagged { tag, bytes });
        }
    };
    let take = |tagged: &mut HashMap<usize, Tagged>, block: *mut u8| {
        // SAFETY: a live block of one of the two heaps.
        assert_eq!(unsafe { tags.get(block) }, tagged.get(&block.addr()).copied());
        // SAFETY: as above.
        assert_eq!(unsafe { tags.take(block) }, tagged.remove(&block.addr()));
        // SAFETY: as above.
        assert_eq!(unsafe { tags.take(block) }, None);
    };
    for op in program {
        match op {
            Op::Alloc { heap, bytes, tag } => {
                let block = heaps[heap].alloc(bytes);
                assert!(!block.is_null());
                live.push((heap, block));
                set(&mut tagged, block, bytes, tag);
            }
            Op::Resize { of, bytes, tag } if !live.is_empty() => {
                let at = of % live.len();
                let (heap, block) = live[at];
                take(&mut tagged, block);
                // SAFETY: a live block of that heap; what it became takes its place.
                let moved = unsafe { heaps[heap].realloc(block, bytes) };
                assert!(!moved.is_null());
                live[at] = (heap, moved);
                set(&mut tagged, moved, bytes, tag);
            }
            Op::Free { of } if !live.is_empty() => {
                let (heap, block) = live.swap_remove(of % live.len());
                take(&mut tagged, block);
                // SAFETY: a live block of that heap, listed no more.
                assert!(unsafe { heaps[heap].free(block) });
            }
            Op::Clear => {
                // SAFETY: no other thread uses the tags.
                unsafe { tags.clear() };
                tagged.clear();
            }
            _ => {}
        }
    }
    let mut seen = HashMap::new();
    tags.visit(|address, tag| assert_eq!(seen.insert(address, tag), None));
    assert_eq!(seen, tagged);
    drop((heaps, tags));
    // SAFETY: heaps and tags are gone.
    unsafe { range.release() };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tags_agree_with_a_map(program in vec(op(), 1..600)) {
        run(program);
    }
}

/// A pool whose class changes again and again takes chunks from its class's list, not fresh ones.
#[test]
fn chunks_are_used_again() {
    let range = Range::reserve(1 << 30).unwrap();
    let tags = Tags::reserve(range).unwrap();
    let mut heap = Heap::new(range).unwrap();
    for round in 0..2_000usize {
        let bytes = 16 + (round * 48) % 496;
        let blocks: Vec<_> = (0..2_000).map(|_| heap.alloc(bytes)).collect();
        for block in &blocks {
            // SAFETY: a live block of this heap, of so many bytes.
            assert!(unsafe { tags.set(*block, bytes, 7) }, "round {round}");
        }
        for block in blocks {
            // SAFETY: as above.
            assert_eq!(unsafe { tags.take(block) }, Some(Tagged { tag: 7, bytes }));
            // SAFETY: as above, and not used again.
            unsafe { heap.free(block) };
        }
    }
}
