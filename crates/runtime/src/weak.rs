//! Weak references: a cell outside the heap for each, or for all plain ones to one object, and a table from objects to cells.
//!
//! ```text
//! Weak ──▶ Cell { target, handles, … }        target = null once cleared
//! object ──HAS_WEAK──▶ WeakTable: its cells, so that they can be cleared
//! ```
//! The table knows cells without counting them: a cell lives as long as its handles, and takes itself out.
//!
//! Invariants:
//! - a cell's target is not null ⇔ the table lists the cell under it; then the object's block is allocated
//! - an object has an entry ⇔ its header says `HAS_WEAK`; entries are not empty
//!
//! Called by programs, by freeing (`destroy.rs`) and by collections (`model.rs`).

use core::cell::Cell;
use core::fmt;
use core::hash::{BuildHasherDefault, Hasher};
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, take};
use core::ptr::NonNull;
use std::collections::HashMap;

use heapkeeper_gc::Trash;

use crate::gc::Gc;
use crate::header::{DEAD, HAS_WEAK, ObjectPtr};
use crate::inner::Inner;
use crate::model::Model;
use crate::panics::guard;
use crate::trace::{Edge, Tracer};

type Callback = Box<dyn FnOnce(CellPtr)>;

pub(crate) struct WeakCell {
    target: Cell<Option<ObjectPtr>>,
    /// `Weak`s that share it.
    handles: Cell<usize>,
    /// Of those, the ones that were met in the trash; 0 outside a collection.
    met: Cell<usize>,
    callback: Cell<Option<Callback>>,
}

/// A pointer to a cell, for as long as it has handles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CellPtr(NonNull<WeakCell>);

impl CellPtr {
    fn new(target: ObjectPtr, callback: Option<Callback>) -> CellPtr {
        CellPtr(NonNull::from(Box::leak(Box::new(WeakCell {
            target: Cell::new(Some(target)),
            handles: Cell::new(1),
            met: Cell::new(0),
            callback: Cell::new(callback),
        }))))
    }

    fn cell(&self) -> &WeakCell {
        // SAFETY: pointers of this kind are used only while the cell has handles, or is in the table.
        unsafe { self.0.as_ref() }
    }

    fn add_handle(self) {
        let cell = self.cell();
        // As many handles as there are bytes: they were leaked.
        cell.handles.set(cell.handles.get().checked_add(1).expect("too many weak references"));
    }

    /// One handle less; the last one takes the cell along, and then drops its callback.
    fn remove_handle(self) {
        let handles = self.cell().handles.get() - 1;
        self.cell().handles.set(handles);
        if handles == 0 {
            if let Some(target) = self.cell().target.get() {
                // SAFETY: the target's block is allocated, hence its heap's state alive.
                unsafe { (*target.inner()).weak.remove(target, self) };
            }
            // SAFETY: no handle is left, and the table does not list it; made by `Box::new`.
            let cell = unsafe { Box::from_raw(self.0.as_ptr()) };
            drop(cell);
        }
    }

    pub(crate) fn address(self) -> usize {
        self.0.as_ptr().addr()
    }
}

/// The cells of one object.
#[derive(Default)]
struct Cells {
    plain: Option<CellPtr>,
    /// Those with a callback, oldest first.
    called: Vec<CellPtr>,
}

impl Cells {
    fn clear_targets(&self) {
        self.plain.iter().chain(&self.called).for_each(|cell| cell.cell().target.set(None));
    }
}

