//! Collections: what they find, what they leave, and what programs can do about them.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use heapkeeper::{Gc, Generation, Heap, Phase, Trace};
use support::{Dropped, Node, on_heap};

#[test]
fn rings_are_collected_and_what_is_held_is_not() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let held = dropped.ring(heap, 3);
        drop(dropped.ring(heap, 4));
        let hanging = dropped.ring(heap, 2);
        held.link(&hanging);
        drop(hanging);
        assert_eq!(heap.stats().objects, 9);
        let outcome = heap.collect(Generation::Young);
        assert_eq!((outcome.collected, outcome.unreachable()), (4, 4));
        assert_eq!(dropped.take(), [0, 1, 2, 3]);
        drop(held);
        assert_eq!(heap.collect(Generation::Young).collected, 0, "they have moved on");
        assert_eq!(heap.collect(Generation::Middle).collected, 5);
    });
}

#[test]
fn self_references_of_all_kinds() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let node = dropped.node(heap, 1);
        (0..5).for_each(|_| node.link(&node));
        assert_eq!(Gc::refcount(&node), 6);
        drop(node);
        assert_eq!(heap.collect(Generation::Old).collected, 1);
    });
}

#[test]
fn generations_and_freezing() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let node = dropped.ring(heap, 1);
        for generation in [Generation::Young, Generation::Middle, Generation::Old, Generation::Old] {
            assert_eq!(Gc::generation(&node), Some(generation));
            assert_eq!(heap.objects(Some(generation)).len(), 1);
            heap.check().unwrap();
            heap.collect(generation);
        }
        assert!(heap.freeze());
        assert_eq!(Gc::generation(&node), Some(Generation::Permanent));
        let young = dropped.ring(heap, 1);
        assert_eq!(heap.stats().tracked, [1, 0, 0, 1]);
        drop((node, young));
        assert_eq!(heap.collect(Generation::Old).collected, 1);
        assert!(heap.unfreeze());
        assert_eq!(heap.stats().tracked, [0, 0, 1, 0]);
        assert_eq!(heap.collect(Generation::Old).collected, 1);
    });
}

/// Blocks of 48 bytes start at multiples of 16, not of 32.
#[test]
fn objects_of_every_size_are_found_by_young_collections() {
    fn ring<const N: usize>(heap: &Heap) {
        #[derive(Trace)]
        struct Sized<const N: usize>(RefCell<Option<Gc<Sized<N>>>>, [u8; N]);
        for _ in 0..100 {
            let object = heap.alloc(Sized(RefCell::new(None), [0; N]));
            *object.0.borrow_mut() = Some(object.clone());
            assert_eq!(object.1.len(), N);
        }
        heap.check().unwrap();
    }
    on_heap(|heap| {
        for generation in [Generation::Young, Generation::Middle] {
            let rings = [ring::<0>, ring::<1>, ring::<17>, ring::<33>, ring::<49>, ring::<999>, ring::<40_000>];
            rings.iter().for_each(|ring| ring(heap));
            if generation == Generation::Middle {
                let held: Vec<_> = heap.objects(None);
                heap.collect(Generation::Young);
                heap.check().unwrap();
                drop(held);
            }
            assert_eq!(heap.collect(generation).collected, 700);
        }
    });
}

#[derive(Trace)]
struct Leaf {
    _name: String,
    _parts: Vec<Option<(u8, Box<[f64]>)>>,
}

#[derive(Trace)]
enum Nested {
    _Leaf(Leaf),
    Itself(Vec<Nested>),
}

#[test]
fn what_can_hold_no_handle_is_not_tracked() {
    on_heap(|heap| {
        let leaf = heap.alloc(Leaf { _name: "a".into(), _parts: vec![None] });
        assert!(!Gc::is_tracked(&leaf) && Gc::generation(&leaf).is_none());
        assert!(!Gc::is_tracked(&heap.alloc((leaf.clone().refs(), RefCell::new(0u8)))));
        // Whether a type that contains itself does: it is taken for one that might.
        assert!(Gc::is_tracked(&heap.alloc(Nested::Itself(vec![]))));
        assert!(Gc::is_tracked(&heap.alloc(RefCell::new(Some(leaf)))));
        assert_eq!(heap.objects(None).len(), 0);
    });
}

