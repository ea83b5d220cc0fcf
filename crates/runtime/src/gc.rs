//! The handle.
//!
//! Invariant: each handle is counted once in its object's header, and the block is allocated while the count is above 0.
//! **Dead** objects, whose values the collector has dropped, may have handles too, in values that are being dropped with
//! them: so every way to a value asks first.

use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use heapkeeper_gc::Generation;

use crate::destroy;
use crate::header::{DEAD, FREED, Header, Object, ObjectPtr};
use crate::heap::Heap;
use crate::weak::Weak;

/// A counted handle to a value on a [`Heap`]: one word. The value is freed at once when the last handle goes, and by a
/// collection when only a cycle holds it.
///
/// It stays on its thread, like [`Rc`](std::rc::Rc), and like there the value can be changed through cells only. Functions of
/// the handle itself are called as `Gc::refcount(&handle)`, so that they never hide the value's.
///
/// # Dead values
/// When a cycle is collected its values are dropped one after the other. A `Drop` among them may look at a neighbour that is
/// gone already: [`Deref`] **panics** then; [`Gc::try_get`] and [`Gc::is_dead`] tell. Nobody else can see such a value. A
/// [`Finalize`](crate::Finalize) runs before any of them is dropped, and sees them all.
pub struct Gc<T> {
    object: NonNull<Header>,
    owns: PhantomData<T>,
}

impl<T> Gc<T> {
    /// # Safety
    /// The object's value has type `T`; one count is this handle's.
    #[inline(always)]
    pub(crate) unsafe fn from_object(object: ObjectPtr) -> Gc<T> {
        // SAFETY: a pointer to a header is not null.
        Gc { object: unsafe { NonNull::new_unchecked(object.header()) }, owns: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn object(&self) -> ObjectPtr {
        // SAFETY: the block is allocated while there is a handle.
        unsafe { ObjectPtr::new(self.object.as_ptr()) }
    }

    /// The value, unless it is [dead](Gc#dead-values).
    #[inline]
    pub fn try_get(this: &Gc<T>) -> Option<&T> {
        let object = this.object();
        debug_assert!(!object.has(FREED), "a handle to freed memory");
        // SAFETY: the value is whole unless the object is dead, and is dropped only when no handle is left, or by a
        // collection, which runs when no code but the trash's own can reach it.
        (!object.has(DEAD)).then(|| unsafe { &(*object.header().cast::<Object<T>>()).value })
    }

    /// Whether the value was dropped by a collection that is still running, or was kept by a `Drop` in such a one.
    #[inline]
    pub fn is_dead(this: &Gc<T>) -> bool {
        this.object().has(DEAD)
    }

    /// How many handles there are. Those of temporaries count as well. Half of `usize::MAX` for an object that had 2³¹
    /// handles once: it is never freed.
    #[inline]
    pub fn refcount(this: &Gc<T>) -> usize {
        this.object().refcount()
    }

    /// Whether both are handles to the same object.
    #[inline]
    pub fn ptr_eq(this: &Gc<T>, other: &Gc<T>) -> bool {
        this.object == other.object
    }

    /// A weak reference to the object. It is empty already if the object is [dead](Gc#dead-values).
    pub fn downgrade(this: &Gc<T>) -> Weak<T> {
        Weak::to(this)
    }

    /// A weak reference whose `callback` is called once, right after the object is gone, if the weak reference is still
    /// there. It gets the weak reference, which is empty by then.
    ///
    /// If several are registered for an object, the newest is called first. What the callback owns stays alive as long as
    /// the weak reference: a handle to the object itself would keep it for good.
    pub fn downgrade_with(this: &Gc<T>, callback: impl FnOnce(&Weak<T>) + 'static) -> Weak<T>
    where
        T: 'static,
    {
        Weak::with_callback(this, callback)
    }

    /// Whether collections consider the object. Not so for types that can hold no handle, and for [dead](Gc#dead-values)
    /// ones.
    #[inline]
    pub fn is_tracked(this: &Gc<T>) -> bool {
        this.object().is_tracked()
    }

    /// The generation of a tracked object.
    #[inline]
    pub fn generation(this: &Gc<T>) -> Option<Generation> {
        this.object().generation()
    }

    /// The heap that the object lives on.
    pub fn heap(this: &Gc<T>) -> Heap {
        // SAFETY: the state is alive as long as its objects.
        unsafe { Heap::again(this.object().inner()) }
    }

    /// The value's address: that of no other object of the process, as long as there is a handle.
    #[inline]
    pub fn as_ptr(this: &Gc<T>) -> *const T {
        this.object().value()
    }
}

#[cold]
#[inline(never)]
fn dead_value(type_name: &str) -> ! {
    panic!(
        "this {type_name} is dead: it was part of a cycle that is being collected, and was dropped before the value that \
         asks for it. In a Drop, ask Gc::is_dead or Gc::try_get first, or do the work in a Finalize, which sees all of the cycle"
    );
}

impl<T> Deref for Gc<T> {
    type Target = T;

    /// # Panics
    /// If the value is [dead](Gc#dead-values).
    #[inline(always)]
    fn deref(&self) -> &T {
        match Gc::try_get(self) {
            Some(value) => value,
            None => dead_value(core::any::type_name::<T>()),
        }
    }
}

impl<T> Clone for Gc<T> {
    #[inline(always)]
    fn clone(&self) -> Gc<T> {
        self.object().incref();
        Gc { object: self.object, owns: PhantomData }
    }
}

impl<T> Drop for Gc<T> {
    #[inline(always)]
    fn drop(&mut self) {
        let object = self.object();
        debug_assert!(!object.has(FREED), "a handle to freed memory");
        // SAFETY: this handle was counted, and ends here.
        unsafe { destroy::release::<T>(object) };
    }
}

impl<T> AsRef<T> for Gc<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T> Borrow<T> for Gc<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for Gc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Gc::try_get(self) {
            Some(value) => value.fmt(f),
            None => f.write_str("(dead)"),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Gc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> fmt::Pointer for Gc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Gc::as_ptr(self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Gc<T> {
    fn eq(&self, other: &Gc<T>) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Gc<T> {}

impl<T: PartialOrd> PartialOrd for Gc<T> {
    fn partial_cmp(&self, other: &Gc<T>) -> Option<Ordering> {
        (**self).partial_cmp(other)
    }
}

impl<T: Ord> Ord for Gc<T> {
    fn cmp(&self, other: &Gc<T>) -> Ordering {
        (**self).cmp(other)
    }
}

impl<T: Hash> Hash for Gc<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