/// Addresses are 16 bytes apart; one multiplication spreads them.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are addresses");
    }

    fn write_usize(&mut self, address: usize) {
        // Fibonacci hashing: 2⁶⁴ / φ (Knuth, The Art of Computer Programming 3, 6.4). The table looks at both ends.
        self.0 = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The cells of all objects of a heap, by address.
#[derive(Default)]
pub(crate) struct WeakTable(HashMap<usize, Cells, BuildHasherDefault<AddressHasher>>);

impl WeakTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The plain cell of the object, with one handle more; or a new one.
    fn plain(&mut self, object: ObjectPtr) -> CellPtr {
        object.set(HAS_WEAK);
        let plain = &mut self.0.entry(object.address().addr()).or_default().plain;
        match plain {
            Some(cell) => {
                cell.add_handle();
                *cell
            }
            None => *plain.insert(CellPtr::new(object, None)),
        }
    }

    fn add_called(&mut self, object: ObjectPtr, callback: Callback) -> CellPtr {
        object.set(HAS_WEAK);
        let cell = CellPtr::new(object, Some(callback));
        self.0.entry(object.address().addr()).or_default().called.push(cell);
        cell
    }

    fn remove(&mut self, object: ObjectPtr, cell: CellPtr) {
        let key = object.address().addr();
        let Some(cells) = self.0.get_mut(&key) else { return };
        if cells.plain == Some(cell) {
            cells.plain = None;
        } else {
            cells.called.retain(|called| *called != cell);
        }
        if cells.plain.is_none() && cells.called.is_empty() {
            self.0.remove(&key);
            object.unset(HAS_WEAK);
        }
    }

    /// Take the object's entry out, with every target cleared.
    fn clear(&mut self, object: ObjectPtr) -> Cells {
        object.unset(HAS_WEAK);
        let cells = self.0.remove(&object.address().addr()).unwrap_or_default();
        cells.clear_targets();
        cells
    }

    /// How many weak references lead to the object.
    pub(crate) fn count(&self, object: ObjectPtr) -> usize {
        let handles = |cell: &CellPtr| cell.cell().handles.get();
        self.0
            .get(&object.address().addr())
            .map_or(0, |cells| cells.plain.iter().chain(&cells.called).map(handles).sum())
    }

    /// Call `visit` with every cell that is not cleared.
    pub(crate) fn visit(&self, mut visit: impl FnMut(CellPtr)) {
        self.0.values().flat_map(|cells| cells.plain.iter().chain(&cells.called)).for_each(|cell| visit(*cell));
    }
}

/// Clear the weak references to an object, and run no program code.
///
/// # Safety
/// `inner` is the state of the object's heap.
pub(crate) unsafe fn clear(inner: *mut Inner, object: ObjectPtr) {
    // SAFETY: by the caller's word; nothing else is running.
    drop(unsafe { (*inner).weak.clear(object) });
}

/// Clear the weak references to an object that is being freed, then call their callbacks, newest first.
///
/// # Safety
/// `inner` is the state of the object's heap, and stays so.
pub(crate) unsafe fn clear_and_call(inner: *mut Inner, object: ObjectPtr) {
    // SAFETY: by the caller's word; borrowed for one expression.
    let mut cells = unsafe { (*inner).weak.clear(object) };
    // A callback may drop other weak references: they are held until they were called.
    cells.called.iter().for_each(|cell| cell.add_handle());
    while let Some(cell) = cells.called.pop() {
        // SAFETY: by the caller's word.
        unsafe { call(inner, cell) };
    }
}

/// Call a cell's callback and let go of the handle that kept it.
///
/// # Safety
/// `inner` is alive and stays so; one handle of the cell is the caller's.
unsafe fn call(inner: *mut Inner, cell: CellPtr) {
    // SAFETY: by the caller's word.
    unsafe {
        if let Some(callback) = cell.cell().callback.take() {
            guard(inner, || callback(cell));
        }
        guard(inner, || cell.remove_handle());
    }
}

/// A collection found `trash`: clear every weak reference to it, and keep those whose callbacks are to be called: whose
/// handles do not all lie in the trash themselves.
///
/// # Safety
/// `inner` is the state of the heap, and every object of `trash` whole.
pub(crate) unsafe fn clear_trash(inner: *mut Inner, trash: Trash<'_, Model>) {
    let mut called = Vec::new();
    for object in trash.iter().filter(|object| object.has(HAS_WEAK)) {
        // SAFETY: by the caller's word; borrowed for one expression.
        let mut cells = unsafe { (*inner).weak.clear(object) };
        called.extend(take(&mut cells.called).into_iter().rev());
    }
    if called.is_empty() {
        return;
    }
    let visit_cells = |visit: &dyn Fn(&WeakCell)| {
        for object in trash.iter() {
            let mut each = |edge| {
                if let Edge::Weak { cell, .. } = edge {
                    visit(cell.cell());
                }
            };
            // SAFETY: the object is whole.
            unsafe { (object.vtable().trace)(object, &mut Tracer::each(&mut each)) };
        }
    };
    visit_cells(&|cell| cell.met.set(cell.met.get() + 1));
    called.retain(|cell| cell.cell().handles.get() > cell.cell().met.get());
    visit_cells(&|cell| cell.met.set(0));
    called.iter().for_each(|cell| cell.add_handle());
    // SAFETY: by the caller's word.
    unsafe { (*inner).callbacks_due.extend(called) };
}

