//! Finalizers.

use crate::gc::Gc;
use crate::trace::Trace;

/// What is done before an object goes: once, by `#[trace(finalize)]` on a type that derives [`Trace`].
///
/// Unlike a `Drop` it sees its value whole, and all that the value refers to, also in a cycle that is collected (some of that
/// may have been finalized already). It gets a handle: keeping a clone somewhere **resurrects** the object, which lives on as
/// any other and is not finalized again.
///
/// It may allocate, free, upgrade weak references and borrow cells. A collection that it asks for does nothing inside one. If
/// it panics, the object goes all the same: see [`Heap::collect`](crate::Heap::collect).
///
/// ```
/// use heapkeeper::{Finalize, Gc, Heap, Trace};
/// use std::{cell::RefCell, rc::Rc};
///
/// #[derive(Trace)]
/// #[trace(finalize)]
/// struct Connection {
///     number: u32,
///     #[trace(skip)]
///     pool: Rc<RefCell<Vec<Gc<Connection>>>>,
/// }
///
/// impl Finalize for Connection {
///     fn finalize(this: &Gc<Connection>) {
///         this.pool.borrow_mut().push(this.clone());
///     }
/// }
///
/// let heap = Heap::new();
/// let pool = Rc::default();
/// let connection = heap.alloc(Connection { number: 1, pool: Rc::clone(&pool) });
/// drop(connection);
/// let again = pool.borrow_mut().pop().unwrap();
/// assert_eq!(again.number, 1);
/// drop(again);
/// assert!(pool.borrow().is_empty());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` says #[trace(finalize)], but has no finalizer",
    note = "write impl Finalize for it, or leave the attribute out"
)]
pub trait Finalize: Trace + Sized {
    /// The object is about to go.
    fn finalize(this: &Gc<Self>);
}
