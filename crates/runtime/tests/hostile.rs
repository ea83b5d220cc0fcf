//! What programs do in the worst places: in `Drop` of values that are collected together, in finalizers and callbacks, by
//! panics. Each fault known from other crates has its test here.

mod support;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use heapkeeper::{Finalize, Gc, Generation, Heap, Interner, Trace, Weak};
use support::{OnDrop, leaving, on_heap};

/// The message of a panic.
fn message_of(code: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(code)).expect_err("no panic");
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).into(),
    }
}

type Look = Rc<dyn Fn(&Gc<Curious>)>;

/// A value that looks at its neighbour when it is dropped.
#[derive(Trace)]
struct Curious {
    name: String,
    next: RefCell<Option<Gc<Curious>>>,
    #[trace(skip)]
    look: Look,
}

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(next) = self.next.get_mut() {
            (self.look)(next);
        }
    }
}

fn curious_pair(heap: &Heap, look: impl Fn(&Gc<Curious>) + 'static) {
    let look: Look = Rc::new(look);
    let new = |name: &str| heap.alloc(Curious { name: name.repeat(100), next: RefCell::default(), look: look.clone() });
    let (a, b) = (new("a"), new("b"));
    *a.next.borrow_mut() = Some(b.clone());
    *b.next.borrow_mut() = Some(a);
}

/// bacon_rajan_cc #6: the destructor of one half of a cycle reads the other half, which was freed.
#[test]
fn bacon_rajan_cc_6_use_after_free_through_drop() {
    on_heap(|heap| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = seen.clone();
        curious_pair(heap, move |next| {
            // Either whole or dead; never freed memory.
            log.borrow_mut().push((Gc::is_dead(next), Gc::try_get(next).map(|next| next.name.clone())));
        });
        assert_eq!(heap.collect(Generation::Old).collected, 2);
        let seen = seen.borrow();
        assert_eq!(seen[0], (false, Some("b".repeat(100))));
        assert_eq!(seen[1], (true, None));
    });
}

/// dumpster #6: reading a dead neighbour in a destructor. It panics, with a message that says what to do; the collection is
/// finished all the same, and its caller learns of the panic.
#[test]
fn dumpster_6_dead_dereference_in_drop() {
    on_heap(|heap| {
        curious_pair(heap, |next| assert_eq!(next.name.len(), 100));
        let message = message_of(|| _ = heap.collect(Generation::Old));
        assert!(message.contains("is dead") && message.contains("Finalize"), "{message}");
        assert_eq!((heap.stats().objects, heap.stats().panics), (0, 1));
        heap.check().unwrap();
    });
}

/// gc #187: a finalizer stores what it reaches somewhere that outlives the collection, which frees it all the same.
#[test]
fn gc_187_finalizer_unsoundness() {
    thread_local!(static STORED: RefCell<Vec<Gc<Escape>>> = const { RefCell::new(Vec::new()) });
    #[derive(Trace)]
    #[trace(finalize)]
    struct Escape(String, RefCell<Option<Gc<Escape>>>);
    impl Finalize for Escape {
        fn finalize(this: &Gc<Escape>) {
            let other = this.1.borrow().clone();
            STORED.with_borrow_mut(|stored| stored.extend(other));
        }
    }
    on_heap(|heap| {
        let a = heap.alloc(Escape("a".repeat(50), RefCell::default()));
        let b = heap.alloc(Escape("b".repeat(50), RefCell::new(Some(a.clone()))));
        *a.1.borrow_mut() = Some(b);
        drop(a);
        assert_eq!(heap.collect(Generation::Old).resurrected, 2);
        let stored = STORED.take();
        assert!(stored.iter().all(|escape| escape.0.len() == 50 && !Gc::is_dead(escape)));
        drop(stored);
        assert_eq!(heap.collect(Generation::Old).collected, 2);
    });
}

