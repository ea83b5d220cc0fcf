//! The module `heapkeeper._native`: what the thin Python package calls.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::Mutex;

use heapkeeper_analysis::report::{self, Style};
use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::{capturing, collect, counting, hosts, install, interpreter, place, reports, stacks, status};

/// Why the allocator stayed CPython's, once somebody asked for ours.
static REASON: Mutex<Option<String>> = Mutex::new(None);

/// Why full collections stayed CPython's, once somebody asked for ours.
static COLLECTOR_REASON: Mutex<Option<String>> = Mutex::new(None);

/// # Safety
/// Called by the interpreter to import the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__native() -> *mut PyObject {
    static mut METHODS: [ffi::PyMethodDef; 40] = [
        method(c"install", py_install, c"install(sample_bytes, max_heap, seed)\n--\n\nPut this process on our heap. Returns None, or in one line why CPython's allocator stays."),
        method(c"installed", py_installed, c"installed()\n--\n\nWhether this process is on our heap."),
        method(c"in_main_interpreter", py_in_main_interpreter, c"in_main_interpreter()\n--\n\nWhether the calling interpreter is the process's first."),
        method(c"gc_status_json", py_gc_status_json, c"gc_status_json()\n--\n\nThe state of this interpreter's collector, as JSON."),
        method(c"status_json", py_status_json, c"status_json(program)\n--\n\nThe state of this process, as JSON."),
        method(c"report", py_report, c"report(program, columns, color)\n--\n\nThe report at exit, as text."),
        method(c"where", py_where, c"where(obj)\n--\n\nWhere an object lives, as a dict."),
        method(c"gc_install", py_gc_install, c"gc_install(mode)\n--\n\nHave full collections of this interpreter done (\"heapkeeper\", or \"background\" where a child searches), checked (\"verify\") or left alone (\"cpython\") by our collector. Returns None, or in one line why CPython's stays."),
        method(c"gc_promote_always", py_gc_promote_always, c"gc_promote_always()\n--\n\nHave the survivors of the middle generation promoted by our collector however small the heap: for tests."),
        method(c"limit", py_limit, c"limit(bytes)\n--\n\nSet the hard limit; 0 for none."),
        method(c"widen_limit", py_widen_limit, c"widen_limit()\n--\n\nAllow more than the limit for an answer. Returns what narrow_limit() takes."),
        method(c"narrow_limit", py_narrow_limit, c"narrow_limit(widened)\n--\n\nThe answer is given."),
        method(c"trim", py_trim, c"trim()\n--\n\nGive free memory back to the OS. Returns the bytes given back."),
        method(c"exact_start", counting::py_start, c"exact_start(max_frames)\n--\n\nCount every allocation from now on, with stacks of so many innermost frames; 0 for whole stacks with recursion folded. Returns None, or in one line why not."),
        method(c"exact_stop", counting::py_stop, c"exact_stop()\n--\n\nStop counting, and forget what was counted."),
        method(c"exact_restart", counting::py_restart, c"exact_restart()\n--\n\nForget what was counted, and go on."),
        method(c"exact_on", counting::py_on, c"exact_on()\n--\n\nWhether every allocation is counted."),
        method(c"exact_usage", counting::py_usage, c"exact_usage()\n--\n\nWhat was counted: live bytes, their peak, live blocks, bytes and blocks allocated in all."),
        method(c"exact_reset_peak", counting::py_reset_peak, c"exact_reset_peak()\n--\n\nLet the peak start again from what is live."),
        method(c"exact_sites", counting::py_sites, c"exact_sites()\n--\n\nEvery call stack that was counted: (frames, thread, live bytes, live blocks, bytes and blocks at the peak, bytes and blocks in all), frames (function, file, line), innermost first."),
        method(c"exact_memory", counting::py_memory, c"exact_memory()\n--\n\nBytes of memory that counting takes."),
        method(c"exact_traces", counting::py_traces, c"exact_traces()\n--\n\nEvery counted block that is live, as tracemalloc's own _get_traces gives them."),
        method(c"exact_traceback", counting::py_traceback, c"exact_traceback(obj)\n--\n\nThe traceback of an object's block, and how many frames there were, or None."),
        method(c"capture_start", capturing::py_capture_start, c"capture_start(path, program)\n--\n\nWrite a capture of what this process allocates from now on to a new file. Returns None, or in one line why not."),
        method(c"capture_begin", capturing::py_capture_begin, c"capture_begin(output, program, is_child)\n--\n\nWrite a capture of this process to a new file of that name, or with its pid in it where the name is taken. Returns None, or in one line why not."),
        method(c"capture_defaults", capturing::py_capture_defaults, c"capture_defaults(output, program)\n--\n\nSay where captures go that begin in the middle of a run, and what the program is called."),
        method(c"capture_write", capturing::py_capture_write, c"capture_write()\n--\n\nHave the state of this moment written to the capture, if there is one."),
        method(c"watch_start", capturing::py_watch_start, c"watch_start(at_heap, on_limit)\n--\n\nHave the state written when the heap holds so many bytes, 0 for never, and when memory is refused. Returns None, or in one line why not."),
        method(c"watch_stop", capturing::py_watch_stop, c"watch_stop()\n--\n\nWatch the heap no more."),
        method(c"socket_open", capturing::py_socket_open, c"socket_open(path, program, is_child)\n--\n\nAnswer on a unix socket. Returns None, or in one line why not."),
        method(c"socket_close", capturing::py_socket_close, c"socket_close()\n--\n\nClose the socket and remove its file."),
        method(c"capture_stop", capturing::py_capture_stop, c"capture_stop(is_exit)\n--\n\nWrite the end of the capture, which is that of the process or not."),
        method(c"capture_forget", capturing::py_capture_forget, c"capture_forget()\n--\n\nIn the child of a fork: leave the capture to the parent. Returns whether there was one."),
        method(c"capture_path", capturing::py_capture_path, c"capture_path()\n--\n\nThe file of this process's capture, or None."),
        method(c"capture_mark", capturing::py_capture_mark, c"capture_mark(name)\n--\n\nName this moment in the capture. Returns whether there is one."),
        method(c"allocators", counting::py_allocators, c"allocators()\n--\n\nThe allocators of the three domains, as bytes for set_allocators()."),
        method(c"set_allocators", counting::py_set_allocators, c"set_allocators(allocators)\n--\n\nPut back what allocators() gave, hooks that came later left out."),
        method(c"capture_report", reports::py_capture_report, c"capture_report(descriptors, query, columns, color, progress)\n--\n\nA report of captures, and what is wrong with them, as JSON."),
        method(c"capture_stacks", stacks::py_capture_stacks, c"capture_stacks(descriptors, query, columns, color, progress)\n--\n\nStacks of captures as a page, a table or a file for another tool, and what is wrong with the captures, as JSON."),
        ffi::PyMethodDef::zeroed(),
    ];
    static mut SLOTS: [ffi::PyModuleDef_Slot; 3] = [
        #[cfg(Py_3_12)]
        ffi::PyModuleDef_Slot {
            slot: ffi::Py_mod_multiple_interpreters,
            value: ffi::Py_MOD_PER_INTERPRETER_GIL_SUPPORTED,
        },
        #[cfg(not(Py_3_12))]
        ffi::PyModuleDef_Slot { slot: 0, value: ptr::null_mut() },
        #[cfg(Py_3_13)]
        ffi::PyModuleDef_Slot { slot: ffi::Py_mod_gil, value: ffi::Py_MOD_GIL_NOT_USED },
        #[cfg(not(Py_3_13))]
        ffi::PyModuleDef_Slot { slot: 0, value: ptr::null_mut() },
        ffi::PyModuleDef_Slot { slot: 0, value: ptr::null_mut() },
    ];
    static mut DEFINITION: ffi::PyModuleDef = ffi::PyModuleDef {
        m_base: ffi::PyModuleDef_HEAD_INIT,
        m_name: c"heapkeeper._native".as_ptr(),
        m_doc: c"heapkeeper's native part; use the package heapkeeper instead.".as_ptr(),
        m_size: 0,
        m_methods: ptr::null_mut(),
        m_slots: ptr::null_mut(),
        m_traverse: None,
        m_clear: None,
        m_free: None,
    };
    // SAFETY: imports are serialized by the interpreter, and each writes the same words.
    unsafe {
        DEFINITION.m_methods = (&raw mut METHODS).cast();
        DEFINITION.m_slots = (&raw mut SLOTS).cast();
        ffi::PyModuleDef_Init(&raw mut DEFINITION)
    }
}

