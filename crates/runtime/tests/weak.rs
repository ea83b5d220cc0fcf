//! Weak references and their callbacks, in every phase of an object's end.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use heapkeeper::{Finalize, Gc, Generation, Heap, Trace, Weak};
use support::{Dropped, Node, on_heap};

#[test]
fn a_weak_reference_is_empty_once_the_object_is_gone() {
    on_heap(|heap| {
        let node = Dropped::default().node(heap, 1);
        let weak = Gc::downgrade(&node);
        assert!(Weak::ptr_eq(&weak, &Gc::downgrade(&node)) && !weak.is_empty());
        assert_eq!(heap.where_is(&node).unwrap().weak_references, 1);
        let again = weak.upgrade().unwrap();
        assert_eq!((Gc::refcount(&node), again.name), (2, 1));
        drop(node);
        assert!(weak.upgrade().is_some());
        drop(again);
        assert!(weak.upgrade().is_none() && weak.is_empty() && weak.clone().is_empty());
        assert_eq!(format!("{weak:?}"), "(Weak, empty)");
    });
}

#[test]
fn weak_references_that_go_first_leave_nothing() {
    on_heap(|heap| {
        let node = Dropped::default().node(heap, 1);
        for _ in 0..3 {
            drop(Gc::downgrade(&node));
            let called = Gc::downgrade_with(&node, |_| panic!("it was dropped before"));
            drop((called.clone(), Gc::downgrade(&node)));
            drop(called);
            heap.check().unwrap();
        }
        assert_eq!(heap.where_is(&node).unwrap().weak_references, 0);
    });
}

#[test]
fn new_ones_lead_nowhere() {
    const EMPTY: Weak<u8> = Weak::new();
    assert!(EMPTY.upgrade().is_none() && EMPTY.is_empty() && EMPTY.ptr_eq(&Weak::default()));
}

#[test]
fn callbacks_are_called_newest_first_after_the_references_are_cleared() {
    on_heap(|heap| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let dropped = Dropped::default();
        let node = dropped.node(heap, 5);
        let weak: Vec<Weak<Node>> = (0..3)
            .map(|i| {
                let (log, dropped) = (log.clone(), dropped.clone());
                Gc::downgrade_with(&node, move |weak| {
                    assert!(weak.upgrade().is_none());
                    assert_eq!(dropped.take(), [], "the value is dropped afterwards");
                    log.borrow_mut().push(i);
                })
            })
            .collect();
        assert!(!weak[0].ptr_eq(&weak[1]));
        drop(node);
        assert_eq!((log.take(), dropped.take()), (vec![2, 1, 0], vec![5]));
    });
}

#[test]
fn a_callback_may_drop_the_other_weak_references() {
    on_heap(|heap| {
        let calls = Rc::new(Cell::new(0));
        let held: Rc<RefCell<Vec<Weak<Node>>>> = Rc::default();
        let node = Dropped::default().node(heap, 1);
        for _ in 0..3 {
            let (calls, shared) = (calls.clone(), held.clone());
            held.borrow_mut().push(Gc::downgrade_with(&node, move |weak| {
                calls.set(calls.get() + 1);
                let _again = weak.clone();
                shared.take();
            }));
        }
        drop(node);
        assert_eq!(calls.get(), 3, "they are held until they were called, as in CPython");
    });
}

/// As CPython: callbacks of weak references that are trash themselves are not called.
#[test]
fn callbacks_of_a_collected_cycle() {
    #[derive(Trace, Default)]
    struct Holder {
        to: RefCell<Vec<Gc<Holder>>>,
        weak: RefCell<Vec<Weak<Holder>>>,
    }
    on_heap(|heap| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let weak_to = |target: &Gc<Holder>, name: &'static str| {
            let log = log.clone();
            Gc::downgrade_with(target, move |weak| {
                assert!(weak.upgrade().is_none());
                log.borrow_mut().push(name);
            })
        };
        let ring = [0; 3].map(|_| heap.alloc(Holder::default()));
        (0..3).for_each(|i| ring[i].to.borrow_mut().push(ring[(i + 1) % 3].clone()));
        let outside = heap.alloc(Holder::default());
        ring[0].weak.borrow_mut().push(weak_to(&ring[1], "in the trash"));
        ring[0].weak.borrow_mut().push(weak_to(&ring[0], "in the trash, to itself"));
        ring[1].weak.borrow_mut().push(weak_to(&outside, "to something alive"));
        outside.weak.borrow_mut().push(weak_to(&ring[2], "in something alive"));
        let on_stack = weak_to(&ring[2], "on the stack");
        let shared = weak_to(&ring[2], "in the trash and on the stack");
        ring[1].weak.borrow_mut().push(shared.clone());
        drop(ring);
        assert_eq!(heap.collect(Generation::Old).collected, 3);
        assert_eq!(log.take(), ["in the trash and on the stack", "on the stack", "in something alive"]);
        assert!(on_stack.is_empty());
        drop(outside);
        assert_eq!(log.take(), Vec::<&str>::new(), "that weak reference went with the trash");
    });
}