impl Leaf {
    fn refs(&self) -> usize {
        self._parts.len()
    }
}

/// Every container and cell of the standard library that has an implementation.
#[test]
fn handles_in_every_container_are_found() {
    use std::borrow::Cow;
    use std::cell::OnceCell;
    use std::cmp::Reverse;
    use std::collections::*;

    #[derive(Trace, Default)]
    struct Holder {
        slot: RefCell<Vec<Box<dyn Any>>>,
        key: u8,
    }
    trait Any: Trace {}
    impl<T: Trace> Any for T {}
    heapkeeper::trace_dyn!(dyn Any);

    impl PartialEq for Holder {
        fn eq(&self, other: &Self) -> bool {
            self.key == other.key
        }
    }
    impl Eq for Holder {}
    impl PartialOrd for Holder {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Holder {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.key.cmp(&other.key)
        }
    }
    impl std::hash::Hash for Holder {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.key.hash(state);
        }
    }

    type Handle = Gc<Holder>;
    let containers: Vec<fn(Handle) -> Box<dyn Any>> = vec![
        |h| Box::new(h),
        |h| Box::new(heapkeeper::AnyGc::from(h)),
        |h| Box::new(Some(h)),
        |h| Box::new(Ok::<_, ()>(h)),
        |h| Box::new(Err::<(), _>(h)),
        |h| Box::new((1, "a", h)),
        |h| Box::new([h]),
        |h| Box::new(vec![h]),
        |h| Box::new(vec![h].into_boxed_slice()),
        |h| Box::new(Box::pin(h)),
        |h| Box::new(VecDeque::from([h])),
        |h| Box::new(LinkedList::from([h])),
        |h| Box::new(BinaryHeap::from([h])),
        |h| Box::new(BTreeSet::from([h])),
        |h| Box::new(HashSet::from([h])),
        |h| Box::new(BTreeMap::from([(h, 1)])),
        |h| Box::new(BTreeMap::from([(1, h)])),
        |h| Box::new(HashMap::from([(h, 1)])),
        |h| Box::new(HashMap::from([(1, h)])),
        |h| Box::new(Cell::new(Some(h))),
        |h| Box::new(RefCell::new(h)),
        |h| Box::new(OnceCell::from(h)),
        |h| Box::new(Reverse(h)),
        |h| Box::new(Cow::<'static, [Handle]>::Owned(vec![h])),
        |h| Box::new(h.clone()..h),
    ];
    on_heap(|heap| {
        let count = containers.len();
        for container in &containers {
            let holder = heap.alloc(Holder::default());
            let contained = container(holder.clone());
            holder.slot.borrow_mut().push(contained);
            assert_eq!(heap.verify(), []);
        }
        assert_eq!(heap.collect(Generation::Old).collected, count);
    });
}

#[test]
fn a_borrowed_cell_keeps_what_it_leads_to() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let root = dropped.node(heap, 9);
        root.link(&dropped.ring(heap, 3));
        {
            let mut edges = root.edges.borrow_mut();
            assert_eq!(heap.collect(Generation::Old).collected, 0);
            // Everything is there and can be used.
            assert_eq!(edges[0].edges.borrow()[0].name, 1);
            edges.clear();
            assert_eq!(heap.collect(Generation::Old).collected, 3);
        }
        // Trash with a borrow that was leaked survives.
        let lost = dropped.ring(heap, 2);
        std::mem::forget(lost.edges.borrow_mut());
        let weak = Gc::downgrade(&lost);
        drop(lost);
        assert_eq!(heap.collect(Generation::Old).collected, 0);
        let lost = weak.upgrade().unwrap();
        // SAFETY: the only borrow was leaked.
        unsafe { (*lost.edges.as_ptr()).clear() };
    });
}

#[test]
fn a_shared_borrow_changes_nothing() {
    on_heap(|heap| {
        let dropped = Dropped::default();
        let ring = dropped.ring(heap, 3);
        std::mem::forget(ring.edges.borrow());
        drop(ring);
        assert_eq!(heap.collect(Generation::Old).collected, 3);
    });
}

