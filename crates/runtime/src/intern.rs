//! Interning: one object for all equal values, held weakly.
//!
//! A table from hashes to objects, without counting them. An object in a table has `INTERNED` in its header; whoever frees it
//! sees that, and takes it out first.
//!
//! Invariants:
//! - every entry leads to an object that is not being freed, with `INTERNED`, of the table's type
//! - no code of the program runs while a table is borrowed
//!
//! Called by programs, by freeing (`destroy.rs`) and by collections (`weak.rs`).

use core::borrow::Borrow;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::hash::{BuildHasher, Hash};
use std::hash::RandomState;
use std::rc::Rc;

use hashbrown::HashTable;

use crate::gc::Gc;
use crate::header::{INTERNED, ObjectPtr};
use crate::heap::Heap;
use crate::inner::Inner;
use crate::panics::guard;
use crate::trace::Trace;

struct Entry {
    object: ObjectPtr,
    hash: u64,
}

struct Table<T: 'static> {
    entries: RefCell<HashTable<Entry>>,
    /// Insertions so far.
    version: Cell<u64>,
    state: RandomState,
    value: core::marker::PhantomData<T>,
}

/// What a heap knows of its tables.
pub(crate) trait Interned {
    /// The object is about to be freed: take it out. Its value is whole. May run the program's `Hash`.
    fn forget(&self, inner: *mut Inner, object: ObjectPtr);
    /// Take out what `is_gone`, and run no code of the program.
    fn forget_all(&self, is_gone: &dyn Fn(ObjectPtr) -> bool);
}

impl<T: Trace + Hash + 'static> Interned for Table<T> {
    fn forget(&self, inner: *mut Inner, object: ObjectPtr) {
        if (object.vtable().type_id)() != core::any::TypeId::of::<T>() {
            return;
        }
        let mut hash = None;
        // SAFETY: the state is alive while it frees; the value is whole.
        unsafe { guard(inner, || hash = Some(self.state.hash_one(&*object.value::<T>()))) };
        let mut entries = self.entries.borrow_mut();
        if let Some(hash) = hash
            && let Ok(entry) = entries.find_entry(hash, |entry| entry.object == object)
        {
            entry.remove();
        } else {
            // Its hash is not what it was when it came.
            entries.retain(|entry| entry.object != object);
        }
    }

    fn forget_all(&self, is_gone: &dyn Fn(ObjectPtr) -> bool) {
        self.entries.borrow_mut().retain(|entry| !is_gone(entry.object));
    }
}

/// Take an object that is about to be freed out of its table.
///
/// # Safety
/// `inner` is the state of its heap, and stays so; the value is whole.
pub(crate) unsafe fn forget(inner: *mut Inner, object: ObjectPtr) {
    object.unset(INTERNED);
    // SAFETY: by the caller's word; borrowed for one expression. A `Hash` may make interners and drop them.
    let tables = unsafe { (*inner).interners.clone() };
    tables.iter().for_each(|table| table.forget(inner, object));
}

/// Take the objects that are gone out of their tables. Runs no code of the program.
///
/// # Safety
/// `inner` is alive.
pub(crate) unsafe fn forget_all(inner: *mut Inner, is_gone: impl Fn(ObjectPtr) -> bool) {
    // SAFETY: by the caller's word.
    unsafe { &(*inner).interners }.iter().for_each(|table| table.forget_all(&is_gone));
}

/// What an interner has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InternStats {
    /// Different values that are alive.
    pub distinct: usize,
    /// Values asked for.
    pub requests: u64,
    /// Of these, the ones that were there.
    pub hits: u64,
    /// Bytes that the hits did not allocate: the objects' blocks, and what [`Interner::counting`] says that values own.
    pub saved_bytes: u64,
}

/// Keeps one object for all equal values: asking for a value that is there costs a look-up and no memory, and comparing two
/// interned values is [`Gc::ptr_eq`]. It holds its objects weakly: one that nobody else holds is gone.
///
/// A value's hash and equality must not change while it is interned; if they do, equal values may get objects of their own,
/// and nothing worse. An object that its finalizer resurrects out of a collected cycle is interned no more.
///
/// ```
/// use heapkeeper::{Gc, Heap, Interner};
///
/// let heap = Heap::new();
/// let names = Interner::strings(&heap);
/// let (a, b) = (names.get("lambda"), names.get("lambda"));
/// assert!(Gc::ptr_eq(&a, &b));
/// assert_eq!(names.stats().hits, 1);
/// drop((a, b));
/// assert_eq!(names.stats().distinct, 0);
/// ```
pub struct Interner<T: Trace + Hash + Eq + 'static> {
    heap: Heap,
    table: Rc<Table<T>>,
    owned_bytes: fn(&T) -> usize,
    stats: Cell<InternStats>,
}