/// A handle to a neighbour, whole or dead, that a `Drop` keeps beyond the collection.
#[test]
fn handles_that_drops_keep_are_dead_and_safe() {
    on_heap(|heap| {
        let kept: Rc<RefCell<Vec<Gc<Curious>>>> = Rc::default();
        let keep = kept.clone();
        curious_pair(heap, move |next| keep.borrow_mut().push(next.clone()));
        assert_eq!(heap.collect(Generation::Old).collected, 2);
        assert_eq!(kept.borrow().len(), 2);
        for dead in kept.borrow().iter() {
            assert!(Gc::is_dead(dead) && Gc::try_get(dead).is_none() && !Gc::is_tracked(dead));
            assert!(Gc::downgrade(dead).upgrade().is_none());
            assert!(Gc::downgrade_with(dead, |_| unreachable!()).is_empty());
            assert!(heap.referents(dead).unwrap().is_empty() && heap.referrers(dead).unwrap().is_empty());
            assert_eq!(heap.where_is(dead).unwrap().refcount, 1);
            assert!(message_of(|| _ = dead.name.len()).contains("is dead"));
            assert_eq!(Gc::refcount(&dead.clone()), 2);
        }
        heap.check().unwrap();
        assert_eq!((heap.stats().objects, heap.verify()), (2, vec![]));
        heap.collect(Generation::Old);
        kept.take();
        assert_eq!(heap.stats().objects, 0);
    });
}

/// A value whose `Drop` may do anything.
#[derive(Trace)]
struct Trap {
    to: RefCell<Vec<Gc<Trap>>>,
    #[trace(skip)]
    _code: OnDrop,
}

fn trap(heap: &Heap, code: impl FnOnce() + 'static) -> Gc<Trap> {
    heap.alloc(Trap { to: RefCell::default(), _code: OnDrop::new(code) })
}

fn looped(heap: &Heap, code: impl FnOnce() + 'static) {
    let trap = trap(heap, code);
    trap.to.borrow_mut().push(trap.clone());
}

/// Everything at once, in the middle of freeing and of collecting.
#[test]
fn drops_may_do_anything() {
    on_heap(|heap| {
        let kept: Rc<RefCell<Vec<Gc<Trap>>>> = Rc::default();
        let handle = Rc::new(heap.clone());
        let anything = |handle: &Rc<Heap>, kept: &Rc<RefCell<Vec<Gc<Trap>>>>| {
            let (heap, kept) = (Rc::downgrade(handle), kept.clone());
            move || {
                let heap = heap.upgrade().unwrap();
                for _ in 0..50 {
                    looped(&heap, || ());
                }
                let new = trap(&heap, || ());
                new.to.borrow_mut().extend(kept.borrow().iter().cloned());
                kept.borrow_mut().push(new);
                heap.collect(Generation::Old);
                heap.check().unwrap();
                heap.set_thresholds([3, 1, 1]);
                heap.freeze();
                heap.unfreeze();
                drop(heap.objects(None));
                assert_eq!(heap.verify(), []);
                heap.stats();
            }
        };
        heap.enable();
        for _ in 0..20 {
            drop(trap(heap, anything(&handle, &kept)));
            looped(heap, anything(&handle, &kept));
            heap.collect(Generation::Old);
        }
        assert!(kept.borrow().len() >= 40);
        kept.take();
    });
}

