//! What the interpreter's image imports from libc, `free` and `realloc`: led past us, for blocks of ours come there too.
//!
//! CPython puts its default allocator in the place of the raw domain's for moments: while it makes an interpreter (up to
//! 3.12: Python/pylifecycle.c, init_sys_streams) and while it ends (all: Py_FinalizeEx, _PyImport_Fini and others). The
//! allocator is one for the process, and other threads run meanwhile, under a GIL of their own or without one:
//!
//! ```text
//! makes an interpreter                            ends: its thread state is a raw block of ours
//!   _PyMem_SetDefaultAllocator(RAW, &ours)
//!     raw domain = malloc, …, free                  PyMem_RawFree(state)
//!     ⋮                                               → the image's slot for `free` ┬→ ours:   raw_free
//!   PyMem_SetAllocator(RAW, &ours)                                                  └→ others: libc's free
//! ```
//!
//! So every slot of the image's tables (its GOT) that holds libc's `free` or `realloc` holds ours. A block that libc handed
//! out in such a moment is libc's for ever: our hooks hand it back, as they do with blocks older than ourselves.
//!
//! Two such moments that overlap, of two interpreters with GILs of their own, leave the default allocator in for good: the
//! second took it for the one to put back. Then raw memory is libc's from there on, out of our figures, and nothing else
//! happens: what we had handed out still comes back through here. hosts.rs asks [`default_is_in`].
//!
//! Its slots for `dlsym` lead to us as well, where it has any: CPython looks an extension module's entry up by that name, with
//! the GIL held. That is when NumPy is looked for (numpy.rs). The call itself goes on as it is.
//!
//! - Ours call whatever was in the slots before: another malloc that was preloaded, or a tool's. In an executable at a fixed
//!   address `free` may *be* an entry of its table, for every library in the process and for us: to call it by name would
//!   come back here. It also means that callers are not the interpreter alone.
//! - A tool that patches these slots after us (memray does, and puts libc's back when it stops) takes ours out. Only the
//!   rare crash is back then. One that did so before us and stops later does the same; its functions, which ours call, stay
//!   loaded, as extension modules do. If the image itself is unloaded, its slots are gone with it.
//! - The debug hooks (PYTHONMALLOC=debug) do not survive such a moment in plain CPython either. What comes here from them
//!   begins inside one of our blocks: it is left alone.
//! - Where the interpreter's image has its own malloc linked in, there are no slots, and CPython's allocator stays.
//!
//! Invariant: what the image calls here does not allocate, does not wait for a lock that its caller may hold, and leaves
//! `errno` to `free`'s caller as it was.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed, Ordering::Release};

use pyo3_ffi as ffi;

use crate::elsewhere::{self, Allocator, Domain};
use crate::image::Image;
use crate::{hooks, hosts, numpy};

/// A function that the image imports.
struct Import {
    name: &'static CStr,
    /// What was in its slots before us; null until then.
    original: AtomicPtr<c_void>,
}

static FREE: Import = Import { name: c"free", original: AtomicPtr::new(ptr::null_mut()) };
static REALLOC: Import = Import { name: c"realloc", original: AtomicPtr::new(ptr::null_mut()) };
static DLSYM: Import = Import { name: c"dlsym", original: AtomicPtr::new(ptr::null_mut()) };

impl Import {
    /// Put `ours` into its slots, and add these with what was there to `patched`.
    fn replace(
        &self,
        image: &Image,
        slots: Vec<*mut *mut c_void>,
        ours: *mut c_void,
        patched: &mut Vec<Patched>,
    ) -> Result<(), String> {
        // SAFETY: slots of a loaded image are readable.
        let values = slots.iter().map(|slot| unsafe { slot.read_volatile() });
        // What lies in the image itself leads to another slot of it, or to the loader.
        let is_original = |value: &*mut c_void| !value.is_null() && *value != ours && !image.contains(*value);
        let original = values.into_iter().find(is_original).ok_or("it imports them from no other library")?;
        self.original.store(original, Release);
        for slot in slots {
            // SAFETY: as above; `ours` does what the original does, which it calls.
            let (before, written) = unsafe { (slot.read_volatile(), image.write(slot, ours)) };
            written.map_err(|error| error.to_string())?;
            patched.push((slot, before));
        }
        Ok(())
    }
}

/// A slot, and what was in it.
type Patched = (*mut *mut c_void, *mut c_void);

