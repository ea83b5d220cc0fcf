//! The module's functions for exact counts.

use std::collections::HashMap;
use std::ptr;

use heapkeeper_profile::Code;
use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::install;
use crate::module::{native, none, to_str, unsigned};
use crate::profile::exact::Depth;
use crate::profile::{self, exact};

native! {
    /// `exact_start(max_frames)`.
    fn py_start(max_frames) {
        let Some(max_frames) = unsigned(max_frames) else {
            return ptr::null_mut();
        };
        let depth = match max_frames {
            0 => Depth::Whole,
            frames => Depth::Frames(usize::try_from(frames).unwrap_or(usize::MAX)),
        };
        match exact::start(depth) {
            Ok(()) => none(),
            Err(line) => to_str(&line),
        }
    }
}

native! {
    /// `exact_stop()`.
    fn py_stop() {
        exact::stop();
        none()
    }
}

native! {
    /// `exact_restart()`.
    fn py_restart() {
        exact::restart();
        none()
    }
}

native! {
    /// `exact_reset_peak()`.
    fn py_reset_peak() {
        exact::reset_peak();
        none()
    }
}

native! {
    /// `exact_on()`.
    fn py_on() {
        ffi::PyBool_FromLong(exact::is_on().into())
    }
}

native! {
    /// `exact_usage()`.
    fn py_usage() {
        let usage = exact::usage();
        let figures = [usage.live_bytes, usage.peak_bytes, usage.live_blocks, usage.total_bytes, usage.total_blocks];
        tuple(figures.into_iter().map(|figure| ffi::PyLong_FromUnsignedLongLong(figure)))
    }
}

native! {
    /// `exact_memory()`.
    fn py_memory() {
        ffi::PyLong_FromSize_t(exact::memory_bytes())
    }
}

native! {
    /// `allocators()`.
    fn py_allocators() {
        let now = install::current();
        ffi::PyBytes_FromStringAndSize(now.as_ptr().cast(), size_of_val(&now) as Py_ssize_t)
    }
}

native! {
    /// `set_allocators(allocators)`.
    fn py_set_allocators(bytes) {
        let mut allocators = install::current();
        let start = ffi::PyBytes_AsString(bytes);
        if start.is_null() {
            return ptr::null_mut();
        }
        if ffi::PyBytes_Size(bytes) as usize != size_of_val(&allocators) {
            ffi::PyErr_SetString(ffi::PyExc_ValueError, c"not what allocators() gave".as_ptr());
            return ptr::null_mut();
        }
        ptr::copy_nonoverlapping(start.cast::<u8>(), allocators.as_mut_ptr().cast(), size_of_val(&allocators));
        install::set_current(allocators);
        none()
    }
}

native! {
    /// `exact_sites()`.
    fn py_sites() {
        let sites = profile::counted_sites();
        let list = ffi::PyList_New(0);
        if list.is_null() {
            return list;
        }
        for (lines, count) in sites {
            let frames = tuple(lines.frames.iter().map(|frame| {
                tuple([to_str(&frame.function), to_str(&frame.file), ffi::PyLong_FromLong(frame.line.into())])
            }));
            let figures = [
                count.live_bytes,
                count.live_blocks,
                count.peak_bytes,
                count.peak_blocks,
                count.total_bytes,
                count.total_blocks,
            ];
            let figures = figures.into_iter().map(|figure| ffi::PyLong_FromUnsignedLongLong(figure));
            let row = tuple([frames, to_str(&lines.thread)].into_iter().chain(figures));
            if row.is_null() || ffi::PyList_Append(list, row) < 0 {
                ffi::Py_XDECREF(row);
                ffi::Py_DECREF(list);
                return ptr::null_mut();
            }
            ffi::Py_DECREF(row);
        }
        list
    }
}

