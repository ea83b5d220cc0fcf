//! Finalizers: once, before anything is dropped, and free to do what they like.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use heapkeeper::{Finalize, Gc, Generation, Heap, Trace};
use support::on_heap;

type Action = Rc<dyn Fn(&Gc<Thing>)>;

/// Does what it is told when it is finalized.
#[derive(Trace)]
#[trace(finalize)]
struct Thing {
    name: u32,
    to: RefCell<Vec<Gc<Thing>>>,
    #[trace(skip)]
    action: Action,
}

impl Finalize for Thing {
    fn finalize(this: &Gc<Thing>) {
        (this.action)(this);
    }
}

fn thing(heap: &Heap, name: u32, action: impl Fn(&Gc<Thing>) + 'static) -> Gc<Thing> {
    heap.alloc(Thing { name, to: RefCell::default(), action: Rc::new(action) })
}

/// A ring of so many with the same action.
fn ring(heap: &Heap, length: u32, action: impl Fn(&Gc<Thing>) + 'static) -> Gc<Thing> {
    let action: Action = Rc::new(action);
    let all: Vec<_> =
        (0..length).map(|name| heap.alloc(Thing { name, to: RefCell::default(), action: action.clone() })).collect();
    (0..all.len()).for_each(|i| all[i].to.borrow_mut().push(all[(i + 1) % all.len()].clone()));
    all[0].clone()
}

#[test]
fn once_at_zero_and_once_in_a_collection() {
    on_heap(|heap| {
        let runs = Rc::new(Cell::new(0));
        let count = runs.clone();
        drop(thing(heap, 1, move |this| {
            assert_eq!(Gc::refcount(this), 1);
            count.set(count.get() + 1);
        }));
        assert_eq!(runs.take(), 1);
        let count = runs.clone();
        drop(ring(heap, 3, move |this| {
            // Whole, with all that it refers to.
            assert_eq!(this.to.borrow()[0].name, (this.name + 1) % 3);
            count.set(count.get() + 1);
        }));
        assert_eq!(heap.collect(Generation::Old).collected, 3);
        assert_eq!(runs.get(), 3);
    });
}

#[test]
fn resurrection_happens_once() {
    on_heap(|heap| {
        let kept: Rc<RefCell<Vec<Gc<Thing>>>> = Rc::default();
        let keep = kept.clone();
        drop(thing(heap, 4, move |this| keep.borrow_mut().push(this.clone())));
        assert_eq!((kept.borrow().len(), kept.borrow()[0].name), (1, 4));
        assert!(Gc::is_tracked(&kept.borrow()[0]));
        kept.borrow_mut().clear();
        assert_eq!(heap.stats().objects, 0);

        let keep = kept.clone();
        drop(ring(heap, 4, move |this| {
            if this.name == 2 {
                keep.borrow_mut().push(this.clone());
            }
        }));
        let outcome = heap.collect(Generation::Young);
        assert_eq!((outcome.collected, outcome.resurrected), (0, 4), "and all that it leads to");
        assert_eq!(Gc::generation(&kept.borrow()[0]), Some(Generation::Middle));
        kept.borrow_mut().clear();
        let outcome = heap.collect(Generation::Old);
        assert_eq!((outcome.collected, outcome.resurrected), (4, 0));
    });
}

#[test]
fn a_finalizer_may_break_the_cycle_itself() {
    on_heap(|heap| {
        drop(ring(heap, 50, |this| this.to.borrow_mut().clear()));
        heap.collect(Generation::Old);
        assert_eq!(heap.stats().objects, 0);
    });
}

#[test]
fn a_finalizer_may_allocate_and_collect() {
    on_heap(|heap| {
        let made: Rc<RefCell<Vec<Gc<Thing>>>> = Rc::default();
        let results = made.clone();
        drop(ring(heap, 5, move |this| {
            let heap = Gc::heap(this);
            assert!(heap.is_collecting());
            // Nothing happens inside a collection.
            assert_eq!(heap.collect(Generation::Old).unreachable(), 0);
            assert!(!heap.freeze() && !heap.unfreeze());
            let new = thing(&heap, 100 + this.name, |_| ());
            new.to.borrow_mut().push(new.clone());
            (0..2000).for_each(|i| drop(thing(&heap, i, |_| ())));
            results.borrow_mut().push(new);
            this.to.borrow_mut().push(results.borrow()[0].clone());
        }));
        let outcome = heap.collect(Generation::Old);
        assert_eq!((outcome.collected, outcome.resurrected), (5, 0));
        assert_eq!(made.borrow().iter().map(|new| new.name).sum::<u32>(), 510);
        made.take();
        assert_eq!(heap.collect(Generation::Old).collected, 5);
        // At zero a collection may run inside: the object lives meanwhile.
        drop(thing(heap, 0, |this| {
            let heap = Gc::heap(this);
            drop(ring(&heap, 3, |_| ()));
            assert_eq!(heap.collect(Generation::Old).collected, 3);
        }));
    });
}

