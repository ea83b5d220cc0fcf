//! NumPy's buffers, through its own data-memory handler (NEP 49): the data of arrays lives on our heap, is counted by site, and
//! keeps to the limit.
//!
//! ```text
//! array → handler "default_allocator", static data of NumPy: { ctx, malloc, calloc, realloc, free }
//!                                                              the four are ours from the first look that finds NumPy
//! ```
//! NumPy's current handler is a context variable, which reaches one context only. So ours go into the default handler itself,
//! which all threads have; its name stays. Somebody who sets a handler of their own gets what they set. It is reached
//! through the table of NumPy's C interface, whose places are the same since they were given out (NumPy 1.22; before, there is
//! no handler, and nothing happens).
//!
//! [`look`] is called where extension modules are being imported, which NumPy's own `__init__` does after its core is complete
//! (imports.rs), and when somebody asks for this process's state.
//!
//! NumPy calls its handler with the GIL held; nothing says that others do. So buffers live in the raw domain's heap, which any
//! thread may use.
//!
//! NumPy reports its buffers to CPython's tracemalloc. While heapkeeper.tracemalloc adds that module's records to our counts,
//! buffers stay out of ours: [`exact::buffers`].

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst, fence};

use pyo3_ffi::{self as ffi, PyObject};

use crate::hooks::{counted, free_in, resize_in};
use crate::profile::exact::{self, Caller};
use crate::{hosts, interpreter};

/// `PyDataMemAllocator` (numpy/ndarraytypes.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Allocator {
    ctx: *mut c_void,
    malloc: Option<unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void>,
    calloc: Option<unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void>,
    realloc: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void>,
    free: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize)>,
}

/// `PyDataMem_Handler` (the same place).
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    allocator: Allocator,
}

const _: () = assert!(size_of::<Handler>() == 168);

const OURS: Allocator = Allocator {
    ctx: ptr::null_mut(),
    malloc: Some(malloc),
    calloc: Some(calloc),
    realloc: Some(realloc),
    free: Some(free),
};

/// A module of NumPy's core that is there when the core is complete, and the core's C part; the newest first (the older names
/// are stubs in NumPy 2).
const CORES: [[&CStr; 2]; 2] =
    [[c"numpy._core.umath", c"numpy._core._multiarray_umath"], [c"numpy.core.umath", c"numpy.core._multiarray_umath"]];

/// Places in the table of the C interface (numpy/__multiarray_api.h).
const GET_ABI_VERSION: usize = 0;
const GET_FEATURE_VERSION: usize = 211;
const GET_HANDLER: usize = 305;
const DEFAULT_HANDLER: usize = 306;

/// Those of NumPy 1 and 2.
const ABI_VERSIONS: [c_uint; 2] = [0x0100_0009, 0x0200_0000];
/// That of NumPy 1.22, the first with handlers.
const FIRST_FEATURE_VERSION: c_uint = 0xf;

struct Original(UnsafeCell<Allocator>);

// SAFETY: written once, before our functions can be called.
unsafe impl Sync for Original {}

/// The functions that were in the handler before ours.
static ORIGINAL: Original = Original(UnsafeCell::new(Allocator { ctx: ptr::null_mut(), ..OURS }));

fn original() -> &'static Allocator {
    // SAFETY: not written any more once our functions can be called.
    unsafe { &*ORIGINAL.0.get() }
}

/// Whether there is nothing more to look for.
static DONE: AtomicBool = AtomicBool::new(false);
static REASON: Mutex<Option<String>> = Mutex::new(None);

/// Why NumPy's buffers stay outside our heap, in one line, if it was found and they do.
pub fn reason() -> Option<String> {
    REASON.lock().map_or(None, |reason| reason.clone())
}

/// Take NumPy's buffers, if it is imported and that has not been done. Runs no code of the program, and leaves no exception.
///
/// The calling thread holds the GIL, or nothing happens.
pub fn look() {
    if DONE.load(Relaxed) || hosts::range().is_none() || !interpreter::may_use_main() {
        return;
    }
    // SAFETY: the GIL is held, as just found.
    let outcome = unsafe { if ffi::PyErr_Occurred().is_null() { find_and_take() } else { None } };
    if let Some(outcome) = outcome {
        DONE.store(true, Relaxed);
        if let Ok(mut reason) = REASON.lock() {
            *reason = outcome.err();
        }
    }
}