native! {
    /// `exact_traces()`.
    fn py_traces() {
        exact::uncounted(|| {
            let (blocks, entries) = profile::traces();
            let mut stacks = Tracebacks::default();
            let tracebacks: HashMap<_, _> =
                entries.iter().map(|(entry, stack)| (*entry, stacks.traceback(stack))).collect();
            let list = ffi::PyList_New(blocks.len() as Py_ssize_t);
            let mut whole = !list.is_null();
            for (index, (bytes, entry)) in blocks.into_iter().enumerate() {
                if !whole {
                    break;
                }
                let row = match tracebacks.get(&entry) {
                    Some((traceback, frames)) => tuple([
                        ffi::PyLong_FromLong(0),
                        ffi::PyLong_FromSize_t(bytes),
                        ffi::Py_XNewRef(*traceback),
                        ffi::Py_XNewRef(*frames),
                    ]),
                    None => ptr::null_mut(),
                };
                whole = !row.is_null();
                ffi::PyList_SetItem(list, index as Py_ssize_t, row);
            }
            for (traceback, frames) in tracebacks.into_values() {
                ffi::Py_XDECREF(traceback);
                ffi::Py_XDECREF(frames);
            }
            if !whole {
                ffi::Py_XDECREF(list);
                return ffi::PyErr_NoMemory();
            }
            list
        })
    }
}

native! {
    /// `exact_traceback(obj)`.
    fn py_traceback(object) {
        let Some(stack) = profile::trace_of(object.cast()) else {
            return none();
        };
        exact::uncounted(|| {
            let (traceback, frames) = Tracebacks::default().traceback(&stack);
            tuple([traceback, frames])
        })
    }
}

/// Builds tracebacks as `tracemalloc` gives them: a tuple of (file, line), innermost first, and how many frames there were.
#[derive(Default)]
struct Tracebacks {
    files: HashMap<usize, *mut PyObject>,
}

impl Tracebacks {
    /// A new traceback and the number of its frames, `None` where nobody knows it. Null with an exception set where there is
    /// no memory.
    ///
    /// # Safety
    /// The GIL is held.
    unsafe fn traceback(&mut self, stack: &profile::TraceStack) -> (*mut PyObject, *mut PyObject) {
        // SAFETY: the GIL is held.
        unsafe {
            let frames: Vec<_> =
                stack.frames.iter().map(|(code, offset_bytes)| self.frame(*code, *offset_bytes)).collect();
            let frames = match frames.is_empty() {
                // What tracemalloc gives where no Python code was running.
                true => tuple([tuple([to_str("<unknown>"), ffi::PyLong_FromLong(0)])]),
                false => tuple(frames),
            };
            let count = match stack.total {
                Some(total) => ffi::PyLong_FromSize_t(total.clamp(1, u16::MAX.into())),
                None => none(),
            };
            (frames, count)
        }
    }

    /// # Safety
    /// The GIL is held, and the tables keep the code object alive.
    unsafe fn frame(&mut self, code: Code, offset_bytes: i32) -> *mut PyObject {
        // SAFETY: by the caller's word.
        unsafe {
            let Code::Object(address) = code else {
                return tuple([to_str("<unknown>"), ffi::PyLong_FromLong(0)]);
            };
            let object = ptr::with_exposed_provenance_mut::<PyObject>(address);
            let file = *self.files.entry(address).or_insert_with(|| {
                let file = ffi::PyObject_GetAttrString(object, c"co_filename".as_ptr());
                if file.is_null() { to_str("<unknown>") } else { file }
            });
            let line = ffi::PyCode_Addr2Line(object.cast(), offset_bytes).max(0);
            tuple([ffi::Py_XNewRef(file), ffi::PyLong_FromLong(line.into())])
        }
    }
}

impl Drop for Tracebacks {
    fn drop(&mut self) {
        for file in self.files.values() {
            // SAFETY: the references are ours, and the GIL is held wherever this is used.
            unsafe { ffi::Py_XDECREF(*file) };
        }
    }
}

/// A tuple of new references, which it takes. Null, with an exception set, if one of them is null.
///
/// # Safety
/// The GIL is held; each item is a new reference, or null with an exception set.
pub(crate) unsafe fn tuple(items: impl IntoIterator<Item = *mut PyObject>) -> *mut PyObject {
    let items: Vec<*mut PyObject> = items.into_iter().collect();
    // SAFETY: by the caller's word; the tuple is new and has room for so many.
    unsafe {
        let whole = items.iter().all(|item| !item.is_null());
        let tuple = if whole { ffi::PyTuple_New(items.len() as Py_ssize_t) } else { ptr::null_mut() };
        for (index, item) in items.into_iter().enumerate() {
            if tuple.is_null() {
                ffi::Py_XDECREF(item);
            } else {
                ffi::PyTuple_SetItem(tuple, index as Py_ssize_t, item);
            }
        }
        tuple
    }
}