/// A function of the module: takes as many arguments as are named, and answers with a new reference, or with null and an
/// exception set. Its body runs with the GIL held and is unsafe: each object made there has one owner.
macro_rules! native {
    ($(#[$about:meta])* fn $name:ident($($argument:ident),*) $body:block) => {
        $(#[$about])*
        ///
        /// # Safety
        /// Called by the interpreter, with the GIL held.
        pub(crate) unsafe extern "C" fn $name(
            _: *mut pyo3_ffi::PyObject,
            arguments: *mut *mut pyo3_ffi::PyObject,
            count: pyo3_ffi::Py_ssize_t,
        ) -> *mut pyo3_ffi::PyObject {
            // SAFETY: called by the interpreter with the GIL held.
            unsafe {
                let Some(&[$($argument),*]) = $crate::module::exactly(arguments, count) else {
                    return std::ptr::null_mut();
                };
                $body
            }
        }
    };
}
pub(crate) use native;

type Fast = unsafe extern "C" fn(*mut PyObject, *mut *mut PyObject, Py_ssize_t) -> *mut PyObject;

const fn method(name: &'static CStr, function: Fast, doc: &'static CStr) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: function },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: doc.as_ptr(),
    }
}

/// The arguments, if there are exactly `N`; else `None` with TypeError set.
///
/// # Safety
/// `arguments` has `count` entries; the GIL is held.
pub(crate) unsafe fn exactly<'a, const N: usize>(
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> Option<&'a [*mut PyObject; N]> {
    if usize::try_from(count) == Ok(N) {
        // For no arguments the pointer may be null.
        let first = if N == 0 { ptr::NonNull::dangling().as_ptr() } else { arguments };
        // SAFETY: there are N entries at `first`, valid while the call lasts.
        return Some(unsafe { &*first.cast::<[*mut PyObject; N]>() });
    }
    let text = format!("expected {N} arguments, got {count}\0");
    // SAFETY: the GIL is held, the text ends with NUL.
    unsafe { ffi::PyErr_SetString(ffi::PyExc_TypeError, text.as_ptr().cast()) };
    None
}

