//! Blocks that were freed, so that using one is noticed.
//!
//! Debug builds fill the value with [`DEAD_BYTE`] and leave `FREED` in the header, which every handle looks for. With
//! `--cfg heapkeeper_asan`, beside `-Zsanitizer=address`, freed blocks are also never used again, and the sanitizer is told
//! that nobody may touch the value: then it finds any access, with the place it came from.
//!
//! Called where a block is freed, and when a heap goes.

use heapkeeper_heap::Heap as Blocks;

use crate::header::{FREED, ObjectPtr, UNTRACKED};

/// What a freed value reads as in debug builds.
#[cfg(debug_assertions)]
pub(crate) const DEAD_BYTE: u8 = 0xdd;

/// Whether freed blocks stay allocated.
pub(crate) const QUARANTINE: bool = cfg!(heapkeeper_asan);

#[cfg(heapkeeper_asan)]
unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const u8, bytes: usize);
    fn __asan_unpoison_memory_region(start: *const u8, bytes: usize);
}

/// Free the object's block; `small` only if it is sure that the heap was asked for no more than `SMALL_MAX_BYTES`.
///
/// # Safety
/// The object lives in `blocks`, is untracked, its value is gone, and nothing refers to it.
#[inline(always)]
pub(crate) unsafe fn free(blocks: &mut Blocks, object: ObjectPtr, small: bool) {
    // SAFETY: by the caller's word.
    unsafe { fill(object) };
    #[cfg(heapkeeper_asan)]
    {
        let _ = (blocks, small);
        object.set(FREED | UNTRACKED);
        // SAFETY: the value lies in a block that stays ours.
        unsafe { __asan_poison_memory_region(object.value::<u8>(), object.vtable().value_bytes) };
    }
    #[cfg(not(heapkeeper_asan))]
    {
        let _ = (FREED, UNTRACKED);
        // SAFETY: by the caller's word.
        unsafe {
            if small {
                blocks.free_small(object.address());
            } else {
                let freed = blocks.free(object.address());
                debug_assert!(freed, "a block of another heap");
            }
        }
    }
}

/// Note that the object is gone, before its block is freed or kept: in debug builds.
///
/// # Safety
/// As for [`free`].
#[inline(always)]
pub(crate) unsafe fn fill(object: ObjectPtr) {
    #[cfg(debug_assertions)]
    {
        assert!(!object.has(FREED), "freed twice");
        object.set(FREED | UNTRACKED);
        // SAFETY: the value's bytes, which nobody needs any more.
        unsafe {
            object.value::<u8>().write_bytes(DEAD_BYTE, object.vtable().value_bytes);
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = object;
}

/// The heap is about to give its memory to others.
pub(crate) fn clear(blocks: &Blocks) {
    #[cfg(heapkeeper_asan)]
    blocks.visit_live(|block| {
        // SAFETY: a block of ours.
        unsafe { __asan_unpoison_memory_region(block.address, block.block_bytes) };
    });
    #[cfg(not(heapkeeper_asan))]
    let _ = blocks;
}
