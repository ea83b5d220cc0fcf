//! Interned values and small integers.

mod support;

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use heapkeeper::{Finalize, Gc, Generation, Heap, Interner, SmallInts, Trace};
use support::on_heap;

#[test]
fn equal_strings_are_one_object() {
    on_heap(|heap| {
        let names = Interner::strings(heap);
        let first = names.get("first");
        assert!(Gc::ptr_eq(&first, &names.get("first")) && Gc::ptr_eq(&first, &names.intern("first".into())));
        assert!(!Gc::ptr_eq(&first, &names.get("second")));
        assert!(names.find("second").is_none(), "nobody holds it");
        assert!(Gc::ptr_eq(&names.find("first").unwrap(), &first));
        let stats = names.stats();
        assert_eq!((stats.distinct, stats.requests, stats.hits, stats.saved_bytes), (1, 4, 2, 2 * (32 + 5)));
        drop(first);
        assert_eq!((names.stats().distinct, heap.stats().objects), (0, 0));
    });
}

#[test]
fn many_values_come_and_go() {
    on_heap(|heap| {
        let numbers: Interner<(u32, u32)> = Interner::new(heap);
        let mut kept = Vec::new();
        for round in 0..20 {
            kept = (0..2000).map(|i| numbers.intern((i, round / 10))).collect::<Vec<_>>();
            assert!(kept.iter().zip(0..).all(|(pair, i)| **pair == (i, round / 10)));
            assert_eq!((numbers.stats().distinct, heap.stats().objects), (2000, 2000));
        }
        assert_eq!(numbers.stats().hits, 18 * 2000);
        kept.truncate(10);
        assert_eq!(numbers.stats().distinct, 10);
        drop(numbers);
        assert_eq!(*kept[9], (9, 1));
    });
}

/// A value with references, in a cycle.
#[derive(Trace)]
#[trace(finalize)]
struct Term {
    name: u32,
    to: RefCell<Option<Gc<Term>>>,
    #[trace(skip)]
    keep: Rc<RefCell<Vec<Gc<Term>>>>,
}