/// `None` while NumPy is not there, or has no handlers yet.
///
/// # Safety
/// The GIL is held and no exception is set.
unsafe fn find_and_take() -> Option<Result<(), String>> {
    // SAFETY: by the caller's word. The table is followed as far as its versions say.
    unsafe {
        let core = core()?;
        let attributes = ffi::PyModule_GetDict(core.0);
        let table = ffi::PyDict_GetItemString(attributes, c"_ARRAY_API".as_ptr());
        if table.is_null() || ffi::PyCapsule_IsValid(table, ptr::null()) == 0 {
            return None;
        }
        let table = ffi::PyCapsule_GetPointer(table, ptr::null()).cast::<*mut c_void>();
        let version = |place| {
            let get: unsafe extern "C" fn() -> c_uint = std::mem::transmute(*table.add(place));
            get()
        };
        let abi = version(GET_ABI_VERSION);
        if !ABI_VERSIONS.contains(&abi) {
            return Some(Err(format!("NumPy has a C interface that we do not know, {abi:#x}")));
        }
        if version(GET_FEATURE_VERSION) < FIRST_FEATURE_VERSION {
            return Some(Ok(()));
        }
        let capsule = *(*table.add(DEFAULT_HANDLER)).cast::<*mut PyObject>();
        if capsule.is_null() {
            return None;
        }
        let get_current: unsafe extern "C" fn() -> *mut PyObject = std::mem::transmute(*table.add(GET_HANDLER));
        let current = Owned(get_current());
        ffi::PyErr_Clear();
        let is_current = current.0 == capsule;
        // To try it runs NumPy, which may collect, and so code that imports more: that must not come here again.
        DONE.store(true, Relaxed);
        Some(take(capsule, attributes, is_current))
    }
}

/// The C part of NumPy's core, once that is complete.
///
/// # Safety
/// The GIL is held and no exception is set.
unsafe fn core() -> Option<Owned> {
    // SAFETY: by the caller's word; the references are ours to drop.
    let imported = |name: &CStr| unsafe {
        // Not PyImport_GetModule, which may wait for the module's lock.
        let modules = ffi::PyImport_GetModuleDict();
        if modules.is_null() || ffi::PyDict_Check(modules) == 0 {
            return None;
        }
        let module = Owned(ffi::Py_XNewRef(ffi::PyDict_GetItemString(modules, name.as_ptr())));
        (!module.0.is_null() && ffi::PyModule_Check(module.0) != 0).then_some(module)
    };
    CORES.iter().find_map(|[complete, core]| imported(complete).and_then(|_| imported(core)))
}

/// Put ours into the default handler.
///
/// # Errors
/// Why NumPy's own stay, in one line.
///
/// # Safety
/// The GIL is held and no exception is set; `capsule` is NumPy's, `attributes` those of its core.
unsafe fn take(capsule: *mut PyObject, attributes: *mut PyObject, is_current: bool) -> Result<(), String> {
    let unknown = || "NumPy's data-memory handler is not the one we know".to_owned();
    // SAFETY: by the caller's word; NumPy's C interface says what the capsule holds, and its name and version are checked.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, c"mem_handler".as_ptr()) == 0 {
            return Err(unknown());
        }
        let handler: *mut Handler = ffi::PyCapsule_GetPointer(capsule, c"mem_handler".as_ptr()).cast();
        let is_default = CStr::from_ptr((&raw const (*handler).name).cast()) == c"default_allocator";
        let seat = &raw mut (*handler).allocator;
        let before = seat.read();
        let has_all =
            before.malloc.is_some() && before.calloc.is_some() && before.realloc.is_some() && before.free.is_some();
        if !is_default || (*handler).version != 1 || !has_all {
            return Err(unknown());
        }
        if !is_writable(seat.cast()) {
            return Err("NumPy's data-memory handler cannot be changed".to_owned());
        }
        *ORIGINAL.0.get() = before;
        // Whatever is allocated is freed by whoever knows it: those two first, for threads without the GIL.
        let ctx = before.ctx;
        let with_free = Allocator { free: OURS.free, ..before };
        let with_both = Allocator { realloc: OURS.realloc, ..with_free };
        for step in [with_free, with_both, Allocator { ctx, ..OURS }] {
            seat.write_volatile(step);
            fence(SeqCst);
        }
        // Of another handler's arrays nothing is to be learned.
        if is_current && is_served(attributes) == Some(false) {
            // Ours may have come from another thread: they go on to be freed.
            seat.write_volatile(with_both);
            return Err("arrays do not come to NumPy's data-memory handler".to_owned());
        }
    }
    Ok(())
}

/// A reference of ours.
struct Owned(*mut PyObject);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, or null; the GIL is held where these are made.
        unsafe { ffi::Py_XDECREF(self.0) };
    }
}