/// A non-negative integer; `None` with an exception set for anything else.
///
/// # Safety
/// The GIL is held.
pub(crate) unsafe fn unsigned(object: *mut PyObject) -> Option<u64> {
    // SAFETY: the GIL is held.
    unsafe {
        let value = ffi::PyLong_AsUnsignedLongLong(object);
        (ffi::PyErr_Occurred().is_null()).then_some(value)
    }
}

/// What an object is as a truth value; `None` with an exception set where it says neither.
///
/// # Safety
/// The GIL is held.
pub(crate) unsafe fn truth(object: *mut PyObject) -> Option<bool> {
    // SAFETY: the GIL is held.
    let answer: c_int = unsafe { ffi::PyObject_IsTrue(object) };
    (answer >= 0).then_some(answer == 1)
}

/// A `str`; `None` with an exception set for anything else.
///
/// # Safety
/// The GIL is held.
pub(crate) unsafe fn text(object: *mut PyObject) -> Option<String> {
    // SAFETY: the GIL is held; the encoded bytes are copied before their object goes. Surrogates, which file names may
    // have, become question marks.
    unsafe {
        let bytes = ffi::PyUnicode_AsEncodedString(object, c"utf-8".as_ptr(), c"replace".as_ptr());
        if bytes.is_null() {
            return None;
        }
        let data = ffi::PyBytes_AsString(bytes).cast::<u8>();
        let length = ffi::PyBytes_Size(bytes) as usize;
        let text = String::from_utf8_lossy(std::slice::from_raw_parts(data, length)).into_owned();
        ffi::Py_DECREF(bytes);
        Some(text)
    }
}

/// # Safety
/// The GIL is held.
pub(crate) unsafe fn to_str(text: &str) -> *mut PyObject {
    // SAFETY: the GIL is held; the bytes are UTF-8.
    unsafe { ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as Py_ssize_t) }
}

