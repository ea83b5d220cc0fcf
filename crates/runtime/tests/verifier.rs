//! The verifier finds what hand-written implementations of `Trace` get wrong.

mod support;

use std::cell::RefCell;

use heapkeeper::{Gc, Mistake, Trace, Tracer, Weak};
use support::{leaving, on_heap};

struct Forgets {
    _number: u32,
    visited: Gc<u64>,
    _forgotten: Option<Gc<String>>,
    _weak: Weak<u64>,
}

// SAFETY: what it visits it owns; to forget is safe.
unsafe impl Trace for Forgets {
    fn trace(&self, tracer: &mut Tracer<'_>) {
        tracer.visit(&self.visited);
    }
}

#[test]
fn forgotten_handles_are_named_with_type_and_offset() {
    on_heap(|heap| {
        let target = heap.alloc(7);
        let _forgets = heap.alloc(Forgets {
            _number: 1,
            visited: target.clone(),
            _forgotten: Some(heap.alloc("a".into())),
            _weak: Gc::downgrade(&target),
        });
        let name = std::any::type_name::<Forgets>();
        let (at, weak_at) = (std::mem::offset_of!(Forgets, _forgotten), std::mem::offset_of!(Forgets, _weak));
        let mistakes = heap.verify();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes.contains(&mistake(name, at)));
        let message = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(message.contains(&format!("{name}: the handle to alloc::string::String at byte {at} of the value")));
        assert!(message.contains(&format!("{name}: the weak reference at byte {weak_at} of the value")));
    });
}

fn mistake(name: &str, at: usize) -> Mistake {
    // The only way to one from outside: the verifier's own.
    let heap = heapkeeper::Heap::new();
    let forgets = heap.alloc(Forgets {
        _number: 0,
        visited: heap.alloc(0),
        _forgotten: Some(heap.alloc(String::new())),
        _weak: Weak::new(),
    });
    let found = heap.verify()[0];
    assert!(
        matches!(found, Mistake::Missed { type_name, offset_bytes, .. } if type_name == name && offset_bytes == at)
    );
    drop(forgets);
    found
}

#[test]
fn a_claim_to_be_a_leaf_is_checked_too() {
    struct NoLeaf(#[allow(dead_code)] Gc<u8>);
    // SAFETY: visits nothing.
    unsafe impl Trace for NoLeaf {
        fn trace(&self, _: &mut Tracer<'_>) {}
    }
    on_heap(|heap| {
        let _object = heap.alloc(NoLeaf(heap.alloc(1)));
        assert!(matches!(heap.verify()[..], [Mistake::Missed { offset_bytes: 0, target: "u8", .. }]));
    });
}

#[test]
fn handles_visited_twice_are_found() {
    struct Twice(Gc<u8>);
    // SAFETY: not at all, but no collection runs before the heap is verified, and none is then.
    unsafe impl Trace for Twice {
        fn trace(&self, tracer: &mut Tracer<'_>) {
            tracer.visit(&self.0);
            tracer.visit(&self.0);
        }
    }
    let heap = heapkeeper::Heap::new();
    heap.disable();
    let object = heap.alloc(Twice(heap.alloc(1)));
    let mistakes = heap.verify();
    assert!(mistakes.iter().any(|mistake| matches!(mistake, Mistake::VisitedTwice { target: "u8", .. })));
    assert!(mistakes.iter().any(|m| matches!(m, Mistake::VisitedTooOften { visits: 2, refcount: 1, .. })));
    assert!(mistakes.iter().all(|mistake| mistake.to_string().contains("u8")));
    drop(object);
}

#[test]
fn derived_implementations_make_no_mistake() {
    #[derive(Trace)]
    enum Shape {
        Unit,
        Tuple(Gc<u8>, #[trace(skip)] Gc<u8>, Box<Shape>),
        Named { handle: Option<Gc<u8>>, weak: RefCell<Weak<u8>>, array: [Gc<u8>; 2] },
    }
    #[derive(Trace)]
    struct Generic<'a, T: Clone, const N: usize>(&'static str, std::marker::PhantomData<&'a ()>, [T; N])
    where
        T: PartialEq;
    #[derive(Trace)]
    enum Never {}
    leaving(&[], |heap| {
        let handle = heap.alloc(1u8);
        let named = Shape::Named {
            handle: Some(handle.clone()),
            weak: RefCell::new(Gc::downgrade(&handle)),
            array: [handle.clone(), heap.alloc(2)],
        };
        let objects = [
            heap.alloc(Shape::Unit),
            heap.alloc(Shape::Tuple(handle.clone(), handle.clone(), Box::new(Shape::Unit))),
            heap.alloc(named),
        ];
        if let (Shape::Named { handle, weak, array }, Shape::Tuple(a, b, _)) = (&*objects[2], &*objects[1]) {
            assert_eq!((handle.as_deref(), weak.borrow().is_empty(), *array[1], **a + **b), (Some(&1), false, 2, 2));
        }
        let generic = heap.alloc(Generic("text", std::marker::PhantomData, [handle.clone(), handle]));
        assert_eq!((generic.0, *generic.2[0]), ("text", 1));
        let never: Gc<Option<Box<Never>>> = heap.alloc(None);
        assert!(!Gc::is_tracked(&never));
        assert_eq!(heap.verify(), []);
        assert_eq!(heap.referents(&objects[1]).unwrap().len(), 1);
        assert_eq!(heap.referents(&objects[2]).unwrap().len(), 3);
        assert_eq!(heap.referents(&generic).unwrap().len(), 2);
    });
}