impl Finalize for Term {
    fn finalize(this: &Gc<Term>) {
        if this.name >= 100 {
            this.keep.borrow_mut().push(this.clone());
        }
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Term) -> bool {
        self.name == other.name
    }
}
impl Eq for Term {}
impl Hash for Term {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

#[test]
fn interned_cycles_are_collected_and_not_found_any_more() {
    on_heap(|heap| {
        let terms: Interner<Term> = Interner::new(heap);
        let keep: Rc<RefCell<Vec<Gc<Term>>>> = Rc::default();
        let term = |name| terms.intern(Term { name, to: RefCell::default(), keep: keep.clone() });
        let (a, b) = (term(1), term(2));
        *a.to.borrow_mut() = Some(b.clone());
        *b.to.borrow_mut() = Some(a.clone());
        assert!(Gc::ptr_eq(&term(1), &a));
        drop((a, b));
        assert_eq!(terms.stats().distinct, 2);
        assert_eq!(heap.collect(Generation::Old).collected, 2);
        assert_eq!(terms.stats().distinct, 0);
        // One that is resurrected at zero is still the one; out of a cycle it is not.
        drop(term(100));
        assert!(Gc::ptr_eq(&term(100), &keep.borrow()[0]));
        keep.take();
        let looped = term(101);
        *looped.to.borrow_mut() = Some(looped.clone());
        drop(looped);
        assert_eq!(heap.collect(Generation::Old).resurrected, 1);
        let again = term(101);
        assert!(!Gc::ptr_eq(&again, &keep.borrow()[0]));
        drop(again);
        keep.take();
    });
}

/// `Hash` and `Eq` that change their minds, panic, free, and ask the interner itself.
#[test]
fn values_that_misbehave() {
    thread_local! {
        static MOOD: Cell<u32> = const { Cell::new(0) };
        static NAMES: RefCell<Option<Rc<Interner<Moody>>>> = const { RefCell::new(None) };
        static HELD: RefCell<Vec<Gc<Moody>>> = const { RefCell::new(Vec::new()) };
    }
    #[derive(Trace)]
    struct Moody(u32);
    impl PartialEq for Moody {
        fn eq(&self, other: &Moody) -> bool {
            match MOOD.get() {
                2 => panic!("in Eq"),
                3 => HELD.take().clear(),
                4 => {
                    MOOD.set(0);
                    let names = NAMES.with_borrow(Clone::clone).unwrap();
                    HELD.with_borrow_mut(|held| held.push(names.intern(Moody(77))));
                }
                _ => {}
            }
            self.0 == other.0
        }
    }
    impl Eq for Moody {}
    impl Hash for Moody {
        fn hash<H: Hasher>(&self, state: &mut H) {
            match MOOD.get() {
                0 | 3 | 4 => self.0.hash(state),
                1 => 42.hash(state),
                _ => panic!("in Hash"),
            }
        }
    }
    let caught = |code: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).is_err();
    on_heap(|heap| {
        let names = Rc::new(Interner::<Moody>::new(heap));
        NAMES.set(Some(names.clone()));
        let one = names.intern(Moody(1));
        // Another hash at its end than at its start.
        MOOD.set(1);
        drop(one);
        assert_eq!(names.stats().distinct, 0);
        // A panic at its end.
        MOOD.set(0);
        let one = RefCell::new(Some(names.intern(Moody(1))));
        MOOD.set(2);
        assert!(caught(&|| drop(one.take())));
        assert_eq!((names.stats().distinct, heap.stats().objects), (0, 0));
        assert!(caught(&|| drop(names.intern(Moody(1)))));
        // A comparison that frees what it is compared with.
        MOOD.set(0);
        HELD.with_borrow_mut(|held| held.push(names.intern(Moody(5))));
        MOOD.set(3);
        let five = names.intern(Moody(5));
        assert_eq!((five.0, Gc::refcount(&five), names.stats().distinct), (5, 1, 1));
        // One that asks the interner.
        MOOD.set(4);
        assert!(Gc::ptr_eq(&five, &names.intern(Moody(5))));
        assert_eq!(names.stats().distinct, 2);
        HELD.take();
        NAMES.take();
        drop(five);
        assert_eq!(names.stats().distinct, 0);
    });
}

#[test]
fn several_interners_of_one_heap() {
    on_heap(|heap| {
        let (a, b) = (Interner::strings(heap), Interner::strings(heap));
        let other: Interner<u64> = Interner::new(heap);
        let (x, y, z) = (a.get("x"), b.get("x"), other.intern(1));
        assert!(!Gc::ptr_eq(&x, &y));
        drop(x);
        assert_eq!((a.stats().distinct, b.stats().distinct, other.stats().distinct), (0, 1, 1));
        drop(b);
        drop((y, z));
        assert_eq!(other.stats().distinct, 0);
    });
}

#[test]
fn small_ints_are_kept() {
    on_heap(|heap| {
        let ints = SmallInts::new(heap);
        assert_eq!(heap.stats().objects, 262);
        for n in [-5, 0, 256] {
            assert!(Gc::ptr_eq(&ints.get(n), &ints.get(n)) && *ints.get(n) == n && ints.is_kept(n));
        }
        for n in [-6, 257, i64::MIN, i64::MAX] {
            assert!(!Gc::ptr_eq(&ints.get(n), &ints.get(n)) && *ints.get(n) == n && !ints.is_kept(n));
        }
        let ours = SmallInts::of(heap, i64::MIN..=i64::MIN + 1);
        assert!(
            ours.is_kept(i64::MIN) && !ours.is_kept(0) && !ours.is_kept(i64::MAX) && *ours.get(i64::MAX) == i64::MAX
        );
        #[expect(clippy::reversed_empty_ranges)]
        let none = SmallInts::of(heap, 1..=0);
        assert!(!none.is_kept(1) && *none.get(1) == 1);
        let top = SmallInts::of(&Heap::new(), i64::MAX - 1..=i64::MAX);
        assert!(Gc::ptr_eq(&top.get(i64::MAX), &top.get(i64::MAX)) && *top.get(i64::MIN) == i64::MIN);
    });
}
