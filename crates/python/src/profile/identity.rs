//! What tells one code object from another in a report.
//!
//! A program may compile the same source over and over: templates, `namedtuple`, `eval`. Its code objects come and go, and
//! keeping each one that was ever sampled would be a leak of our own. Two code objects with the same file, name, first line
//! and line table give the same answers to all that a report asks, so the first of them stands for both.
//!
//! Invariant: only loads from objects that the code object keeps alive. Nothing is called, allocated or referenced.

use core::hash::Hasher;
use std::hash::DefaultHasher;

use pyo3_ffi as ffi;

use crate::layout::Layout;

/// A hash of all that a report says of `code`. 64 bits of SipHash: of `MAX_CODES` code objects, two share one by chance
/// once in 10^10 programs.
///
/// # Safety
/// `code` is a code object, the GIL is held, and the layout has been checked.
pub(super) unsafe fn of_code(code: *mut ffi::PyCodeObject) -> u64 {
    let layout = Layout::get();
    let mut hasher = DefaultHasher::new();
    // SAFETY: the layout says where these fields of a code object are; they are objects, and alive with it.
    unsafe {
        let at = |offset_bytes: u32| code.cast::<u8>().add(offset_bytes as usize);
        for field in [layout.code_filename, layout.code_name, layout.code_linetable] {
            write_object(&mut hasher, at(field).cast::<*mut ffi::PyObject>().read());
        }
        hasher.write_i32(at(layout.code_firstlineno).cast::<i32>().read());
    }
    hasher.finish()
}

/// A hash for an interpreter as a whole.
pub(super) fn of_interpreter(number: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(b"interpreter");
    hasher.write_i64(number);
    hasher.finish()
}

/// # Safety
/// `object` is an object or null, and the GIL is held.
unsafe fn write_object(hasher: &mut DefaultHasher, object: *mut ffi::PyObject) {
    // SAFETY: the checks look at the object's type; each arm reads what that type has.
    unsafe {
        if !object.is_null() && ffi::PyBytes_Check(object) != 0 {
            let bytes = (&raw const (*object.cast::<ffi::PyBytesObject>()).ob_sval).cast::<u8>();
            write_bytes(hasher, bytes, ffi::Py_SIZE(object) as usize);
        } else if !object.is_null() && ffi::PyUnicode_Check(object) != 0 && is_ready(object) {
            let bytes = ffi::PyUnicode_DATA(object).cast::<u8>();
            let kind = ffi::PyUnicode_KIND(object);
            hasher.write_u32(kind);
            write_bytes(hasher, bytes, ffi::PyUnicode_GET_LENGTH(object) as usize * kind as usize);
        } else {
            hasher.write_usize(object.addr());
        }
    }
}

/// Whether a `str` has its characters in place: always since 3.12.
///
/// # Safety
/// `text` is a `str`, and the GIL is held.
#[cfg_attr(Py_3_12, expect(unused_variables))]
pub(super) unsafe fn is_ready(text: *mut ffi::PyObject) -> bool {
    #[cfg(Py_3_12)]
    let ready = true;
    // SAFETY: the caller's promise.
    #[cfg(not(Py_3_12))]
    let ready = unsafe { ffi::PyUnicode_IS_READY(text) } != 0;
    ready
}

/// # Safety
/// There are `len` bytes at `bytes`.
unsafe fn write_bytes(hasher: &mut DefaultHasher, bytes: *const u8, len: usize) {
    hasher.write_usize(len);
    // SAFETY: the caller's promise.
    hasher.write(unsafe { core::slice::from_raw_parts(bytes, len) });
}
