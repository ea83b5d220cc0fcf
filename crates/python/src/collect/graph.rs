//! CPython's objects as the search sees them: counts from the object's header, children from `tp_traverse`.
//!
//! Nothing is written to an object, nobody's Python code runs. Tuples and lists are read directly; everything else is asked.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr;

use heapkeeper_gc::{Graph, Visitor, prefetch};
use pyo3_ffi::{self as ffi, PyObject};

/// A tracked object, or what one refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectPtr(pub *mut PyObject);

/// The objects of an interpreter, while its GIL is held and none of its code runs.
pub struct Objects {
    tuple: *mut ffi::PyTypeObject,
    list: *mut ffi::PyTypeObject,
    dict: *mut ffi::PyTypeObject,
    /// Tuples and dicts found alive that refer to no candidate: they may not need to be tracked. `None` where nobody asks.
    plain: Option<UnsafeCell<Vec<*mut PyObject>>>,
}

impl Objects {
    pub fn new() -> Objects {
        Objects {
            tuple: &raw mut ffi::PyTuple_Type,
            list: &raw mut ffi::PyList_Type,
            dict: &raw mut ffi::PyDict_Type,
            plain: None,
        }
    }

    /// The same, noting those that refer to no candidate.
    pub fn noting_plain() -> Objects {
        Objects { plain: Some(UnsafeCell::default()), ..Objects::new() }
    }

    /// Tuples and dicts that refer to no candidate, as far as they were traced.
    pub fn into_plain(self) -> Vec<*mut PyObject> {
        self.plain.map(UnsafeCell::into_inner).unwrap_or_default()
    }

    #[cold]
    fn note_plain(&self, object: *mut PyObject) {
        let Some(plain) = &self.plain else { return };
        // SAFETY: one thread searches, and nobody holds a reference to the list.
        let plain = unsafe { &mut *plain.get() };
        // Without memory it stays tracked: the next collection may see to it.
        if plain.try_reserve(1).is_ok() {
            plain.push(object);
        }
    }

    /// # Safety
    /// `items` is the start of `length` references, some of them null.
    #[inline(always)]
    unsafe fn visit_items<V: Visitor<ObjectPtr>>(items: *mut *mut PyObject, length: usize, visitor: &mut V) {
        for i in 0..length {
            // SAFETY: by the caller's word.
            let item = unsafe { items.add(i).read() };
            if !item.is_null() {
                visitor.visit(ObjectPtr(item));
            }
        }
    }

    #[inline(always)]
    fn trace_with<V: Visitor<ObjectPtr>>(&self, object: *mut PyObject, visitor: &mut V) {
        // SAFETY: the object is alive, its type has the GC flag, and the layouts of tuple and list are public.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == self.tuple {
                let tuple = object.cast::<ffi::PyTupleObject>();
                let (items, length) = ((&raw mut (*tuple).ob_item).cast(), ffi::Py_SIZE(object) as usize);
                Self::visit_items(items, length, visitor);
                let item = |i: usize| ObjectPtr(items.add(i).read());
                if !(0..length).any(|i| visitor.is_candidate(item(i))) {
                    self.note_plain(object);
                }
            } else if kind == self.list {
                let list = object.cast::<ffi::PyListObject>();
                Self::visit_items((*list).ob_item, ffi::Py_SIZE(object) as usize, visitor);
            } else if kind == self.dict {
                let mut search = SawCandidate { visitor, saw: false };
                visit_children(object, kind, &mut search);
                if !search.saw {
                    self.note_plain(object);
                }
            } else {
                visit_children(object, kind, visitor);
            }
        }
    }
}

/// Passes on, and looks out for candidates.
struct SawCandidate<'a, V> {
    visitor: &'a mut V,
    saw: bool,
}

impl<V: Visitor<ObjectPtr>> Visitor<ObjectPtr> for SawCandidate<'_, V> {
    #[inline(always)]
    fn visit(&mut self, child: ObjectPtr) {
        self.saw = self.saw || self.visitor.is_candidate(child);
        self.visitor.visit(child);
    }
}

/// # Safety
/// `object` is alive and of the type `kind`, which has the GC flag.
#[inline(always)]
unsafe fn visit_children<V: Visitor<ObjectPtr>>(object: *mut PyObject, kind: *mut ffi::PyTypeObject, visitor: &mut V) {
    // SAFETY: by the caller's word; the visitor outlives the call, which knows it by this type.
    unsafe {
        if let Some(traverse) = (*kind).tp_traverse {
            traverse(object, visit::<V>, ptr::from_mut(visitor).cast());
        }
    }
}