#[test]
fn collections_start_by_themselves() {
    let heap = Heap::new();
    assert_eq!((heap.thresholds(), heap.is_enabled()), ([700, 10, 10], true));
    let dropped = Dropped::default();
    for _ in 0..2000 {
        drop(dropped.ring(&heap, 2));
    }
    assert!(heap.stats().objects <= 702);
    let seen = heap.stats().collections;
    assert!(seen.of(Generation::Young).collections >= 5, "{seen:?}");

    heap.collect(Generation::Old);
    let collections = |heap: &Heap| heap.stats().collections.pauses.count();
    let before = collections(&heap);
    let quiet = |heap: &Heap| (0..1000).for_each(|_| drop(dropped.ring(heap, 2)));
    {
        let _outer = heap.paused();
        drop(heap.paused());
        quiet(&heap);
    }
    heap.disable();
    quiet(&heap);
    assert_eq!(collections(&heap), before);
    heap.enable();
    heap.set_thresholds([0, 0, 0]);
    quiet(&heap);
    assert_eq!((collections(&heap), heap.stats().objects), (before, 6000));
    heap.set_thresholds([10, 2, 2]);
    quiet(&heap);
    assert!(heap.stats().objects <= 12);
    assert!(heap.stats().collections.of(Generation::Old).collections > 1);
}

#[test]
fn a_builder_takes_thresholds_and_growth() {
    let heap = Heap::builder().thresholds([5, 1, 1]).growth_percent(None).build().unwrap();
    assert_eq!(heap.thresholds(), [5, 1, 1]);
    let kept: Vec<_> = (0..7).map(|_| heap.alloc(RefCell::new(None::<Gc<u8>>))).collect();
    assert_eq!(Gc::generation(&kept[0]), Some(Generation::Middle));
    assert_eq!(Gc::generation(&kept[6]), Some(Generation::Young));
}

#[test]
fn callbacks_are_told_of_collections() {
    let heap = Heap::new();
    heap.disable();
    let log = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&log);
    let id = heap.on_collection(move |info| seen.borrow_mut().push(*info));
    drop(Dropped::default().ring(&heap, 3));
    heap.collect(Generation::Young);
    {
        let log = log.borrow();
        assert_eq!(log.len(), 2);
        assert_eq!((log[0].phase, log[0].generation, log[0].outcome.collected), (Phase::Start, Generation::Young, 0));
        assert_eq!((log[1].phase, log[1].outcome.collected), (Phase::Stop, 3));
    }
    assert!(heap.remove_callback(id) && !heap.remove_callback(id));
    heap.collect(Generation::Old);
    assert_eq!(log.borrow().len(), 2);
}

/// A callback that allocates, collects, adds and removes callbacks.
#[test]
fn callbacks_may_do_anything() {
    let heap = Rc::new(Heap::new());
    let calls = Rc::new(Cell::new(0));
    let (weak, seen) = (Rc::downgrade(&heap), Rc::clone(&calls));
    let own_id = Rc::new(Cell::new(None));
    let own = Rc::clone(&own_id);
    own_id.set(Some(heap.on_collection(move |info| {
        let Some(heap) = weak.upgrade() else { return };
        seen.set(seen.get() + 1);
        assert_eq!(heap.is_collecting(), info.phase == Phase::Start);
        for _ in 0..100 {
            drop(Dropped::default().ring(&heap, 20));
        }
        heap.collect(Generation::Old);
        if seen.get() > 3 {
            heap.remove_callback(own.take().unwrap());
        }
        heap.on_collection(|_| ());
    })));
    heap.collect(Generation::Old);
    heap.collect(Generation::Old);
    assert_eq!(calls.get(), 4);
    heap.collect(Generation::Old);
    assert_eq!(heap.stats().objects, 0);
}

#[test]
fn dropping_the_heap_collects_what_is_left() {
    let dropped = Dropped::default();
    let heap = Heap::new();
    heap.disable();
    let ring = dropped.ring(&heap, 3);
    heap.freeze();
    let again = heap.clone();
    assert!(heap == again);
    drop(ring);
    drop(heap);
    assert_eq!(dropped.take(), []);
    drop(again);
    assert_eq!(dropped.take(), [0, 1, 2]);
}

