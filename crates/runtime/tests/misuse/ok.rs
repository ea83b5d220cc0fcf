//! A program that uses all that the others misuse; also makes trybuild build them all, so that what is checked when code is
//! generated is checked.

use heapkeeper::{Finalize, Gc, Heap, Trace};
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Trace)]
#[trace(finalize, crate = heapkeeper)]
#[repr(C, align(16))]
struct Fine<T: Clone, U: ?Sized> {
    to: RefCell<Option<Gc<T>>>,
    value: T,
    #[trace(skip)]
    shared: Rc<U>,
}

impl<T: Trace + Clone, U: ?Sized> Finalize for Fine<T, U> {
    fn finalize(this: &Gc<Self>) {
        assert!(this.to.borrow().is_none());
    }
}

fn main() {
    let heap = Heap::new();
    let fine = heap.alloc(Fine { to: RefCell::new(None), value: 1, shared: Rc::<str>::from("text") });
    assert_eq!((fine.value, &*fine.shared), (1, "text"));
}