/// Chains deeper than what is freed at once: each finalizer runs, and each may keep its object.
#[test]
fn finalizers_of_a_long_list() {
    on_heap(|heap| {
        let kept: Rc<RefCell<Vec<Gc<Thing>>>> = Rc::default();
        let keep = kept.clone();
        let action: Action = Rc::new(move |this| {
            if this.name % 1000 == 0 {
                keep.borrow_mut().push(this.clone());
            }
        });
        let mut list = Vec::new();
        for name in 0..10_000 {
            let to = RefCell::new(list);
            list = vec![heap.alloc(Thing { name, to, action: action.clone() })];
        }
        let count = || heap.stats().objects;
        drop(list);
        // The first one met that resurrects keeps all that hang from it.
        assert_eq!((kept.borrow().len(), kept.borrow()[0].name, count()), (1, 9000, 9001));
        heap.check().unwrap();
        assert!(Gc::is_tracked(&kept.borrow()[0]));
        let mut left = 9;
        while left > 0 {
            let held = kept.borrow_mut().pop();
            drop(held);
            left -= 1;
            assert_eq!(kept.borrow()[0].name, left * 1000);
        }
        kept.take();
        assert_eq!(count(), 0);
    });
}

/// The ends of frozen lists. One that waits to be freed is resurrected as a young object, the others are frozen still.
#[test]
fn finalizers_may_resurrect_what_was_frozen() {
    on_heap(|heap| {
        let kept: Rc<RefCell<Vec<Gc<Thing>>>> = Rc::default();
        let keep = kept.clone();
        let action: Action = Rc::new(move |this| {
            if this.name == 0 {
                keep.borrow_mut().push(this.clone());
            }
        });
        let list_of = |length| {
            (0..length).fold(Vec::new(), |list, name| {
                vec![heap.alloc(Thing { name, to: RefCell::new(list), action: action.clone() })]
            })
        };
        let lists: Vec<_> = (40..60).map(list_of).collect();
        assert!(heap.freeze());
        drop(lists);
        heap.check().unwrap();
        let [young, .., frozen] = heap.stats().tracked;
        assert_eq!((young > 0, young + frozen), (true, 20));
        for generation in [Generation::Young, Generation::Middle, Generation::Old] {
            heap.collect(generation);
            heap.check().unwrap();
        }
        assert_eq!(heap.stats().tracked, [0, 0, young, frozen]);
        for end in kept.take() {
            end.to.borrow_mut().push(end.clone());
        }
        assert_eq!(heap.collect(Generation::Old).collected, young);
        heap.unfreeze();
        assert_eq!(heap.collect(Generation::Old).collected, frozen);
    });
}

#[test]
fn leaves_have_finalizers_too() {
    thread_local!(static RUNS: Cell<u32> = const { Cell::new(0) });
    #[derive(Trace)]
    #[trace(finalize)]
    struct Leaf(u8);
    impl Finalize for Leaf {
        fn finalize(this: &Gc<Leaf>) {
            RUNS.set(RUNS.get() + u32::from(this.0));
        }
    }
    on_heap(|heap| {
        let leaf = heap.alloc(Leaf(3));
        assert!(!Gc::is_tracked(&leaf));
        drop(leaf);
        assert_eq!(RUNS.get(), 3);
    });
}

/// Objects that a finalizer looks up without a handle to them.
#[test]
fn a_finalizer_may_resurrect_what_it_finds() {
    on_heap(|heap| {
        let kept: Rc<RefCell<Vec<_>>> = Rc::default();
        let keep = kept.clone();
        drop(ring(heap, 3, move |this| {
            if this.name == 0 {
                *keep.borrow_mut() = Gc::heap(this).objects(None);
            }
        }));
        assert_eq!(heap.collect(Generation::Old).resurrected, 3);
        kept.take();
        assert_eq!(heap.collect(Generation::Old).collected, 3);
    });
}