#[test]
fn handles_outlive_their_heap() {
    let dropped = Dropped::default();
    let heap = Heap::new();
    let number = heap.alloc(5u64);
    let ring = dropped.ring(&heap, 3);
    drop(heap);
    assert_eq!((*number, ring.edges.borrow()[0].name), (5, 1));
    // The ring keeps the heap's memory; its heap can be had back.
    let heap = Gc::heap(&ring);
    assert_eq!(heap.stats().objects, 4);
    drop((ring, number));
    drop(heap);
    assert_eq!(dropped.take(), [0, 1, 2]);

    let heap = Heap::new();
    let list: Vec<_> = (0..1000).map(|name| dropped.node(&heap, name)).collect();
    list.windows(2).for_each(|pair| pair[0].link(&pair[1]));
    let first = list[0].clone();
    drop((list, heap));
    drop(first);
    assert_eq!(dropped.take().len(), 1000);
}

/// Headers have room for so many young collections before generations are told by other numbers; in debug builds for nine.
#[test]
fn generations_outlast_the_numbers_of_collections() {
    const COLLECTIONS: usize = if cfg!(debug_assertions) { 60 } else { 3_000 };
    on_heap(|heap| {
        let dropped = Dropped::default();
        let frozen = dropped.ring(heap, 3);
        heap.freeze();
        let old = dropped.ring(heap, 3);
        heap.collect(Generation::Middle);
        let mut middle = dropped.ring(heap, 2);
        heap.collect(Generation::Young);
        let generations = |ring: &Gc<Node>| {
            let next = ring.edges.borrow()[0].clone();
            assert_eq!(Gc::generation(ring), Gc::generation(&next));
            Gc::generation(ring).unwrap()
        };
        for i in 0..COLLECTIONS {
            let young = dropped.ring(heap, 2);
            assert_eq!(generations(&young), Generation::Young);
            assert_eq!(generations(&middle), Generation::Middle, "after {i} collections");
            assert_eq!(generations(&old), Generation::Old);
            assert_eq!(generations(&frozen), Generation::Permanent);
            // Each time a ring has come to generation 2, and was let go.
            assert_eq!(heap.stats().tracked, [2, 2, 3 + 2 * i, 3]);
            if i % 7 == 0 {
                heap.check().unwrap();
            }
            drop(std::mem::replace(&mut middle, young));
            // What made way is garbage of generation 1.
            assert_eq!(heap.collect(Generation::Young).collected, 0);
            assert_eq!(heap.collect(Generation::Middle).collected, 2);
            middle = dropped.ring(heap, 2);
            heap.collect(Generation::Young);
        }
        heap.unfreeze();
        assert_eq!(generations(&frozen), Generation::Old);
    });
}

/// A young collection starts from what lost a handle, and finds what hangs together with it.
#[test]
fn young_collections_follow_suspects() {
    #[derive(Trace)]
    struct Link(RefCell<Option<Gc<Link>>>);
    on_heap(|heap| {
        let links = |length: usize, last: Option<Gc<Link>>| {
            (0..length).fold(last, |next, _| Some(heap.alloc(Link(RefCell::new(next)))))
        };
        let candidates = |heap: &Heap| heap.stats().collections.of(Generation::Young).candidates;
        // Held, and built by moving: nobody's suspect.
        let (held, before) = (links(500, None), candidates(heap));
        let end = heap.alloc(Link(RefCell::new(None)));
        let first = links(100, Some(end.clone())).unwrap();
        *end.0.borrow_mut() = Some(first);
        drop(end);
        assert_eq!(heap.collect(Generation::Young).collected, 101);
        assert_eq!(candidates(heap) - before, 101);
        assert_eq!(heap.stats().tracked, [0, 500, 0, 0]);
        // From the young to the old and back is not followed.
        let old = held.unwrap();
        let young = heap.alloc(Link(RefCell::new(Some(old.clone()))));
        drop(young.clone());
        let before = candidates(heap);
        assert_eq!(heap.collect(Generation::Young).collected, 0);
        assert_eq!(candidates(heap) - before, 1);
    });
}

/// Collections whose candidates cannot hold a garbage cycle: no count fell without falling to 0.
mod suspects {
    use super::*;
    use heapkeeper::Finalize;

    fn unneeded(heap: &Heap) -> [u64; 3] {
        heap.stats().collections.generations.map(|generation| generation.unneeded)
    }

