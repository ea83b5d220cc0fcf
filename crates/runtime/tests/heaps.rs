//! Heaps apart: several at once, handles of another, limits, places.

mod support;

use std::cell::RefCell;

use heapkeeper::{AnyGc, Gc, Generation, Heap, Trace};
use support::{Dropped, on_heap};

#[test]
fn a_handle_of_another_heap_is_an_error() {
    on_heap(|heap| {
        let other = Heap::new();
        let node = Dropped::default().node(&other, 1);
        assert!(Gc::heap(&node) == other && *heap != other);
        let error = heap.where_is(&node).unwrap_err();
        assert!(error.type_name.ends_with("Node") && error.to_string().contains("another heap"));
        assert_eq!(heap.referrers(&node).unwrap_err(), error);
        assert_eq!(heap.referents(&node).unwrap_err(), error);
        assert!(other.where_is(&node).is_ok());
    });
}

/// Objects may refer to those of another heap of their thread. A cycle across heaps is kept, by both.
#[test]
fn references_across_heaps_keep_and_free_but_are_not_collected() {
    on_heap(|left| {
        on_heap(|right| {
            let dropped = Dropped::default();
            let (a, b) = (dropped.node(left, 1), dropped.node(right, 2));
            a.link(&b);
            drop(b);
            right.collect(Generation::Old);
            assert_eq!(a.edges.borrow()[0].name, 2);
            assert_eq!(left.referents(&a).unwrap()[0].type_name(), std::any::type_name::<support::Node>());
            assert_eq!((left.verify(), right.verify()), (vec![], vec![]));
            drop(a);
            assert_eq!(dropped.take(), [1, 2]);

            let (a, b) = (dropped.node(left, 3), dropped.node(right, 4));
            a.link(&b);
            b.link(&a);
            a.link(&a);
            let weak = Gc::downgrade(&a);
            drop((a, b));
            for generation in [Generation::Young, Generation::Middle, Generation::Old] {
                assert_eq!(left.collect(generation).collected + right.collect(generation).collected, 0);
            }
            left.check().unwrap();
            right.check().unwrap();
            weak.upgrade().unwrap().edges.borrow_mut().clear();
            assert_eq!(dropped.take(), [4, 3]);
        });
    });
}

/// The block of the object that went last is the next one's. To all who ask it is free.
#[test]
fn a_spare_block_is_no_object() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let kept = dropped.node(heap, 0);
        // The sanitizer's freed blocks stay allocated.
        let live =
            |heap: &Heap| (heap.stats().objects, if cfg!(heapkeeper_asan) { 0 } else { heap.stats().live_bytes });
        let (before, counts) = (live(heap), heap.stats().counts);
        let place = Gc::as_ptr(&dropped.node(heap, 1));
        assert_eq!((live(heap), heap.stats().counts), (before, counts));
        assert_eq!((heap.objects(None).len(), heap.verify()), (1, vec![]));
        heap.check().unwrap();
        let next = Gc::as_ptr(&dropped.node(heap, 2));
        assert!(next == place || cfg!(heapkeeper_asan));
        for generation in [Generation::Young, Generation::Old] {
            let _ = dropped.node(heap, 3);
            assert_eq!(heap.collect(generation).unreachable(), 0);
        }
        heap.trim();
        assert_eq!(live(heap), before);
        heap.check().unwrap();
        drop(kept);
        assert_eq!(dropped.take(), [1, 2, 3, 3, 0]);
    });
}

/// Objects of generation 0 that go lower its count, also those that went through a collection's callbacks; the count never
/// falls below 0, and settings leave it alone.
#[test]
fn counts_of_the_young() {
    on_heap(|heap| {
        heap.collect(Generation::Old);
        let young = |heap: &Heap| (heap.stats().counts[0], heap.stats().tracked[0]);
        let dropped = Dropped::default();
        let nodes: Vec<_> = (0..5).map(|i| dropped.node(heap, i)).collect();
        assert_eq!(young(heap), (5, 5));
        heap.disable();
        heap.set_thresholds([3, 1, 1]);
        assert_eq!(young(heap), (5, 5));
        drop(dropped.node(heap, 5));
        assert_eq!(young(heap), (5, 5));
        heap.collect(Generation::Young);
        assert_eq!(young(heap), (0, 0));
        let newer = dropped.node(heap, 6);
        heap.enable();
        assert_eq!(young(heap), (1, 1));
        drop(nodes);
        assert_eq!(young(heap), (0, 1));
        let newest = dropped.node(heap, 7);
        assert_eq!(young(heap), (1, 2));
        drop(newer);
        drop(newest);
        assert_eq!(young(heap), (0, 0));
        heap.check().unwrap();
    });
}

#[test]
fn drops_that_go_back_and_forth_between_heaps() {
    on_heap(|left| {
        on_heap(|right| {
            let dropped = Dropped::default();
            let mut last = dropped.node(left, 0);
            for name in 1..10_000 {
                let next = dropped.node(if name % 2 == 0 { left } else { right }, name);
                next.link(&last);
                last = next;
            }
            drop(last);
            assert_eq!(dropped.take().len(), 10_000);
        });
    });
}