/// A collection that starts in a `Drop` must not look at the value that is being dropped.
#[test]
fn a_collection_in_a_drop_leaves_half_dropped_values_alone() {
    #[derive(Trace)]
    struct Half {
        first: Vec<Gc<Half>>,
        _code: Skipped,
        second: RefCell<Vec<Gc<Half>>>,
    }
    #[derive(Trace)]
    struct Skipped(#[trace(skip)] OnDrop);
    on_heap(|heap| {
        let leaf =
            || heap.alloc(Half { first: vec![], _code: Skipped(OnDrop::new(|| ())), second: RefCell::default() });
        let handle = heap.clone();
        let half = heap.alloc(Half {
            first: vec![leaf(), leaf()],
            _code: Skipped(OnDrop::new(move || {
                // `first` is gone by now, `second` is not.
                assert_eq!(handle.collect(Generation::Old).unreachable(), 0);
                assert_eq!(handle.stats().objects, 2);
            })),
            second: RefCell::new(vec![leaf()]),
        });
        assert_eq!((half.first.len(), half.second.borrow().len()), (2, 1));
        drop(half);
    });
}

#[test]
fn a_panic_in_drop_is_the_callers_and_frees_everything() {
    on_heap(|heap| {
        let parent = trap(heap, || ());
        for _ in 0..3 {
            parent.to.borrow_mut().push(trap(heap, || panic!("one of three")));
        }
        // Three panics: one goes on, nothing is left, nothing aborts.
        assert_eq!(message_of(|| drop(parent)), "one of three");
        assert_eq!((heap.stats().objects, heap.stats().panics), (0, 3));
        // In a collection.
        (0..3).for_each(|_| looped(heap, || panic!("in a collection")));
        assert_eq!(message_of(|| _ = heap.collect(Generation::Old)), "in a collection");
        assert_eq!((heap.stats().objects, heap.stats().panics), (0, 6));
        // In one that starts by itself.
        heap.set_thresholds([2, 0, 0]);
        heap.enable();
        let message = message_of(|| (0..5).for_each(|_| looped(heap, || panic!("at some allocation"))));
        assert_eq!(message, "at some allocation");
        heap.disable();
        let _ = catch_unwind(AssertUnwindSafe(|| heap.collect(Generation::Old)));
        assert!(heap.stats().collections.pauses.count() > 2 && !heap.is_collecting());
    });
}

#[test]
fn panics_deep_in_a_list() {
    on_heap(|heap| {
        let mut list = trap(heap, || ());
        for i in 0..500 {
            let next = trap(heap, move || assert!(i % 7 != 0, "seven"));
            next.to.borrow_mut().push(list);
            list = next;
        }
        assert_eq!(message_of(|| drop(list)), "seven");
        assert_eq!((heap.stats().objects, heap.stats().panics), (0, 72));
    });
}

/// A drop during unwinding: a second panic must not end the process.
#[test]
fn a_panic_while_panicking_is_dropped() {
    on_heap(|heap| {
        let bad = trap(heap, || panic!("the second"));
        let message = message_of(move || {
            let _bad = bad;
            panic!("the first");
        });
        assert_eq!(message, "the first");
        assert_eq!((heap.stats().objects, heap.stats().panics), (0, 1));
    });
}

/// A payload that panics when it is dropped.
#[test]
fn payloads_with_drops_of_their_own() {
    on_heap(|heap| {
        let bomb = || std::panic::panic_any(OnDrop::new(|| panic!("in the payload's drop")).into_payload());
        (0..3).for_each(|_| looped(heap, bomb));
        let payload = catch_unwind(AssertUnwindSafe(|| heap.collect(Generation::Old))).unwrap_err();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(payload))).is_err());
    });
}

/// Payloads are `Send`.
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the payload's drop");
    }
}
impl OnDrop {
    fn into_payload(self) -> Bomb {
        std::mem::forget(self);
        Bomb
    }
}

#[test]
fn a_hook_gets_the_panics() {
    let caught = Rc::new(RefCell::new(Vec::new()));
    let seen = caught.clone();
    let heap = Heap::builder()
        .panic_hook(move |payload| {
            seen.borrow_mut().push(*payload.downcast::<&str>().unwrap());
            panic!("even so");
        })
        .build()
        .unwrap();
    (0..2).for_each(|_| looped(&heap, || panic!("a")));
    heap.collect(Generation::Old);
    drop(trap(&heap, || panic!("b")));
    assert_eq!(caught.take(), ["a", "a", "b"]);
}