    #[test]
    fn what_is_built_by_moving_needs_no_pass() {
        #[derive(Trace)]
        struct Link(RefCell<Option<Gc<Link>>>);
        let heap = Heap::builder().thresholds([100, 5, 3]).build().unwrap();
        let mut list = None;
        for _ in 0..100_000 {
            list = Some(heap.alloc(Link(RefCell::new(list))));
        }
        let stats = heap.stats();
        let all = stats.collections.generations.map(|generation| generation.collections);
        assert_eq!((unneeded(&heap), stats.tracked.iter().sum::<usize>()), (all, 100_000));
        assert!(all[0] > 500 && all[1] > 80 && all[2] > 3, "{all:?}");
        heap.check().unwrap();
        // From here on there is a suspect, and no doubt about it after the next full collection.
        let first = list.clone().unwrap();
        drop(list);
        heap.collect(Generation::Old);
        assert_eq!(unneeded(&heap)[2], all[2]);
        heap.collect(Generation::Old);
        assert_eq!(unneeded(&heap)[2], all[2] + 1);
        // The ring's last handle from outside goes long after that.
        let mut last = first.clone();
        for _ in 0..10 {
            let next = last.0.borrow().clone().unwrap();
            last = next;
        }
        *last.0.borrow_mut() = Some(first.clone());
        drop(last);
        heap.collect(Generation::Old);
        heap.collect(Generation::Old);
        drop(first);
        assert_eq!(heap.collect(Generation::Old).collected, 11);
    }

    #[test]
    fn garbage_that_frozen_objects_are_part_of() {
        on_heap(|heap| {
            let dropped = Dropped::default();
            let (frozen, free) = {
                let frozen = dropped.node(heap, 1);
                heap.freeze();
                let free = dropped.node(heap, 2);
                (frozen, free)
            };
            frozen.link(&free);
            free.edges.borrow_mut().push(frozen);
            drop(free);
            // Found in order, since something frozen holds it.
            assert_eq!(heap.collect(Generation::Old).collected, 0);
            assert_eq!(heap.collect(Generation::Old).collected, 0);
            heap.unfreeze();
            assert_eq!(heap.collect(Generation::Old).collected, 2);
        });
    }

    #[test]
    fn garbage_of_several_generations() {
        on_heap(|heap| {
            let dropped = Dropped::default();
            let old = dropped.node(heap, 1);
            heap.collect(Generation::Old);
            heap.collect(Generation::Old);
            let young = dropped.node(heap, 2);
            old.link(&young);
            young.edges.borrow_mut().push(old);
            drop(young);
            // Only the young one's count fell, and the old one holds it.
            for generation in [Generation::Young, Generation::Middle] {
                assert_eq!(heap.collect(generation).collected, 0);
            }
            assert_eq!(heap.collect(Generation::Old).collected, 2);
        });
    }

    #[derive(Trace)]
    #[trace(finalize)]
    struct Selfish(RefCell<Option<Gc<Selfish>>>);
    impl Finalize for Selfish {
        fn finalize(this: &Gc<Selfish>) {
            *this.0.borrow_mut() = Some(this.clone());
        }
    }

    #[test]
    fn a_finalizer_that_makes_its_object_hold_itself() {
        on_heap(|heap| {
            drop(heap.alloc(Selfish(RefCell::default())));
            assert_eq!(heap.stats().objects, 1);
            assert_eq!(heap.collect(Generation::Young).collected, 1);
        });
    }

    #[test]
    fn code_that_runs_in_a_collection_makes_suspects() {
        on_heap(|heap| {
            let dropped = Dropped::default();
            let kept = dropped.ring(heap, 3);
            // A finalizer that breaks its own cycle, and lets go of another, which is taken for alive by then.
            thread_local!(static LAST: RefCell<Option<Gc<support::Node>>> = const { RefCell::new(None) });
            #[derive(Trace)]
            #[trace(finalize)]
            struct Lets(RefCell<Option<Gc<Lets>>>);
            impl Finalize for Lets {
                fn finalize(this: &Gc<Lets>) {
                    LAST.take();
                    this.0.take();
                }
            }
            heap.collect(Generation::Old);
            heap.collect(Generation::Old);
            LAST.set(Some(kept));
            let lets = heap.alloc(Lets(RefCell::default()));
            *lets.0.borrow_mut() = Some(lets.clone());
            drop(lets);
            assert_eq!(heap.collect(Generation::Old).collected, 0);
            assert_eq!(heap.collect(Generation::Old).collected, 3);
        });
    }
}