thread_local! {
    static WEAK: RefCell<Option<Weak<Phased>>> = const { RefCell::new(None) };
    static KEPT: RefCell<Vec<Gc<Phased>>> = const { RefCell::new(Vec::new()) };
    static LOG: RefCell<Vec<(&'static str, bool)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Trace)]
#[trace(finalize)]
struct Phased {
    itself: RefCell<Option<Gc<Phased>>>,
    late: RefCell<Option<Weak<Phased>>>,
}

fn see(phase: &'static str) {
    let answers = WEAK.with_borrow(|weak| weak.as_ref().unwrap().upgrade().is_some());
    LOG.with_borrow_mut(|log| log.push((phase, answers)));
}

impl Finalize for Phased {
    fn finalize(this: &Gc<Phased>) {
        see("finalizer");
        *this.late.borrow_mut() = Some(Gc::downgrade(this));
        assert!(this.late.borrow().as_ref().unwrap().upgrade().is_some());
    }
}

impl Drop for Phased {
    fn drop(&mut self) {
        see("drop");
        assert!(self.late.get_mut().take().is_none_or(|late| late.upgrade().is_none()));
    }
}

fn phased(heap: &Heap, cyclic: bool) -> Weak<Phased> {
    let object = heap.alloc(Phased { itself: RefCell::default(), late: RefCell::default() });
    WEAK.set(Some(Gc::downgrade(&object)));
    if cyclic {
        *object.itself.borrow_mut() = Some(object.clone());
    }
    Gc::downgrade_with(&object, |_| see("callback"))
}

#[test]
fn upgrades_in_every_phase() {
    on_heap(|heap| {
        // At zero: the finalizer may still reach it.
        let _weak = phased(heap, false);
        assert_eq!(LOG.take(), [("finalizer", true), ("callback", false), ("drop", false)]);
        // In a collection: weak references are cleared before any finalizer runs.
        let _weak = phased(heap, true);
        heap.collect(Generation::Old);
        assert_eq!(LOG.take(), [("callback", false), ("finalizer", false), ("drop", false)]);
        WEAK.take();
    });
}

/// A weak reference made of a handle by which a `Drop` reaches trash that is not dropped yet.
#[test]
fn weak_references_that_drops_make_are_cleared() {
    thread_local! {
        static MADE: RefCell<Vec<Weak<Pair>>> = const { RefCell::new(Vec::new()) };
    }
    #[derive(Trace)]
    struct Pair(RefCell<Option<Gc<Pair>>>);
    impl Drop for Pair {
        fn drop(&mut self) {
            if let Some(other) = self.0.borrow().as_ref() {
                MADE.with_borrow_mut(|made| made.push(Gc::downgrade(other)));
            }
        }
    }
    on_heap(|heap| {
        let first = heap.alloc(Pair(RefCell::default()));
        let second = heap.alloc(Pair(RefCell::new(Some(first.clone()))));
        *first.0.borrow_mut() = Some(second);
        drop(first);
        assert_eq!(heap.collect(Generation::Old).collected, 2);
        let made = MADE.take();
        assert!(made.len() == 2 && made.iter().all(|weak| weak.upgrade().is_none()));
    });
}

#[test]
fn many_weak_references_to_many_objects() {
    on_heap(|heap| {
        let objects: Vec<_> = (0..5000u32).map(|i| heap.alloc(i)).collect();
        let weak: Vec<_> = objects.iter().map(Gc::downgrade).collect();
        assert!(weak.iter().zip(&objects).all(|(weak, object)| Gc::ptr_eq(&weak.upgrade().unwrap(), object)));
        drop(objects.into_iter().step_by(2).collect::<Vec<_>>());
        assert!(weak.iter().all(Weak::is_empty));
        let object = heap.alloc(1u8);
        let called: Vec<_> = (0..5000).map(|_| Gc::downgrade_with(&object, |_| ())).collect();
        drop(called.into_iter().rev().collect::<Vec<_>>());
        heap.check().unwrap();
    });
}