#[test]
fn heaps_of_many_threads() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..20 {
                    on_heap(|heap| {
                        let dropped = Dropped::default();
                        (0..500).for_each(|i| drop(dropped.ring(heap, i % 7 + 1)));
                        heap.collect(Generation::Young);
                    });
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn many_heaps_at_once() {
    let heaps: Vec<_> = (0..60).map(|_| Heap::builder().limit(8 << 20).build().unwrap()).collect();
    let objects: Vec<_> = heaps.iter().zip(0u64..).map(|(heap, i)| heap.alloc(i)).collect();
    assert!(objects.iter().zip(0..).all(|(object, i)| **object == i));
    assert!(objects.iter().zip(&heaps).all(|(object, heap)| Gc::heap(object) == *heap));
}

#[test]
#[cfg_attr(heapkeeper_asan, ignore = "freed blocks are kept there, so that memory does not come back")]
fn at_the_limit_the_value_comes_back() {
    let heap = Heap::builder().limit(4 << 20).build().unwrap();
    heap.disable();
    assert_eq!(heap.stats().limit_bytes, 4 << 20);
    let mut kept = Vec::new();
    let refused = loop {
        match heap.try_alloc(RefCell::new([kept.len() as u64; 125])) {
            Ok(object) => kept.push(object),
            Err(refused) => break refused,
        }
    };
    assert!(kept.len() > 3000, "{}", kept.len());
    assert_eq!((refused.value.borrow()[0], refused.bytes), (kept.len() as u64, 1024));
    assert!(refused.to_string().contains("1024 bytes") && heap.stats().held_bytes <= 4 << 20);
    // There is room again when something goes.
    kept.truncate(kept.len() / 2);
    assert!(heap.try_alloc([0u64; 125]).is_ok());
    drop(kept);
    // What only cycles hold is collected before anything is refused, although collections are disabled.
    let dropped = Dropped::default();
    for _ in 0..200_000 {
        drop(dropped.ring(&heap, 1));
    }
    assert!(heap.stats().collections.of(Generation::Old).collections >= 2);
    heap.check().unwrap();
    // Larger than the limit.
    let small = Heap::builder().limit(256 << 10).build().unwrap();
    assert!(small.try_alloc(1).is_ok() && small.try_alloc([0u8; 300 << 10]).is_err());
}

#[test]
#[should_panic(expected = "no memory for")]
fn alloc_panics_at_the_limit() {
    let heap = Heap::builder().limit(1 << 20).build().unwrap();
    let _all: Vec<_> = (0..100_000).map(|i| heap.alloc([i; 100])).collect();
}

/// A limit that is reached inside a finalizer, where no collection can help.
#[test]
fn out_of_memory_inside_a_collection() {
    let heap = Heap::builder().limit(2 << 20).build().unwrap();
    heap.disable();
    thread_local!(static REFUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    #[derive(Trace)]
    #[trace(finalize)]
    struct Greedy(RefCell<Option<Gc<Greedy>>>);
    impl heapkeeper::Finalize for Greedy {
        fn finalize(this: &Gc<Greedy>) {
            let heap = Gc::heap(this);
            let mut all = Vec::new();
            while let Ok(object) = heap.try_alloc([0u64; 500]) {
                all.push(object);
            }
            REFUSED.set(true);
        }
    }
    let greedy = heap.alloc(Greedy(RefCell::default()));
    *greedy.0.borrow_mut() = Some(greedy.clone());
    drop(greedy);
    assert_eq!(heap.collect(Generation::Old).collected, 1);
    assert!(REFUSED.get() && heap.stats().objects == 0);
}

#[test]
fn where_objects_are() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let (a, b) = (dropped.node(heap, 1), dropped.node(heap, 2));
        let (at, next) = (heap.where_is(&a).unwrap(), heap.where_is(&b).unwrap());
        assert_eq!(at.object_bytes, 16 + size_of::<support::Node>());
        assert_eq!(at.block_bytes, at.object_bytes.next_multiple_of(16));
        assert_eq!((at.size_class, at.generation), (Some(at.block_bytes / 16 - 1), Some(Generation::Young)));
        assert_eq!((next.arena, next.pool, next.block), (at.arena, at.pool, at.block + 1));
        assert_eq!((at.refcount, at.weak_references), (1, 0));
        assert_eq!(at.address + 16, Gc::as_ptr(&a).addr());
        assert_eq!(format!("{a:p}"), format!("{:p}", Gc::as_ptr(&a)));
    });
}

#[test]
fn referrers_and_referents() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let nodes = [1, 2, 3].map(|name| dropped.node(heap, name));
        nodes[0].link(&nodes[2]);
        nodes[1].link(&nodes[2]);
        nodes[1].link(&nodes[2]);
        let names = |found: Vec<AnyGc>| {
            let mut names: Vec<u32> =
                found.iter().map(|object| object.downcast::<support::Node>().unwrap().name).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(heap.referrers(&nodes[2]).unwrap()), [1, 2]);
        assert_eq!(names(heap.referents(&nodes[1]).unwrap()), [3, 3]);
        assert_eq!(names(heap.objects(None)), [1, 2, 3]);
        assert_eq!(names(heap.objects(Some(Generation::Old))), []);
    });
}

#[test]
#[cfg_attr(heapkeeper_asan, ignore = "freed blocks are kept there, so that memory does not come back")]
fn memory_goes_back() {
    on_heap(|heap| {
        let kept: Vec<_> = (0..100_000u64).map(|i| heap.alloc([i; 8])).collect();
        let held = heap.stats().held_bytes;
        assert!(held > 100_000 * 80);
        drop(kept);
        heap.trim();
        assert!(heap.stats().held_bytes < held / 100);
    });
}