/// Call the callbacks that [`clear_trash`] kept. Whether there were any.
///
/// # Safety
/// `inner` is alive and stays so.
pub(crate) unsafe fn call_due(inner: *mut Inner) -> bool {
    // SAFETY: by the caller's word; borrowed for one expression each.
    unsafe {
        let due = take(&mut (*inner).callbacks_due);
        let any = !due.is_empty();
        due.into_iter().for_each(|cell| call(inner, cell));
        any
    }
}

/// A reference that keeps nothing alive: empty as soon as the object goes. One word.
///
/// When exactly, in CPython's order: after the object's finalizer (during which [`Weak::upgrade`] still answers, and what it
/// answers resurrects the object), before its value is dropped. Weak references to a cycle that is collected are all cleared
/// before any of its finalizers runs.
pub struct Weak<T> {
    cell: Option<CellPtr>,
    leads_to: PhantomData<*const T>,
}

impl<T> Weak<T> {
    /// One that leads nowhere, for places that get theirs later.
    pub const fn new() -> Weak<T> {
        Weak { cell: None, leads_to: PhantomData }
    }

    fn from_cell(cell: CellPtr) -> Weak<T> {
        Weak { cell: Some(cell), leads_to: PhantomData }
    }

    pub(crate) fn cell(&self) -> Option<CellPtr> {
        self.cell
    }

    pub(crate) fn to(target: &Gc<T>) -> Weak<T> {
        let object = target.object();
        if object.has(DEAD) {
            return Weak::new();
        }
        // SAFETY: the object's heap is alive; borrowed for one expression.
        Weak::from_cell(unsafe { (*object.inner()).weak.plain(object) })
    }

    pub(crate) fn with_callback(target: &Gc<T>, callback: impl FnOnce(&Weak<T>) + 'static) -> Weak<T>
    where
        T: 'static,
    {
        let object = target.object();
        if object.has(DEAD) {
            return Weak::new();
        }
        // The handle that the callback sees is its caller's.
        let callback: Callback = Box::new(move |cell| callback(&ManuallyDrop::new(Weak::from_cell(cell))));
        // SAFETY: as in `to`.
        Weak::from_cell(unsafe { (*object.inner()).weak.add_called(object, callback) })
    }

    /// A handle to the object, if it is still there.
    #[inline]
    pub fn upgrade(&self) -> Option<Gc<T>> {
        let object = self.cell.as_ref()?.cell().target.get()?;
        // One whose count is 0 is about to be freed, or being freed.
        if object.count() == 0 {
            return None;
        }
        object.incref();
        // SAFETY: the target's value has type T, is whole until its weak references are cleared, and was just counted.
        Some(unsafe { Gc::from_object(object) })
    }

    /// Whether [`upgrade`](Weak::upgrade) would answer `None`.
    pub fn is_empty(&self) -> bool {
        self.cell.as_ref().and_then(|cell| cell.cell().target.get()).is_none_or(|object| object.count() == 0)
    }

    /// Whether both lead, or led, to the same object by the same weak reference. Plain weak references to an object all are
    /// the same; one with a callback, and its clones, is one of its own. Two of [`Weak::new`] are the same.
    pub fn ptr_eq(&self, other: &Weak<T>) -> bool {
        self.cell == other.cell
    }
}

impl<T> Clone for Weak<T> {
    fn clone(&self) -> Weak<T> {
        if let Some(cell) = self.cell {
            cell.add_handle();
        }
        Weak { cell: self.cell, leads_to: PhantomData }
    }
}

impl<T> Drop for Weak<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell {
            cell.remove_handle();
        }
    }
}

impl<T> Default for Weak<T> {
    fn default() -> Weak<T> {
        Weak::new()
    }
}

impl<T> fmt::Debug for Weak<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "(Weak, empty)" } else { "(Weak)" })
    }
}
