//! Questions about the interpreter that is running: whose thread this is, and what belongs to the interpreter itself.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use pyo3_ffi as ffi;

use crate::frames::{self, Domain, Interpreter};
use crate::image::Image;
use crate::layout::Layout;

/// Whether interpreters can have allocators of their own: since 3.12.
pub const MAY_HAVE_ALLOCATORS: bool = cfg!(Py_3_12);

/// Whether the interpreter is ending: `Py_FinalizeEx` runs.
pub fn is_ending() -> bool {
    unsafe extern "C" {
        #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
        fn Py_IsFinalizing() -> c_int;
    }
    // SAFETY: no conditions; exported by 3.10 to 3.12 under the one name (Include/cpython/pylifecycle.h), by 3.13 under the other.
    unsafe { Py_IsFinalizing() != 0 }
}

/// Whether this process has more interpreters than one: the newest is the first of their list, the main one the last.
pub fn are_several() -> bool {
    // SAFETY: no conditions; nothing is followed, so this needs neither the GIL nor the list's lock.
    unsafe { ffi::PyInterpreterState_Head() != ffi::PyInterpreterState_Main() }
}

/// The interpreter of the calling thread, if that needs a heap of its own: `Some(null)` if the thread has no thread state,
/// `None` if the main heap serves it.
///
/// Called from the mem and object domains.
#[inline]
pub fn separate() -> Option<*mut ffi::PyInterpreterState> {
    let state = frames::current_thread_state(Domain::Object);
    if state.is_null() {
        return Some(ptr::null_mut());
    }
    // SAFETY: the thread's own state, with the layout checked before any hook was installed.
    unsafe {
        match frames::interpreter(Layout::get(), state) {
            Interpreter::Shared => None,
            Interpreter::Own(_) => Some(ffi::PyThreadState_GetInterpreter(state)),
        }
    }
}

/// Whether this thread may use the main heap: it holds the GIL of an interpreter that the main heap serves.
pub fn may_use_main() -> bool {
    let state = frames::current_thread_state(Domain::Raw);
    // SAFETY: as above.
    !state.is_null() && unsafe { frames::interpreter(Layout::get(), state) } == Interpreter::Shared
}

/// Whether an address lies in the interpreter's own image: its code and its static data.
pub fn in_image(address: *const c_void) -> bool {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| Image::of(ffi::PyMem_SetAllocator as *const c_void));
    image.as_ref().is_some_and(|image| image.contains(address))
}

/// Whether an object lives for ever: its reference count does not change (3.12+).
///
/// # Safety
/// `object` is a live object.
pub unsafe fn is_immortal(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's promise. Immortal counts are 2^32 - 1 in 3.12 and 3.13 (Include/object.h, _Py_IMMORTAL_REFCNT).
    cfg!(Py_3_12) && unsafe { ffi::Py_REFCNT(object) } >= 1 << 30
}

/// Whether an object is an interned string.
///
/// # Safety
/// `object` is a live object, the GIL is held, no exception is set.
#[cfg(not(Py_3_13))]
pub unsafe fn is_interned(object: *mut ffi::PyObject) -> bool {
    // SAFETY: every `str` starts with a PyASCIIObject.
    unsafe { ffi::PyUnicode_Check(object) != 0 && (*object.cast::<ffi::PyASCIIObject>()).interned() != 0 }
}

/// Whether an object is an interned string: `sys._is_interned` says so since 3.13.
///
/// # Safety
/// `object` is a live object, the GIL is held, no exception is set.
#[cfg(Py_3_13)]
pub unsafe fn is_interned(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the GIL is held; the function is borrowed from `sys`, its answer is ours.
    unsafe {
        let function = ffi::PySys_GetObject(c"_is_interned".as_ptr());
        if function.is_null() || ffi::PyUnicode_Check(object) == 0 {
            return false;
        }
        let answer = ffi::PyObject_CallOneArg(function, object);
        if answer.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        let interned = answer == ffi::Py_True();
        ffi::Py_DECREF(answer);
        interned
    }
}