/// Whether the handler lies in memory that can be written: a NumPy that seals it must not crash us. Asks the kernel to write
/// what is there already.
///
/// # Safety
/// Nobody writes the word meanwhile.
unsafe fn is_writable(word: *mut usize) -> bool {
    // SAFETY: the word may be read; the kernel checks whether it may be written.
    unsafe {
        let mut value = word.read_volatile();
        let [from, into] =
            [&raw mut value, word].map(|word| libc::iovec { iov_base: word.cast(), iov_len: size_of::<usize>() });
        if libc::process_vm_writev(libc::getpid(), &from, 1, &into, 1, 0) == size_of::<usize>() as isize {
            return true;
        }
        // A sandbox without that call: it is writable in every NumPy so far.
        matches!(*libc::__errno_location(), libc::EPERM | libc::ENOSYS)
    }
}

/// Whether the data of a new array lies on our heap; `None` if no array could be made.
///
/// # Safety
/// The GIL is held and no exception is set; `attributes` are those of NumPy's core.
unsafe fn is_served(attributes: *mut PyObject) -> Option<bool> {
    // SAFETY: by the caller's word; the function is borrowed, the array ours.
    unsafe {
        let empty = ffi::PyDict_GetItemString(attributes, c"empty".as_ptr());
        let length = Owned(ffi::PyLong_FromLong(64));
        let has_both = !empty.is_null() && !length.0.is_null();
        let array = Owned(if has_both { ffi::PyObject_CallOneArg(empty, length.0) } else { ptr::null_mut() });
        let mut view = MaybeUninit::<ffi::Py_buffer>::zeroed();
        let is_viewed =
            !array.0.is_null() && ffi::PyObject_GetBuffer(array.0, view.as_mut_ptr(), ffi::PyBUF_SIMPLE) == 0;
        ffi::PyErr_Clear();
        is_viewed.then(|| {
            let is_ours = hosts::range().is_some_and(|range| range.contains((*view.as_ptr()).buf.cast()));
            ffi::PyBuffer_Release(view.as_mut_ptr());
            is_ours
        })
    }
}

unsafe extern "C" fn malloc(_: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the raw heap exists while ours are in the handler.
    let block = unsafe { hosts::with_raw(|heap| counted(exact::buffers(), heap.alloc(bytes), bytes)) };
    if block.is_null() {
        // SAFETY: called as NEP 49 says.
        return elsewhere(|original| original.malloc.map(|malloc| unsafe { malloc(original.ctx, bytes) }));
    }
    block.cast()
}

unsafe extern "C" fn calloc(_: *mut c_void, count: usize, each_bytes: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(each_bytes) else {
        return ptr::null_mut();
    };
    // SAFETY: as for malloc.
    let block = unsafe { hosts::with_raw(|heap| counted(exact::buffers(), heap.alloc_zeroed(bytes), bytes)) };
    if block.is_null() {
        // SAFETY: called as NEP 49 says.
        return elsewhere(|original| original.calloc.map(|calloc| unsafe { calloc(original.ctx, count, each_bytes) }));
    }
    block.cast()
}

unsafe extern "C" fn realloc(_: *mut c_void, block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: as for malloc; `block` is null or a live buffer.
    unsafe {
        if block.is_null() {
            return malloc(ptr::null_mut(), bytes);
        }
        match hosts::with_raw(|heap| resize_in(heap, exact::buffers(), block.cast(), bytes)) {
            Some(moved) if !moved.is_null() => moved.cast(),
            Some(_) => moved_elsewhere(block, bytes),
            // Older than us, and its size is known to its maker alone.
            None => original().realloc.map_or(ptr::null_mut(), |realloc| realloc(original().ctx, block, bytes)),
        }
    }
}

unsafe extern "C" fn free(_: *mut c_void, block: *mut c_void, bytes: usize) {
    // SAFETY: as for realloc.
    unsafe {
        if block.is_null() || hosts::with_raw(|heap| free_in(heap, Some(Caller::Raw), block.cast())) {
            return;
        }
        if let Some(free) = original().free {
            free(original().ctx, block, bytes);
        }
    }
}

/// As [`elsewhere`], for a buffer of ours that is to grow.
///
/// # Safety
/// `block` is a live block of the raw heap.
#[cold]
unsafe fn moved_elsewhere(block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: both blocks are live where they are read and written; what is copied fits both.
    unsafe {
        let moved = elsewhere(|original| original.malloc.map(|malloc| malloc(original.ctx, bytes)));
        let place = hosts::range().and_then(|range| range.locate(block.cast()));
        if let Some(place) = place.filter(|_| !moved.is_null()) {
            ptr::copy_nonoverlapping(block.cast::<u8>(), moved.cast(), bytes.min(place.block_bytes));
            free(ptr::null_mut(), block, place.block_bytes);
        }
        moved
    }
}

/// Our heap has no block: at the limit that is the answer, else whoever served NumPy before us may have one.
#[cold]
fn elsewhere(alloc: impl FnOnce(&Allocator) -> Option<*mut c_void>) -> *mut c_void {
    if hosts::is_limited() {
        return ptr::null_mut();
    }
    alloc(original()).unwrap_or(ptr::null_mut())
}
