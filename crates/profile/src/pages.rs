//! Memory for the tables, straight from the OS.
//!
//! The tables are filled while an allocator is at work, so they must not come from one. Each table is one mapping, grown by
//! doubling into a new one. A mapping that the OS refuses is an error value, never an abort.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

/// An allocator of anonymous mappings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pages;

// SAFETY: a mapping stays where it is and as long as asked for until `deallocate`; `Pages` has no state, so any copy of it
// may free what another one allocated.
unsafe impl Allocator for Pages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // Mappings start at an OS page, at least 4 KiB; no table asks for more.
        if layout.align() > 4096 || layout.size() == 0 {
            return Err(AllocError);
        }
        // SAFETY: a new private anonymous mapping at an address the kernel chooses touches no memory in use.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                layout.size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(AllocError);
        }
        let memory = NonNull::new(memory.cast::<u8>()).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(memory, layout.size()))
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller hands back a mapping of `allocate` with its layout, and nothing points into it any more. The
        // kernel rounds the length up to whole OS pages, as it did when it mapped them.
        unsafe { libc::munmap(memory.as_ptr().cast(), layout.size()) };
    }
}