impl Interner<Box<str>> {
    /// For strings. Their bytes count as saved.
    pub fn strings(heap: &Heap) -> Interner<Box<str>> {
        Interner::counting(heap, |text| text.len())
    }
}

impl<T: Trace + Hash + Eq + 'static> Interner<T> {
    /// For values that own nothing outside the heap.
    pub fn new(heap: &Heap) -> Interner<T> {
        Interner::counting(heap, |_| 0)
    }

    /// For values that own so many bytes outside the heap: for [`InternStats::saved_bytes`].
    pub fn counting(heap: &Heap, owned_bytes: fn(&T) -> usize) -> Interner<T> {
        let table = Rc::new(Table {
            entries: RefCell::default(),
            version: Cell::new(0),
            state: RandomState::new(),
            value: core::marker::PhantomData,
        });
        // SAFETY: the state is alive as long as a `Heap`; borrowed for one expression.
        unsafe { (*heap.inner()).interners.push(table.clone()) };
        Interner { heap: heap.clone(), table, owned_bytes, stats: Cell::default() }
    }

    /// The object for a value like this one. If there is none, it is made of the value.
    ///
    /// # Panics
    /// As [`Heap::alloc`], and with what the value's `Hash` and `Eq` panic with.
    pub fn intern(&self, value: T) -> Gc<T> {
        self.find_or_make(value, |value| value, |value| value)
    }

    /// The object for a value like `borrowed`. Only if there is none, a value is made.
    ///
    /// # Panics
    /// As [`Interner::intern`].
    pub fn get<Q>(&self, borrowed: &Q) -> Gc<T>
    where
        T: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.find_or_make(borrowed, |borrowed| *borrowed, |borrowed| T::from(borrowed))
    }

    /// The object for a value like `borrowed`, if there is one.
    pub fn find<Q>(&self, borrowed: &Q) -> Option<Gc<T>>
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lookup(self.table.state.hash_one(borrowed), borrowed)
    }

    /// What it has done so far.
    pub fn stats(&self) -> InternStats {
        InternStats { distinct: self.table.entries.borrow().len(), ..self.stats.get() }
    }

    fn find_or_make<S, Q>(&self, source: S, key: impl Fn(&S) -> &Q, make: impl FnOnce(S) -> T) -> Gc<T>
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.table.state.hash_one(key(&source));
        let mut stats = self.stats.get();
        stats.requests += 1;
        self.stats.set(stats);
        if let Some(found) = self.lookup(hash, key(&source)) {
            return self.hit(found);
        }
        let version = self.table.version.get();
        let made = self.heap.alloc(make(source));
        // A collection may have run code that asked for the same value.
        if self.table.version.get() != version
            && let Some(found) = self.lookup(hash, (*made).borrow())
        {
            return self.hit(found);
        }
        let object = made.object();
        object.set(INTERNED);
        self.table.entries.borrow_mut().insert_unique(hash, Entry { object, hash }, |entry| entry.hash);
        self.table.version.set(version.wrapping_add(1));
        made
    }

    fn hit(&self, found: Gc<T>) -> Gc<T> {
        let mut stats = self.stats.get();
        stats.hits += 1;
        let block_bytes = crate::header::Object::<T>::BYTES.next_multiple_of(16);
        stats.saved_bytes += (block_bytes + (self.owned_bytes)(&found)) as u64;
        self.stats.set(stats);
        found
    }

    fn lookup<Q>(&self, hash: u64, wanted: &Q) -> Option<Gc<T>>
    where
        T: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        // Handles first, comparing afterwards: a comparison may free objects.
        let (mut first, mut more) = (None, Vec::new());
        for entry in self.table.entries.borrow().iter_hash(hash) {
            if entry.hash == hash && entry.object.count() != 0 {
                entry.object.incref();
                // SAFETY: entries lead to objects of this type that are not being freed; just counted.
                let candidate = unsafe { Gc::<T>::from_object(entry.object) };
                if first.is_none() {
                    first = Some(candidate);
                } else {
                    more.push(candidate);
                }
            }
        }
        first.into_iter().chain(more).find(|candidate| (**candidate).borrow() == wanted)
    }
}

impl<T: Trace + Hash + Eq + 'static> Drop for Interner<T> {
    fn drop(&mut self) {
        let table: Rc<dyn Interned> = self.table.clone();
        self.table.entries.borrow_mut().drain().for_each(|entry| entry.object.unset(INTERNED));
        // SAFETY: the interner holds a `Heap`; borrowed for one expression, which runs no code of the program.
        unsafe { (*self.heap.inner()).interners.retain(|known| !Rc::ptr_eq(known, &table)) };
    }
}

impl<T: Trace + Hash + Eq + 'static> fmt::Debug for Interner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interner").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
