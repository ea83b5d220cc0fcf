//! `#[derive(Trace)]` on types that a macro of the program writes.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace};

/// Tokens of the type from here, its handle, its cell and its derive from the caller: two sides of hygiene in one type.
macro_rules! node {
    ($name:ident, $Handle:ident, $Cell:ident, $Derive:ident) => {
        #[derive($Derive)]
        struct $name {
            next: $Cell<Option<$Handle<$name>>>,
            both: (u64, Option<$Handle<$name>>),
        }
    };
}

node!(Node, Gc, RefCell, Trace);

#[test]
fn a_type_that_a_macro_wrote_is_traced() {
    let heap = Heap::new();
    let first = heap.alloc(Node { next: RefCell::new(None), both: (1, None) });
    let second = heap.alloc(Node { next: RefCell::new(Some(first.clone())), both: (2, Some(first.clone())) });
    *first.next.borrow_mut() = Some(second.clone());
    assert_eq!(second.both.1.as_ref().map_or(0, |node| node.both.0), 1);
    drop((first, second));
    assert_eq!(heap.collect(Generation::Old).collected, 2);
}
