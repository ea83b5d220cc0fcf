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
use crate::profile::exact::{self, Caller};

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

/// Who counts in the raw domain.
const RAW: Option<Caller> = Some(Caller::Raw);

const MEM: u8 = Domain::Mem as u8;
const OBJECT: u8 = Domain::Object as u8;

const fn domain(number: u8) -> Domain {
    if number == MEM { Domain::Mem } else { Domain::Object }
}

/// Run `work` on the heap that serves this thread. Its second argument says who counts, if anybody does.
///
/// # Safety
/// Called from a hook of the mem or object domain: the thread holds a GIL, or has no thread state.
#[inline(always)]
unsafe fn with_heap<R>(work: impl Fn(&mut Heap, Option<Caller>) -> R) -> R {
    // SAFETY: which heap is exclusive to whom is hosts.rs's table.
    unsafe { if hosts::is_plain() { work(hosts::main(), None) } else { with_any_heap(work) } }
}

/// # Safety
/// As for [`with_heap`].
#[inline(never)]
unsafe fn with_any_heap<R>(work: impl Fn(&mut Heap, Option<Caller>) -> R) -> R {
    // SAFETY: as above.
    unsafe {
        match hosts::served() {
            Served::Main => work(hosts::main(), Some(Caller::Main)),
            Served::Own(heap) => work(&mut *heap, Some(Caller::Own)),
            Served::Raw => hosts::with_raw(|heap| work(heap, Some(Caller::Raw))),
        }
    }
}

/// # Safety
/// `block` is a new block for `bytes` bytes of the heap that serves the caller, or null.
#[inline(always)]
pub unsafe fn counted(caller: Option<Caller>, block: *mut u8, bytes: usize) -> *mut u8 {
    if let Some(caller) = caller {
        // SAFETY: by the caller's word.
        unsafe { exact::allocated(caller, block, bytes) };
    }
    block
}

/// Free a block of `heap`. False if it is another's.
///
/// # Safety
/// As for [`Heap::free`]; `heap` serves the caller.
#[inline(always)]
pub unsafe fn free_in(heap: &mut Heap, caller: Option<Caller>, block: *mut u8) -> bool {
    // SAFETY: by the caller's word.
    unsafe {
        if let Some(caller) = caller
            && exact::is_on()
            && heap.owns(block)
        {
            exact::freed(caller, block);
        }
        heap.free(block)
    }
}

/// Resize a block of `heap`; `None` if it is another's.
///
/// # Safety
/// `block` is a live block; `heap` serves the caller.
#[inline(always)]
pub unsafe fn resize_in(heap: &mut Heap, caller: Option<Caller>, block: *mut u8, bytes: usize) -> Option<*mut u8> {
    if !heap.owns(block) {
        return None;
    }
    // SAFETY: by the caller's word.
    unsafe {
        Some(match caller {
            Some(caller) => exact::resized(caller, block, bytes, || heap.realloc(block, bytes)),
            None => heap.realloc(block, bytes),
        })
    }
}

unsafe extern "C" fn malloc<const D: u8>(_: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: called by the interpreter as PEP 445 says.
    let block = unsafe { with_heap(|heap, caller| counted(caller, heap.alloc(bytes), bytes)) };
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
    let block = unsafe { with_heap(|heap, caller| counted(caller, heap.alloc_zeroed(bytes), bytes)) };
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
        match with_heap(|heap, caller| resize_in(heap, caller, block.cast(), bytes)) {
            Some(moved) if !moved.is_null() => moved.cast(),
            _ => elsewhere::realloc(domain(D), block, bytes, &mut |bytes| {
                with_heap(|heap, caller| counted(caller, heap.alloc(bytes), bytes))
            }),
        }
    }
}

unsafe extern "C" fn free<const D: u8>(_: *mut c_void, block: *mut c_void) {
    // SAFETY: as for malloc; `block` is null or a live block of this domain.
    unsafe {
        if !with_heap(|heap, caller| free_in(heap, caller, block.cast())) {
            elsewhere::free(domain(D), block);
        }
    }
}

unsafe extern "C" fn raw_malloc(_: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the raw heap exists while the hooks are in.
    let block = unsafe { hosts::with_raw(|heap| counted(RAW, heap.alloc(bytes), bytes)) };
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
    let mut block = unsafe { hosts::with_raw(|heap| counted(RAW, heap.alloc_zeroed(bytes), bytes)) };
    if block.is_null() {
        block = elsewhere::alloc(Domain::Raw, bytes, true).cast();
    }
    if bytes >= hosts::INTERPRETER_MIN_BYTES && !block.is_null() {
        hosts::may_be_interpreter(block);
    }
    block.cast()
}

/// # Safety
/// `block` is null or a live block of the raw domain.
pub unsafe extern "C" fn raw_realloc(_: *mut c_void, block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: as for raw_malloc; `block` is null or a live block of the raw domain.
    unsafe {
        if block.is_null() {
            return raw_malloc(std::ptr::null_mut(), bytes);
        }
        match hosts::with_raw(|heap| resize_in(heap, RAW, block.cast(), bytes)) {
            Some(moved) if !moved.is_null() => moved.cast(),
            _ => elsewhere::realloc(Domain::Raw, block, bytes, &mut |bytes| {
                hosts::with_raw(|heap| counted(RAW, heap.alloc(bytes), bytes))
            }),
        }
    }
}

/// # Safety
/// `block` is null or a live block of the raw domain.
pub unsafe extern "C" fn raw_free(_: *mut c_void, block: *mut c_void) {
    // First of all: as soon as the block is free, the state of a new interpreter may lie there.
    if !hosts::only_main() {
        hosts::interpreter_may_be_gone(block.cast());
    }
    // SAFETY: as for raw_malloc; `block` is null or a live block of the raw domain.
    unsafe {
        let freed = hosts::with_raw(|heap| free_in(heap, RAW, block.cast()));
        if !freed {
            elsewhere::free(Domain::Raw, block);
        }
    }
}
