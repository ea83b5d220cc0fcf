//! A handle to an object of whatever type.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use heapkeeper_gc::Generation;

use crate::destroy;
use crate::gc::Gc;
use crate::header::{DEAD, FREED, HEADER_BYTES, Header, ObjectPtr};
use crate::heap::Heap;
use crate::trace::{Trace, Tracer};

/// A counted handle to an object whose type is known at run time only: what [`Heap::objects`] and its like answer.
pub struct AnyGc(NonNull<Header>);

impl AnyGc {
    /// One more handle to the object.
    pub(crate) fn to(object: ObjectPtr) -> AnyGc {
        object.incref();
        // SAFETY: a pointer to a header is not null.
        AnyGc(unsafe { NonNull::new_unchecked(object.header()) })
    }

    #[inline]
    pub(crate) fn object(&self) -> ObjectPtr {
        // SAFETY: the block is allocated while there is a handle.
        unsafe { ObjectPtr::new(self.0.as_ptr()) }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &'static str {
        (self.object().vtable().type_name)()
    }

    /// A handle of the value's type, if that is `T`.
    pub fn downcast<T: 'static>(&self) -> Option<Gc<T>> {
        let object = self.object();
        if (object.vtable().type_id)() != core::any::TypeId::of::<T>() {
            return None;
        }
        object.incref();
        // SAFETY: the value has type T; just counted.
        Some(unsafe { Gc::from_object(object) })
    }

    /// Whether this is a handle to the same object.
    pub fn is<T>(&self, other: &Gc<T>) -> bool {
        self.object() == other.object()
    }

    /// See [`Gc::refcount`].
    pub fn refcount(&self) -> usize {
        self.object().refcount()
    }

    /// See [`Gc::generation`].
    pub fn generation(&self) -> Option<Generation> {
        self.object().generation()
    }

    /// See [`Gc::is_dead`].
    pub fn is_dead(&self) -> bool {
        self.object().has(DEAD)
    }

    /// See [`Gc::heap`].
    pub fn heap(&self) -> Heap {
        // SAFETY: the state is alive as long as its objects.
        unsafe { Heap::again(self.object().inner()) }
    }

    /// Bytes of the object, header included.
    pub fn object_bytes(&self) -> usize {
        HEADER_BYTES + self.object().vtable().value_bytes
    }
}

impl<T> From<Gc<T>> for AnyGc {
    fn from(handle: Gc<T>) -> AnyGc {
        // The count goes over.
        let handle = ManuallyDrop::new(handle);
        // SAFETY: a pointer to a header is not null.
        AnyGc(unsafe { NonNull::new_unchecked(handle.object().header()) })
    }
}

impl Clone for AnyGc {
    fn clone(&self) -> AnyGc {
        AnyGc::to(self.object())
    }
}

impl Drop for AnyGc {
    fn drop(&mut self) {
        debug_assert!(!self.object().has(FREED), "a handle to freed memory");
        // SAFETY: this handle was counted, and ends here.
        unsafe { destroy::release_any(self.object()) };
    }
}

impl PartialEq for AnyGc {
    /// Whether both are handles to the same object.
    fn eq(&self, other: &AnyGc) -> bool {
        self.0 == other.0
    }
}

impl Eq for AnyGc {}

impl fmt::Debug for AnyGc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:p}", self.type_name(), self.object().address())
    }
}

// SAFETY: a handle owns one reference, to this object.
unsafe impl Trace for AnyGc {
    #[inline(always)]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        tracer.visit_object(self.object(), (&raw const *self).cast());
    }
}