unsafe extern "C" fn visit<V: Visitor<ObjectPtr>>(child: *mut PyObject, visitor: *mut c_void) -> c_int {
    if !child.is_null() {
        // SAFETY: `visit_children` passed a visitor of this type, and does not use it meanwhile.
        unsafe { (*visitor.cast::<V>()).visit(ObjectPtr(child)) };
    }
    0
}

// SAFETY: each counted reference is one that the object's `tp_traverse` names, as CPython's own collector relies upon, and
// both leave objects alone. A type that names too many is found out by `--gc verify`.
unsafe impl Graph for Objects {
    type Ref = ObjectPtr;

    #[inline(always)]
    fn address(object: ObjectPtr) -> *mut u8 {
        object.0.cast()
    }

    #[inline(always)]
    unsafe fn at(address: *mut u8) -> ObjectPtr {
        ObjectPtr(address.cast())
    }

    #[inline(always)]
    fn refcount(&self, object: ObjectPtr) -> usize {
        // SAFETY: the object is alive.
        unsafe { ffi::Py_REFCNT(object.0) as usize }
    }

    #[inline(always)]
    fn trace(&self, object: ObjectPtr, visitor: &mut impl Visitor<ObjectPtr>) {
        self.trace_with(object.0, visitor);
    }

    #[inline(always)]
    fn fetch(&self, object: ObjectPtr) {
        let object = object.0;
        // SAFETY: the object is alive, and the layouts of list and dict are public.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == self.list {
                let list = object.cast::<ffi::PyListObject>();
                let items_bytes = (ffi::Py_SIZE(object) as usize).saturating_mul(size_of::<*mut PyObject>());
                ask_for((*list).ob_item.cast(), items_bytes.min(MAX_ASKED_BYTES));
            } else if kind == self.dict {
                let dict = object.cast::<ffi::PyDictObject>();
                // A table of few entries begins on the first of these lines and ends on the second.
                ask_for((*dict).ma_keys.cast(), 2 * LINE_BYTES);
            }
        }
    }
}

const LINE_BYTES: usize = 64;
/// Of a long list, as much as will have come when it is traced; the processor sees by itself where that goes on.
const MAX_ASKED_BYTES: usize = 4 * LINE_BYTES;

/// The lines of so many bytes from `start`.
#[inline(always)]
fn ask_for(start: *const u8, bytes: usize) {
    (0..bytes).step_by(LINE_BYTES).for_each(|line| prefetch(start.wrapping_add(line)));
}

/// `_Py_IsImmortal`, Include/object.h, 3.12 and 3.13 on 64 bits.
#[inline(always)]
pub unsafe fn is_immortal(object: *mut PyObject) -> bool {
    // SAFETY: the object is alive.
    cfg!(Py_3_12) && (unsafe { ffi::Py_REFCNT(object) } as i32) < 0
}

/// Whether an object might be part of a cycle, as CPython asks before it stops tracking what refers to it
/// (`_PyObject_GC_MAY_BE_TRACKED`, Include/internal/pycore_object.h, 3.10 to 3.13).
///
/// # Safety
/// `object` is alive; the GIL is held.
unsafe fn may_be_tracked(object: *mut PyObject) -> bool {
    // SAFETY: by the caller's word.
    unsafe {
        ffi::PyObject_IS_GC(object) != 0
            && (ffi::PyTuple_CheckExact(object) == 0 || ffi::PyObject_GC_IsTracked(object) != 0)
    }
}

/// Stop tracking a tuple or dict that can have no part in cycles, as CPython does for those that a full collection finds
/// alive (`untrack_tuples`, `untrack_dicts`, Modules/gcmodule.c or Python/gc.c, 3.10 to 3.13). Whether it did.
///
/// # Safety
/// `object` is a live tuple or dict that is tracked; the GIL is held.
pub unsafe fn untrack_if_plain(object: *mut PyObject) -> bool {
    // SAFETY: by the caller's word; a tuple that is still being filled has null items.
    unsafe {
        if ffi::PyTuple_CheckExact(object) != 0 {
            for i in 0..ffi::Py_SIZE(object) {
                let item = ffi::PyTuple_GET_ITEM(object, i);
                if item.is_null() || may_be_tracked(item) {
                    return false;
                }
            }
        } else {
            let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
            while ffi::PyDict_Next(object, &mut position, &mut key, &mut value) != 0 {
                // With the values beside their keys, in an instance's dict, CPython looks at the values only: there the
                // keys are strings.
                if may_be_tracked(value) || may_be_tracked(key) {
                    return false;
                }
            }
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        true
    }
}