#[derive(Trace)]
#[trace(finalize)]
struct Failing(RefCell<Option<Gc<Failing>>>, #[trace(skip)] Rc<Cell<u32>>);
impl Finalize for Failing {
    fn finalize(this: &Gc<Failing>) {
        this.1.set(this.1.get() + 1);
        panic!("in a finalizer");
    }
}

#[test]
fn a_panic_in_a_finalizer() {
    on_heap(|heap| {
        let runs = Rc::new(Cell::new(0));
        let failing = || heap.alloc(Failing(RefCell::default(), runs.clone()));
        let object = failing();
        assert_eq!(message_of(|| drop(object)), "in a finalizer");
        assert_eq!((runs.get(), heap.stats().objects), (1, 0));
        for _ in 0..2 {
            let object = failing();
            *object.0.borrow_mut() = Some(object.clone());
        }
        assert_eq!(message_of(|| _ = heap.collect(Generation::Old)), "in a finalizer");
        assert_eq!((runs.get(), heap.stats().objects), (3, 0));
    });
}

#[test]
fn panics_in_callbacks() {
    on_heap(|heap| {
        let object = heap.alloc(1u8);
        let later = Rc::new(Cell::new(false));
        let called = later.clone();
        let _weak = (
            Gc::downgrade_with(&object, move |_| called.set(true)),
            Gc::downgrade_with(&object, |_| panic!("in a weak reference's callback")),
        );
        assert_eq!(message_of(|| drop(object)), "in a weak reference's callback");
        assert!(later.get() && heap.stats().objects == 0);

        let id = heap.on_collection(|info| panic!("{:?}", info.phase));
        assert_eq!(message_of(|| _ = heap.collect(Generation::Old)), "Start");
        assert_eq!(heap.stats().collections.pauses.count(), 1);
        heap.remove_callback(id);
    });
}

/// A panic goes on from the outermost call, which ends its work first.
#[test]
fn panics_within_collections_within_drops() {
    on_heap(|heap| {
        let handle = heap.clone();
        let after = Rc::new(Cell::new(false));
        let reached = after.clone();
        let outer = trap(heap, move || {
            looped(&handle, || panic!("within"));
            handle.collect(Generation::Old);
            reached.set(true);
        });
        assert_eq!(message_of(|| drop(outer)), "within");
        assert!(after.get(), "the panic waited for the outermost");
    });
}

/// What a `Drop` reaches by enumeration while its neighbours are being dropped.
#[test]
fn enumeration_in_a_drop() {
    leaving(&[], |heap| {
        let found = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..3 {
            let (found, handle) = (found.clone(), heap.clone());
            looped(heap, move || found.borrow_mut().extend(handle.objects(None)));
        }
        assert_eq!(heap.collect(Generation::Old).collected, 3);
        assert!(found.borrow().len() == 3 && found.borrow().iter().all(|object| object.is_dead()));
        assert!(found.borrow().iter().all(|object| Gc::try_get(&object.downcast::<Trap>().unwrap()).is_none()));
        found.take();
    });
}

#[test]
fn the_last_heap_goes_in_the_middle_of_things() {
    let freed = Rc::new(Cell::new(0));
    let count = |freed: &Rc<Cell<i32>>| {
        let freed = freed.clone();
        move || freed.set(freed.get() + 1)
    };
    // In a Drop, inside freeing; garbage is left.
    let heap = Heap::new();
    looped(&heap, count(&freed));
    let counting = count(&freed);
    let object = trap(&heap, || ());
    let slot = Rc::new(RefCell::new(Some(heap)));
    let inner_slot = slot.clone();
    let last = {
        let heap = slot.borrow();
        trap(heap.as_ref().unwrap(), move || {
            inner_slot.take();
            counting();
        })
    };
    last.to.borrow_mut().push(object);
    drop(last);
    assert_eq!(freed.take(), 2);

    // In a collection.
    let heap = Heap::new();
    let slot = Rc::new(RefCell::new(None));
    let inner_slot = slot.clone();
    looped(&heap, move || drop(inner_slot.take()));
    looped(&heap, count(&freed));
    *slot.borrow_mut() = Some(heap.clone());
    drop(heap);
    // The slot's is the last one.
    let heap = slot.borrow_mut().take().unwrap();
    *slot.borrow_mut() = Some(heap.clone());
    heap.collect(Generation::Old);
    drop(heap);
    assert_eq!(freed.take(), 1);

    // A finalizer that brings it back.
    thread_local!(static BACK: RefCell<Option<(Heap, Gc<Back>)>> = const { RefCell::new(None) });
    #[derive(Trace)]
    #[trace(finalize)]
    struct Back(RefCell<Option<Gc<Back>>>);
    impl Finalize for Back {
        fn finalize(this: &Gc<Back>) {
            BACK.set(Some((Gc::heap(this), this.clone())));
        }
    }
    let heap = Heap::new();
    let back = heap.alloc(Back(RefCell::default()));
    *back.0.borrow_mut() = Some(back.clone());
    drop(back);
    drop(heap);
    let (heap, back) = BACK.take().unwrap();
    assert_eq!(heap.stats().objects, 1);
    let weak: Weak<Back> = Gc::downgrade(&back);
    drop(back);
    assert!(weak.upgrade().is_some());
    drop(heap);
    assert!(weak.upgrade().is_none());
}

/// A chain so deep that some of it waits to be freed, while code that runs then looks at what waits.
#[test]
fn what_waits_to_be_freed_is_out_of_reach() {
    #[derive(Trace)]
    struct Link {
        next: Option<Gc<Link>>,
        name: Option<Gc<String>>,
        /// Runs when `next` and `name` are gone, or wait.
        #[trace(skip)]
        _code: OnDrop,
    }
    // With 51 the one that waits comes first in the order of a collection.
    let test = |heap: &Heap, length: usize| {
        let names = Rc::new(Interner::<String>::new(heap));
        let waited = Rc::new(Cell::new(0));
        let mut list = None;
        for i in 0..length {
            let next: Option<Gc<Link>> = list;
            let weak = next.as_ref().map_or_else(Weak::new, Gc::downgrade);
            let name = format!("link {i}");
            let (heap_here, names_here, waited, wanted) = (heap.clone(), names.clone(), waited.clone(), name.clone());
            let code = OnDrop::new(move || {
                assert!(weak.upgrade().is_none() && weak.is_empty());
                assert!(names_here.find(&wanted).is_none());
                let waits = names_here.stats().distinct > 0;
                waited.set(waited.get() + u32::from(waits));
                if (i % 10 == 0 || i == 1) && !heap_here.is_collecting() {
                    // What a collection frees is freed when it is over, however deep it started.
                    let before = heap_here.stats().objects;
                    looped(&heap_here, || ());
                    drop(trap(&heap_here, || ()));
                    heap_here.collect(Generation::Old);
                    assert!(
                        heap_here.stats().objects <= before && heap_here.objects(None).iter().all(|o| !o.is_dead())
                    );
                    heap_here.check().unwrap();
                }
            });
            list = Some(heap.alloc(Link { next, name: Some(names.intern(name)), _code: code }));
        }
        assert!(list.as_ref().is_some_and(|link| link.next.is_some() && link.name.is_some()));
        drop(list);
        assert!(waited.get() > 0, "nothing waited");
        assert_eq!(names.stats().distinct, 0);
    };
    for length in [51, 52, 100, 500] {
        on_heap(|heap| test(heap, length));
    }
}

/// A weak reference to trash that outlives its own clearing: made by a `Drop`, to a neighbour that is still whole.
#[test]
fn weak_references_to_neighbours_that_are_dropped_later() {
    thread_local!(static MADE: RefCell<Vec<Weak<Clique>>> = const { RefCell::new(Vec::new()) });
    #[derive(Trace)]
    struct Clique(RefCell<Vec<Gc<Clique>>>);
    impl Drop for Clique {
        fn drop(&mut self) {
            for other in self.0.get_mut() {
                MADE.with_borrow_mut(|made| made.push(Gc::downgrade(other)));
                let called = Gc::downgrade_with(other, |_| panic!("callbacks of late weak references are not called"));
                MADE.with_borrow_mut(|made| made.push(called));
            }
        }
    }
    on_heap(|heap| {
        let all = [0; 3].map(|_| heap.alloc(Clique(RefCell::default())));
        all.iter().for_each(|from| from.0.borrow_mut().extend(all.iter().cloned()));
        drop(all);
        assert_eq!(heap.collect(Generation::Old).collected, 3);
        // Others in their places must not be taken for them.
        let _others = [0; 3].map(|_| heap.alloc(Clique(RefCell::default())));
        MADE.with_borrow(|made| assert!(made.len() == 18 && made.iter().all(|weak| weak.upgrade().is_none())));
        assert_eq!(heap.stats().panics, 0);
        MADE.take();
    });
}

/// Heaps whose objects outlive them give everything back, their numbers too: there are 4095.
#[test]
fn heaps_that_their_objects_outlive_go_with_them() {
    for i in 0..4200 {
        let heap = Heap::new();
        let (leaf, list) = (heap.alloc(i), trap(&heap, || ()));
        list.to.borrow_mut().push(trap(&heap, || ()));
        drop(heap);
        drop((leaf, list));
    }
}
