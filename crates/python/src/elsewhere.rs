//! Blocks that are not the calling heap's: those that CPython allocated before us, and those of another of our heaps.
//!
//! A foreign block goes back to the allocator that made it, unless the interpreter is ending; `realloc` moves it to our
//! heap. When our address space is used up (not our limit), CPython's allocator helps out, so that a small range never
//! fails a program that would have run.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use crate::hooks::free_in;
use crate::profile::exact::Caller;
use crate::{hosts, interpreter, watch};

/// A domain of PEP 445.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Domain {
    /// Any thread, without the GIL.
    Raw = 0,
    /// Buffers.
    Mem = 1,
    /// Objects.
    Object = 2,
}

/// An allocator of a domain: C's `PyMemAllocatorEx` (PEP 445), with its functions unsafe as they are.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Allocator {
    pub ctx: *mut c_void,
    pub malloc: Option<unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void>,
    pub calloc: Option<unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void>,
    pub realloc: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void>,
    pub free: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
}

const _: () = assert!(size_of::<Allocator>() == size_of::<pyo3_ffi::PyMemAllocatorEx>());

/// All of them.
pub const DOMAINS: [Domain; 3] = [Domain::Raw, Domain::Mem, Domain::Object];

struct Originals(UnsafeCell<[Allocator; 3]>);

// SAFETY: written once, before the hooks are in.
unsafe impl Sync for Originals {}

const NONE: Allocator = Allocator { ctx: ptr::null_mut(), malloc: None, calloc: None, realloc: None, free: None };

/// The allocators that were there before us.
static ORIGINALS: Originals = Originals(UnsafeCell::new([NONE; 3]));

/// Remember the allocator that serves a domain.
///
/// # Safety
/// Called before the hooks are in, with the GIL held.
pub unsafe fn remember(domain: Domain, original: Allocator) {
    // SAFETY: nobody reads it yet.
    unsafe { (*ORIGINALS.0.get())[domain as usize] = original };
}

/// The allocator of a domain that was there before us.
pub fn original(domain: Domain) -> &'static Allocator {
    // SAFETY: not written any more once hooks can call this.
    unsafe { &(*ORIGINALS.0.get())[domain as usize] }
}

/// Our heap has no block: at the limit that is the answer, else CPython's allocator may have one.
#[cold]
pub fn alloc(domain: Domain, bytes: usize, zeroed: bool) -> *mut c_void {
    let original = original(domain);
    // SAFETY: the original allocator, called as PEP 445 says.
    let block = unsafe {
        match (hosts::is_limited(), zeroed) {
            (true, _) => return ptr::null_mut(),
            (_, true) => original.calloc.map_or(ptr::null_mut(), |calloc| calloc(original.ctx, 1, bytes)),
            (_, false) => original.malloc.map_or(ptr::null_mut(), |malloc| malloc(original.ctx, bytes)),
        }
    };
    if block.is_null() {
        watch::refused_by_system();
    }
    block
}

/// Resize a block that the calling heap does not own, or could not resize. `ours` allocates from the calling heap.
///
/// # Safety
/// `block` is a live block of this domain.
#[cold]
pub unsafe fn realloc(
    domain: Domain,
    block: *mut c_void,
    bytes: usize,
    ours: &mut dyn FnMut(usize) -> *mut u8,
) -> *mut c_void {
    let Some(range) = hosts::range() else {
        return ptr::null_mut();
    };
    // SAFETY: both blocks are live where they are read, written and freed; the original allocator is called as
    // PEP 445 says.
    unsafe {
        if let Some(place) = range.locate(block.cast()) {
            // Another heap's, or ours and out of memory: copy what fits, if there is memory at all.
            let mut moved: *mut c_void = ours(bytes).cast();
            if moved.is_null() {
                moved = alloc(domain, bytes, false);
            }
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block.cast::<u8>(), moved.cast(), bytes.min(place.block_bytes));
                free_ours(domain, block);
            }
            return moved;
        }
        // The size of a foreign block is known to its allocator alone: let it resize, then move.
        let original = original(domain);
        let (Some(realloc), Some(free)) = (original.realloc, original.free) else {
            return ptr::null_mut();
        };
        let resized = realloc(original.ctx, block, bytes);
        if resized.is_null() {
            return resized;
        }
        let moved = ours(bytes);
        if moved.is_null() {
            return resized;
        }
        ptr::copy_nonoverlapping(resized.cast::<u8>(), moved, bytes);
        free(original.ctx, resized);
        moved.cast()
    }
}

/// Free a block that the calling heap does not own.
///
/// # Safety
/// `block` is null or a live block.
#[cold]
pub unsafe fn free(domain: Domain, block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: the block goes back to whoever made it.
    unsafe {
        if hosts::range().is_some_and(|range| range.contains(block.cast())) {
            free_ours(domain, block);
            return;
        }
        // CPython would give back what it made before us block by block, right before the kernel takes all of it. A program
        // that goes on without its interpreter keeps them, once: the next one's blocks are ours.
        if interpreter::is_ending() {
            return;
        }
        let original = original(domain);
        if let Some(free) = original.free {
            free(original.ctx, block);
        }
    }
}

/// Free a block of one of our heaps on behalf of a caller that another one serves.
///
/// The raw heap's are freed under its lock (a thread without a thread state got its block there). The main heap's are
/// freed if this thread may use that heap. Any other, as those that an interpreter with a heap of its own left behind, is
/// left alone: to leak it is safe.
///
/// # Safety
/// `block` is a live block in our range.
unsafe fn free_ours(_domain: Domain, block: *mut c_void) {
    // SAFETY: each heap is used only where hosts.rs's table allows.
    unsafe {
        let block = block.cast::<u8>();
        if hosts::with_raw(|raw| free_in(raw, Some(Caller::Raw), block)) {
            return;
        }
        if interpreter::may_use_main() && free_in(hosts::main(), Some(Caller::Main), block) {
            return;
        }
        if let hosts::Served::Own(heap) = hosts::served()
            && free_in(&mut *heap, Some(Caller::Own), block)
        {
            return;
        }
    }
    STRAY.fetch_add(1, Relaxed);
}

use hosts::STRAY_FREES as STRAY;
