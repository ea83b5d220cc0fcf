//! The hooks: what the interpreter calls for every block of its three domains. **The hot path.**
//!
//! The mem and object domains share hooks, and so heaps; the raw domain has its own, behind a lock. No hook looks at its
//! context: callers of the raw domain may see the words of the allocator torn while they are being replaced.
//!
//! Invariant: nothing here runs Python code, allocates from CPython, or takes a lock that Python code may hold.

use std::ffi::c_void;

use heapkeeper_heap::Heap;

use crate::elsewhere::{self, Allocator, Domain};
use crate::hosts::{self, Served};

/// The hooks of a domain.
pub fn allocator(domain: Domain) -> Allocator {
    match domain {
        Domain::Raw => Allocator {
            ctx: std::ptr::null_mut(),
            malloc: Some(raw_malloc),
            calloc: Some(raw_calloc),
            realloc: Some(raw_realloc),
            free: Some(raw_free),
        },
        Domain::Mem => Allocator {
            ctx: std::ptr::null_mut(),
            malloc: Some(malloc::<MEM>),
            calloc: Some(calloc::<MEM>),
            realloc: Some(realloc::<MEM>),
            free: Some(free::<MEM>),
        },
        Domain::Object => Allocator {
            ctx: std::ptr::null_mut(),
            malloc: Some(malloc::<OBJECT>),
            calloc: Some(calloc::<OBJECT>),
            realloc: Some(realloc::<OBJECT>),
            free: Some(free::<OBJECT>),
        },
    }
}

const MEM: u8 = Domain::Mem as u8;
const OBJECT: u8 = Domain::Object as u8;

const fn domain(number: u8) -> Domain {
    if number == MEM { Domain::Mem } else { Domain::Object }
}

/// Run `work` on the heap that serves this thread.
///
/// # Safety
/// Called from a hook of the mem or object domain: the thread holds a GIL, or has no thread state.
#[inline(always)]
unsafe fn with_heap<R>(work: impl FnOnce(&mut Heap) -> R) -> R {
    // SAFETY: which heap is exclusive to whom is hosts.rs's table.
    unsafe {
        if hosts::only_main() {
            return work(hosts::main());
        }
        match hosts::served() {
            Served::Main => work(hosts::main()),
            Served::Own(heap) => work(&mut *heap),
            Served::Raw => hosts::with_raw(work),
        }
    }
}

unsafe extern "C" fn malloc<const D: u8>(_: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: called by the interpreter as PEP 445 says.
    let block = unsafe { with_heap(|heap| heap.alloc(bytes)) };
    if block.is_null() {
        return elsewhere::alloc(domain(D), bytes, false);
    }
    block.cast()
}

unsafe extern "C" fn calloc<const D: u8>(_: *mut c_void, count: usize, each_bytes: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(each_bytes) else {
        return std::ptr::null_mut();
    };
    // SAFETY: as for malloc.
    let block = unsafe { with_heap(|heap| heap.alloc_zeroed(bytes)) };
    if block.is_null() {
        return elsewhere::alloc(domain(D), bytes, true);
    }
    block.cast()
}

unsafe extern "C" fn realloc<const D: u8>(_: *mut c_void, block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: as for malloc; `block` is null or a live block of this domain.
    unsafe {
        if block.is_null() {
            return malloc::<D>(std::ptr::null_mut(), bytes);
        }
        let moved = with_heap(|heap| heap.owns(block.cast()).then(|| heap.realloc(block.cast(), bytes)));
        match moved {
            Some(moved) if !moved.is_null() => moved.cast(),
            _ => elsewhere::realloc(domain(D), block, bytes, &mut |bytes| with_heap(|heap| heap.alloc(bytes))),
        }
    }
}

unsafe extern "C" fn free<const D: u8>(_: *mut c_void, block: *mut c_void) {
    // SAFETY: as for malloc; `block` is null or a live block of this domain.
    unsafe {
        if !with_heap(|heap| heap.free(block.cast())) {
            elsewhere::free(domain(D), block);
        }
    }
}

unsafe extern "C" fn raw_malloc(_: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the raw heap exists while the hooks are in.
    let block = unsafe { hosts::with_raw(|heap| heap.alloc(bytes)) };
    if block.is_null() {
        return elsewhere::alloc(Domain::Raw, bytes, false);
    }
    block.cast()
}

unsafe extern "C" fn raw_calloc(_: *mut c_void, count: usize, each_bytes: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(each_bytes) else {
        return std::ptr::null_mut();
    };
    // SAFETY: as for raw_malloc.
    let block = unsafe { hosts::with_raw(|heap| heap.alloc_zeroed(bytes)) };
    if block.is_null() {
        return elsewhere::alloc(Domain::Raw, bytes, true);
    }
    if bytes >= hosts::INTERPRETER_MIN_BYTES {
        hosts::may_be_interpreter(block);
    }
    block.cast()
}

unsafe extern "C" fn raw_realloc(_: *mut c_void, block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: as for raw_malloc; `block` is null or a live block of the raw domain.
    unsafe {
        if block.is_null() {
            return raw_malloc(std::ptr::null_mut(), bytes);
        }
        let moved = hosts::with_raw(|heap| heap.owns(block.cast()).then(|| heap.realloc(block.cast(), bytes)));
        match moved {
            Some(moved) if !moved.is_null() => moved.cast(),
            _ => elsewhere::realloc(Domain::Raw, block, bytes, &mut |bytes| hosts::with_raw(|heap| heap.alloc(bytes))),
        }
    }
}

unsafe extern "C" fn raw_free(_: *mut c_void, block: *mut c_void) {
    // SAFETY: as for raw_malloc; `block` is null or a live block of the raw domain.
    unsafe {
        let freed = hosts::with_raw(|heap| heap.free(block.cast()));
        if !freed {
            elsewhere::free(Domain::Raw, block);
        }
    }
    if !hosts::only_main() {
        hosts::interpreter_may_be_gone(block.cast());
    }
}
