//! `heapkeeper.where(obj)`: where one object lives.

use std::ffi::CStr;

use heapkeeper_heap::Tier;
use pyo3_ffi::{self as ffi, PyObject};

use crate::{hosts, interpreter};

/// Fill a dict with what is known of `object`'s place. Null with an exception set on failure.
///
/// Keys: `address`, `type`, `owner` ("heapkeeper", "cpython" or "static"), `refcount`, `immortal`, `interned`, and for
/// objects of ours `heap`, `arena`, `tier` ("block", "span"), `block_bytes`, `offset_bytes` (of the object in its block:
/// collector header and managed dict come before it), and for blocks `size_class`, `pool`, `block`.
///
/// # Safety
/// `object` is a live object, the GIL is held.
pub unsafe fn place(object: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held; `dict` is ours until returned.
    unsafe {
        let dict = ffi::PyDict_New();
        if dict.is_null() {
            return dict;
        }
        if fill(dict, object).is_none() {
            ffi::Py_DECREF(dict);
            return std::ptr::null_mut();
        }
        dict
    }
}

/// # Safety
/// As for [`place`]; `dict` is a dict.
unsafe fn fill(dict: *mut PyObject, object: *mut PyObject) -> Option<()> {
    // SAFETY: the GIL is held; each helper says what it needs.
    unsafe {
        let address = object.addr();
        // The caller's argument is one of the references: as with sys.getrefcount, it is not counted here.
        let refcount = ffi::Py_REFCNT(object);
        let type_name = CStr::from_ptr((*ffi::Py_TYPE(object)).tp_name);
        set(dict, c"address", ffi::PyLong_FromSize_t(address))?;
        set(dict, c"type", ffi::PyUnicode_FromString(type_name.as_ptr()))?;
        set(dict, c"refcount", ffi::PyLong_FromSsize_t(refcount))?;
        set(dict, c"immortal", ffi::PyBool_FromLong(interpreter::is_immortal(object).into()))?;
        set(dict, c"interned", ffi::PyBool_FromLong(interpreter::is_interned(object).into()))?;
        let place = hosts::range().and_then(|range| range.locate(object.cast()));
        let owner = match place {
            Some(_) => c"heapkeeper",
            None if interpreter::in_image(object.cast()) => c"static",
            None => c"cpython",
        };
        set(dict, c"owner", ffi::PyUnicode_FromString(owner.as_ptr()))?;
        let Some(place) = place else {
            return Some(());
        };
        set_number(dict, c"heap", place.heap.into())?;
        set_number(dict, c"arena", place.arena)?;
        set_number(dict, c"block_bytes", place.block_bytes)?;
        set_number(dict, c"offset_bytes", address - place.start)?;
        let tier = match place.tier {
            Tier::Block { class, pool, index } => {
                set_number(dict, c"size_class", class.index())?;
                set_number(dict, c"pool", pool)?;
                set_number(dict, c"block", index)?;
                c"block"
            }
            _ => c"span",
        };
        set(dict, c"tier", ffi::PyUnicode_FromString(tier.as_ptr()))
    }
}

/// # Safety
/// The GIL is held.
unsafe fn set_number(dict: *mut PyObject, key: &CStr, value: usize) -> Option<()> {
    // SAFETY: the GIL is held.
    unsafe { set(dict, key, ffi::PyLong_FromSize_t(value)) }
}

/// Store `value`, whose reference is taken over; `None` if it is null or the store fails.
///
/// # Safety
/// The GIL is held.
unsafe fn set(dict: *mut PyObject, key: &CStr, value: *mut PyObject) -> Option<()> {
    if value.is_null() {
        return None;
    }
    // SAFETY: the GIL is held, `value` is ours.
    unsafe {
        let stored = ffi::PyDict_SetItemString(dict, key.as_ptr(), value);
        ffi::Py_DECREF(value);
        (stored == 0).then_some(())
    }
}
