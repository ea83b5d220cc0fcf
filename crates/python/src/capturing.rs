//! The module's functions for captures, and for what begins them: the watch over the heap, and the socket.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::ptr;

use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::counting::without_arguments;
use crate::module::{exactly, none, text, to_str, unsigned};
use crate::{capture, file_names, profile, socket, watch};

/// `capture_start(path, program)`.
///
/// # Safety
/// Called by the interpreter, with the GIL held; so are all functions here.
pub unsafe extern "C" fn py_capture_start(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let Some(&[path, program]) = exactly(arguments, count) else {
            return ptr::null_mut();
        };
        let (Some(path), Some(program)) = (file_name(path), text(program)) else {
            return ptr::null_mut();
        };
        profile::note_threads();
        let beginning = capture::Beginning { from_here: true, mark: None };
        reason(capture::start(&file_names::with_pid(&path), program, beginning))
    }
}

/// `capture_begin(output, program, is_child)`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_capture_begin(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let Some(&[output, program, is_child]) = exactly(arguments, count) else {
            return ptr::null_mut();
        };
        let (Some(output), Some(program)) = (file_name(output), text(program)) else {
            return ptr::null_mut();
        };
        profile::note_threads();
        let is_child = ffi::PyObject_IsTrue(is_child) == 1;
        reason(capture::begin(&output, &program, is_child, &capture::Beginning::default()).map(drop))
    }
}

/// `capture_defaults(output, program)`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_capture_defaults(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let Some(&[output, program]) = exactly(arguments, count) else {
            return ptr::null_mut();
        };
        let (Some(output), Some(program)) = (file_name(output), text(program)) else {
            return ptr::null_mut();
        };
        capture::set_defaults(output, program);
        none()
    }
}

/// `capture_stop()`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_capture_stop(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        without_arguments(arguments, count, || {
            if capture::path().is_some() {
                profile::note_threads();
            }
            capture::stop();
        })
    }
}

/// `capture_write()`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_capture_write(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        without_arguments(arguments, count, || {
            capture::write_now(None);
        })
    }
}

/// `watch_start(at_heap, on_limit)`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_watch_start(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let Some(&[at_heap, on_limit]) = exactly(arguments, count) else {
            return ptr::null_mut();
        };
        let Some(at_heap_bytes) = unsigned(at_heap) else {
            return ptr::null_mut();
        };
        let at_heap_bytes = usize::try_from(at_heap_bytes).unwrap_or(usize::MAX);
        reason(watch::start(at_heap_bytes, ffi::PyObject_IsTrue(on_limit) == 1))
    }
}

/// `watch_stop()`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_watch_stop(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { without_arguments(arguments, count, watch::stop) }
}

/// `socket_open(path, program, is_child)`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_socket_open(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let Some(&[path, program, is_child]) = exactly(arguments, count) else {
            return ptr::null_mut();
        };
        let (Some(path), Some(program)) = (file_name(path), text(program)) else {
            return ptr::null_mut();
        };
        reason(socket::open(&path, program, ffi::PyObject_IsTrue(is_child) == 1))
    }
}

/// `socket_close()`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_socket_close(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { without_arguments(arguments, count, socket::close) }
}

/// `None`, or the line that says why not.
///
/// # Safety
/// The GIL is held.
unsafe fn reason(answer: Result<(), String>) -> *mut PyObject {
    // SAFETY: by the caller's word.
    unsafe {
        match answer {
            Ok(()) => none(),
            Err(line) => to_str(&line),
        }
    }
}

/// `capture_forget()`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_capture_forget(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        match exactly::<0>(arguments, count) {
            Some([]) => ffi::PyBool_FromLong(capture::forget().into()),
            None => ptr::null_mut(),
        }
    }
}

/// `capture_path()`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_capture_path(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        if exactly::<0>(arguments, count).is_none() {
            return ptr::null_mut();
        }
        match capture::path() {
            Some(path) => {
                let path = path.as_os_str().as_bytes();
                ffi::PyUnicode_DecodeFSDefaultAndSize(path.as_ptr().cast(), path.len() as Py_ssize_t)
            }
            None => none(),
        }
    }
}

/// `capture_mark(name)`.
///
/// # Safety
/// As for [`py_capture_start`].
pub unsafe extern "C" fn py_capture_mark(
    _: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        match exactly(arguments, count).and_then(|&[name]| text(name)) {
            Some(name) => ffi::PyBool_FromLong(capture::mark(name).into()),
            None => ptr::null_mut(),
        }
    }
}

/// The name of a file as the OS knows it; `None` with an exception set for what is none.
///
/// # Safety
/// The GIL is held.
unsafe fn file_name(object: *mut PyObject) -> Option<PathBuf> {
    // SAFETY: by the caller's word; the bytes are copied before their object goes.
    unsafe {
        let bytes = ffi::PyUnicode_EncodeFSDefault(object);
        if bytes.is_null() {
            return None;
        }
        let start = ffi::PyBytes_AsString(bytes).cast::<u8>();
        let name = std::slice::from_raw_parts(start, ffi::PyBytes_Size(bytes) as usize).to_vec();
        ffi::Py_DECREF(bytes);
        Some(PathBuf::from(OsString::from_vec(name)))
    }
}