/// A record's JSON; null with an exception set where that fails.
///
/// # Safety
/// The GIL is held.
pub(crate) unsafe fn to_json(json: serde_json::Result<String>) -> *mut PyObject {
    match json {
        // SAFETY: the GIL is held.
        Ok(json) => unsafe { to_str(&json) },
        Err(error) => {
            let text = format!("status cannot be written as JSON: {error}\0");
            // SAFETY: the GIL is held, the text ends with NUL.
            unsafe { ffi::PyErr_SetString(ffi::PyExc_RuntimeError, text.as_ptr().cast()) };
            ptr::null_mut()
        }
    }
}

/// # Safety
/// The GIL is held.
pub(crate) unsafe fn none() -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

/// Why the allocator stayed CPython's, and why its collector did.
fn reasons() -> [Option<String>; 2] {
    [&REASON, &COLLECTOR_REASON].map(|reason| reason.lock().map_or(None, |reason| reason.clone()))
}

native! {
    fn py_install(sample_bytes, max_heap, seed) {
        let (Some(sample_bytes), Some(max_heap), Some(seed)) =
            (unsigned(sample_bytes), unsigned(max_heap), unsigned(seed))
        else {
            return ptr::null_mut();
        };
        let max_heap = usize::try_from(max_heap).unwrap_or(usize::MAX);
        match install::install(sample_bytes, max_heap, seed) {
            Ok(()) => {
                status::installed_now();
                none()
            }
            Err(line) => {
                let object = to_str(&line);
                if let Ok(mut reason) = REASON.lock() {
                    *reason = Some(line);
                }
                object
            }
        }
    }
}

native! {
    fn py_installed() {
        ffi::PyBool_FromLong(hosts::range().is_some().into())
    }
}

native! {
    fn py_in_main_interpreter() {
        ffi::PyBool_FromLong((ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main()).into())
    }
}

native! {
    fn py_status_json(program) {
        let Some(program) = text(program) else {
            return ptr::null_mut();
        };
        to_json(serde_json::to_string(&status::status(program, reasons())))
    }
}

native! {
    fn py_gc_status_json() {
        let [_, reason] = reasons();
        to_json(serde_json::to_string(&status::collector_status(reason)))
    }
}

native! {
    fn py_report(program, columns, color) {
        let (Some(program), Some(columns), Some(color)) = (text(program), unsigned(columns), truth(color)) else {
            return ptr::null_mut();
        };
        let style = Style { columns: columns as usize, color };
        to_str(&report::render(&status::status(program, reasons()), style))
    }
}

native! {
    fn py_where(object) {
        place::place(object)
    }
}

native! {
    fn py_gc_install(mode) {
        let Some(mode) = text(mode) else {
            return ptr::null_mut();
        };
        let mode = match mode.as_str() {
            "heapkeeper" => collect::Mode::Heapkeeper,
            "background" => collect::Mode::Background,
            "verify" => collect::Mode::Verify,
            _ => collect::Mode::Cpython,
        };
        match collect::take(mode) {
            Ok(()) => none(),
            Err(line) => {
                let object = to_str(&line);
                if let Ok(mut reason) = COLLECTOR_REASON.lock() {
                    *reason = Some(line);
                }
                object
            }
        }
    }
}

native! {
    fn py_gc_promote_always() {
        collect::promote_always();
        none()
    }
}

native! {
    fn py_limit(bytes) {
        let Some(bytes) = unsigned(bytes) else {
            return ptr::null_mut();
        };
        install::set_limit(usize::try_from(bytes).unwrap_or(usize::MAX));
        none()
    }
}

native! {
    fn py_widen_limit() {
        let widened = install::widen_limit();
        let answer = ffi::PyLong_FromSize_t(widened);
        if answer.is_null() {
            install::narrow_limit(widened);
        }
        answer
    }
}

native! {
    fn py_narrow_limit(widened) {
        let Some(widened) = unsigned(widened) else {
            return ptr::null_mut();
        };
        install::narrow_limit(usize::try_from(widened).unwrap_or(0));
        none()
    }
}

native! {
    fn py_trim() {
        let mut bytes = 0;
        if hosts::range().is_some() {
            if interpreter::may_use_main() {
                bytes += hosts::main().trim();
            }
            bytes += hosts::with_raw(|raw| raw.trim());
        }
        ffi::PyLong_FromSize_t(bytes)
    }
}