/// Whether ours are in the slots, for good.
static REPLACED: AtomicBool = AtomicBool::new(false);
/// The address of the block that [`is_seen`] tries the slots with, and how often ours were called with it.
static PROBE: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Put ours in the place of the image's `free` and `realloc`. Called before there are blocks of ours, with the GIL held;
/// `raw` is the interpreter's own allocator of the raw domain, which tells the image and calls both.
///
/// # Errors
/// The reason why that cannot be, in one line; then nothing has changed.
pub fn replace(raw: &Allocator) -> Result<(), String> {
    if REPLACED.load(Relaxed) {
        return Ok(()); // An earlier installation came as far as this.
    }
    let failed =
        |reason: &str| format!("the interpreter's calls of free and realloc cannot be led past our heap: {reason}");
    // A slot that the loader fills at the first call is filled from here on.
    let _ = is_seen(raw);
    let free = raw.free.map_or(ptr::null(), |free| free as *const c_void);
    let image = Image::of(free).ok_or_else(|| failed("its image has no dynamic section that can be read"))?;
    let mut patched = Vec::new();
    let [frees, reallocs, dlsyms] = image.slots([FREE.name, REALLOC.name, DLSYM.name]);
    for (import, slots, ours) in
        [(&FREE, frees, free_or_pass as *mut c_void), (&REALLOC, reallocs, realloc_or_pass as *mut c_void)]
    {
        if let Err(reason) = import.replace(&image, slots, ours, &mut patched) {
            undo(&image, &patched);
            return Err(failed(&reason));
        }
    }
    if !is_seen(raw) {
        undo(&image, &patched);
        return Err(failed("they do not go through its tables"));
    }
    REPLACED.store(true, Relaxed);
    patched.clear();
    if DLSYM.replace(&image, dlsyms, dlsym_after_look as *mut c_void, &mut patched).is_err() {
        undo(&image, &patched); // Then NumPy is found when somebody asks for our state.
    }
    Ok(())
}

/// Put back what was in the slots.
fn undo(image: &Image, patched: &[Patched]) {
    // The last first: a slot may be listed twice. Threads may still be in ours, so what these call stays noted.
    for (slot, before) in patched.iter().rev() {
        // SAFETY: what the loader or another tool had there. Where that fails, ours stay in, and pass all on.
        let _ = unsafe { image.write(*slot, *before) };
    }
}

/// Whether the raw domain's own functions come to ours, tried with a block of theirs.
fn is_seen(raw: &Allocator) -> bool {
    let (Some(malloc), Some(realloc), Some(free)) = (raw.malloc, raw.realloc, raw.free) else {
        return false;
    };
    SEEN.store(0, Relaxed);
    // SAFETY: called as PEP 445 says.
    unsafe {
        let block = malloc(raw.ctx, 64);
        PROBE.store(block.addr(), Relaxed);
        let moved = realloc(raw.ctx, block, 128);
        PROBE.store(moved.addr(), Relaxed);
        free(raw.ctx, if moved.is_null() { block } else { moved });
    }
    PROBE.store(0, Relaxed);
    SEEN.load(Relaxed) == 2
}

fn note_probe(block: *mut c_void) {
    if !block.is_null() && block.addr() == PROBE.load(Relaxed) {
        SEEN.fetch_add(1, Relaxed);
    }
}

/// What the image calls for `free`.
///
/// # Safety
/// As for C's `free`; a block of ours is one of the raw domain.
unsafe extern "C" fn free_or_pass(block: *mut c_void) {
    // SAFETY: ours go to our hook, others to whoever had them before us, by the type of C's `free`.
    unsafe {
        if let Some(range) = hosts::range()
            && range.contains(block.cast())
        {
            let errno = libc::__errno_location();
            let before = errno.read();
            if range.locate(block.cast()).is_some_and(|place| place.start == block.addr()) {
                hooks::raw_free(ptr::null_mut(), block);
            } else {
                hosts::STRAY_FREES.fetch_add(1, Relaxed);
            }
            errno.write(before);
            return;
        }
        if hosts::range().is_none() {
            note_probe(block);
        } else if !block.is_null() {
            hosts::foreign_interpreter_may_be_gone(block.cast());
        }
        let free: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(FREE.original.load(Relaxed));
        free(block);
    }
}

/// What the image calls for `realloc`.
///
/// # Safety
/// As for C's `realloc`; a block of ours is one of the raw domain.
unsafe extern "C" fn realloc_or_pass(block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: as for `free_or_pass`.
    unsafe {
        if let Some(range) = hosts::range()
            && range.contains(block.cast())
        {
            return match range.locate(block.cast()) {
                Some(place) if place.start == block.addr() => hooks::raw_realloc(ptr::null_mut(), block, bytes),
                _ => ptr::null_mut(),
            };
        }
        if hosts::range().is_none() {
            note_probe(block);
        }
        let realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void =
            std::mem::transmute(REALLOC.original.load(Relaxed));
        realloc(block, bytes)
    }
}

/// What the image calls for `dlsym`.
///
/// # Safety
/// As for C's `dlsym`.
unsafe extern "C" fn dlsym_after_look(library: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: a string, by the type of C's `dlsym`, whose original was stored.
    unsafe {
        if !name.is_null() && CStr::from_ptr(name).to_bytes().starts_with(b"PyInit_") {
            numpy::look();
        }
        let dlsym: unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void =
            std::mem::transmute(DLSYM.original.load(Relaxed));
        dlsym(library, name)
    }
}

/// Whether the raw domain has the interpreter's default allocator now, instead of our hooks or what calls them.
pub fn default_is_in() -> bool {
    let mut current = MaybeUninit::<Allocator>::zeroed();
    // SAFETY: the call fills the structure in; all-zero is a valid one.
    let current = unsafe {
        ffi::PyMem_GetAllocator(ffi::PyMemAllocatorDomain::PYMEM_DOMAIN_RAW, current.as_mut_ptr().cast());
        current.assume_init()
    };
    let calloc = |allocator: &Allocator| allocator.calloc.map(|calloc| calloc as *const c_void);
    calloc(&current) == calloc(elsewhere::original(Domain::Raw))
}
