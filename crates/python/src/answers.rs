//! `sys.getallocatedblocks()` and `sys._debugmallocstats()` answer for our heap too.
//!
//! Both are C functions whose method tables are static data of the interpreter: replacing the function pointer there
//! reaches references that programs took earlier, in every interpreter of the process.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use heapkeeper_heap::{CLASSES, SMALL_MAX_BYTES, SizeClass};
use pyo3_ffi::{self as ffi, PyObject};

use crate::hosts;

/// The interpreter's own functions, null until replaced.
static ALLOCATED_BLOCKS: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
static DEBUG_MALLOC_STATS: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Replace both functions. The GIL is held, the heap exists.
pub fn install() {
    // SAFETY: both functions take no arguments, and so are called with a null second one.
    unsafe {
        replace(c"getallocatedblocks", allocated_blocks, &ALLOCATED_BLOCKS);
        replace(c"_debugmallocstats", debug_malloc_stats, &DEBUG_MALLOC_STATS);
    }
}

/// # Safety
/// `sys.name` takes no arguments (METH_NOARGS); the GIL is held.
unsafe fn replace(name: &CStr, ours: ffi::PyCFunction, original: &AtomicPtr<()>) {
    // SAFETY: the object is checked to be a C function of the kind expected before its table is written.
    unsafe {
        let function = ffi::PySys_GetObject(name.as_ptr()); // borrowed
        if function.is_null() || ffi::PyCFunction_CheckExact(function) == 0 {
            return;
        }
        let table = (*function.cast::<ffi::PyCFunctionObject>()).m_ml;
        if (*table).ml_flags != ffi::METH_NOARGS {
            return;
        }
        original.store((*table).ml_meth.PyCFunction as *mut (), Relaxed);
        (*table).ml_meth = ffi::PyMethodDefPointer { PyCFunction: ours };
    }
}

/// # Safety
/// `function` was stored by `replace`; the GIL is held.
unsafe fn call_original(function: &AtomicPtr<()>, module: *mut PyObject, argument: *mut PyObject) -> *mut PyObject {
    // SAFETY: a `PyCFunction` was stored there.
    unsafe {
        let function: ffi::PyCFunction = std::mem::transmute(function.load(Relaxed));
        function(module, argument)
    }
}

unsafe extern "C" fn allocated_blocks(module: *mut PyObject, argument: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by the interpreter with the GIL held.
    unsafe {
        let theirs = call_original(&ALLOCATED_BLOCKS, module, argument);
        if theirs.is_null() {
            return theirs;
        }
        let count = ffi::PyLong_AsSsize_t(theirs);
        ffi::Py_DECREF(theirs);
        ffi::PyLong_FromSsize_t(count + live_blocks() as isize)
    }
}

/// Live blocks of the mem and object domains that this thread may look at: the main heap's where this thread holds its
/// lock, and those of the thread's own interpreter.
///
/// # Safety
/// The GIL is held.
unsafe fn live_blocks() -> usize {
    // SAFETY: the GIL is held; which heap that makes ours is hosts.rs's table.
    unsafe {
        if hosts::only_main() {
            return hosts::main().live_blocks();
        }
        match hosts::served() {
            hosts::Served::Main => hosts::main().live_blocks(),
            hosts::Served::Own(heap) => (*heap).live_blocks(),
            hosts::Served::Raw => 0,
        }
    }
}

unsafe extern "C" fn debug_malloc_stats(module: *mut PyObject, argument: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by the interpreter with the GIL held.
    let result = unsafe { call_original(&DEBUG_MALLOC_STATS, module, argument) };
    if !result.is_null() {
        let text = stats_text();
        // Nobody is there to hear of an error on a closed stderr.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    result
}

fn stats_text() -> String {
    let Some(range) = hosts::range() else {
        return String::new();
    };
    let mut text = format!(
        "\nheapkeeper's heap (mem and object domains)\n\nSmall block threshold = {SMALL_MAX_BYTES}, in {} size classes; {CLASSES} with medium ones.\n\n",
        SMALL_MAX_BYTES / 16
    );
    // SAFETY: the GIL is held (see the caller), so the main heap is ours unless this is another interpreter's thread.
    let stats = unsafe {
        match (!hosts::only_main()).then(hosts::served) {
            None | Some(hosts::Served::Main) => hosts::main().stats(),
            Some(hosts::Served::Own(heap)) => (*heap).stats(),
            Some(hosts::Served::Raw) => return String::new(),
        }
    };
    let totals = range.stats();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "class   size   num pools   blocks in use  avail blocks");
    let _ = writeln!(text, "-----   ----   ---------   -------------  ------------");
    for (index, class) in stats.classes.iter().enumerate().filter(|(_, class)| class.pools > 0) {
        let size = SizeClass::from_index(index).map_or(0, SizeClass::block_bytes);
        let available = class.capacity_blocks - class.live_blocks;
        let _ = writeln!(text, "{index:>5} {size:>6} {:>11} {:>15} {available:>13}", class.pools, class.live_blocks);
    }
    for (name, value) in [
        ("# arenas in use", stats.arenas),
        ("# arenas that asked for huge pages", stats.huge_arenas),
        ("# spans in use", stats.spans),
        ("# bytes in spans", stats.span_bytes),
        ("# bytes in live blocks and spans", stats.live_bytes),
        ("# bytes held", stats.held_bytes),
        ("# bytes free and kept for reuse", stats.retained_bytes + totals.retained_bytes),
        ("# bytes given back to the OS so far", totals.returned_bytes as usize),
    ] {
        let _ = writeln!(text, "{name:<40} {value:>20}");
    }
    text
}
