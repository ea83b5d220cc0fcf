//! The module's functions for captures, and for what begins them: the watch over the heap, and the socket.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::ptr;

use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::module::{native, none, text, to_str, unsigned};
use crate::{capture, file_names, profile, socket, watch};

native! {
    /// `capture_start(path, program)`.
    fn py_capture_start(path, program) {
        let (Some(path), Some(program)) = (file_name(path), text(program)) else {
            return ptr::null_mut();
        };
        profile::note_threads();
        let beginning = capture::Beginning { from_here: true, mark: None };
        reason(capture::start(&file_names::with_pid(&path), program, beginning))
    }
}

native! {
    /// `capture_begin(output, program, is_child)`.
    fn py_capture_begin(output, program, is_child) {
        let (Some(output), Some(program)) = (file_name(output), text(program)) else {
            return ptr::null_mut();
        };
        profile::note_threads();
        let is_child = ffi::PyObject_IsTrue(is_child) == 1;
        reason(capture::begin(&output, &program, is_child, &capture::Beginning::default()).map(drop))
    }
}

native! {
    /// `capture_defaults(output, program)`.
    fn py_capture_defaults(output, program) {
        let (Some(output), Some(program)) = (file_name(output), text(program)) else {
            return ptr::null_mut();
        };
        capture::set_defaults(output, program);
        none()
    }
}

native! {
    /// `capture_stop(is_exit)`.
    fn py_capture_stop(is_exit) {
        if capture::path().is_some() {
            profile::note_threads();
        }
        let is_exit = ffi::PyObject_IsTrue(is_exit) == 1;
        capture::stop(if is_exit { capture::End::Exit } else { capture::End::Stop });
        none()
    }
}

native! {
    /// `capture_write()`.
    fn py_capture_write() {
        capture::write_now(None);
        none()
    }
}

native! {
    /// `watch_start(at_heap, on_limit)`.
    fn py_watch_start(at_heap, on_limit) {
        let Some(at_heap_bytes) = unsigned(at_heap) else {
            return ptr::null_mut();
        };
        let at_heap_bytes = usize::try_from(at_heap_bytes).unwrap_or(usize::MAX);
        reason(watch::start(at_heap_bytes, ffi::PyObject_IsTrue(on_limit) == 1))
    }
}

native! {
    /// `watch_stop()`.
    fn py_watch_stop() {
        watch::stop();
        none()
    }
}

native! {
    /// `socket_open(path, program, is_child)`.
    fn py_socket_open(path, program, is_child) {
        let (Some(path), Some(program)) = (file_name(path), text(program)) else {
            return ptr::null_mut();
        };
        reason(socket::open(&path, program, ffi::PyObject_IsTrue(is_child) == 1))
    }
}

native! {
    /// `socket_close()`.
    fn py_socket_close() {
        socket::close();
        none()
    }
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

native! {
    /// `capture_forget()`.
    fn py_capture_forget() {
        ffi::PyBool_FromLong(capture::forget().into())
    }
}

native! {
    /// `capture_path()`.
    fn py_capture_path() {
        match capture::path() {
            Some(path) => {
                let path = path.as_os_str().as_bytes();
                ffi::PyUnicode_DecodeFSDefaultAndSize(path.as_ptr().cast(), path.len() as Py_ssize_t)
            }
            None => none(),
        }
    }
}

native! {
    /// `capture_mark(name)`.
    fn py_capture_mark(name) {
        match text(name) {
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
