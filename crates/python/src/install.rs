//! Installation: our hooks go in where the interpreter's own allocators are, whatever lies above them.
//!
//! ```text
//! PyMem_GetAllocator →  tracemalloc's hook → debug hook → pymalloc / malloc
//!                       (if running)         (if on)      ^ replaced here
//! ```
//! tracemalloc puts the allocator it saved back when it stops. Were we on top of it then, the interpreter would go on
//! without our hooks and free our blocks as its own. So we slip underneath: the hook's context *is* the allocator it
//! saved (3.10–3.13, Modules/_tracemalloc.c or Python/tracemalloc.c, `allocators`), and for the debug hooks it follows
//! one byte of API name (Objects/obmalloc.c, `debug_alloc_api_t`). A hook of a third party is not ours to take apart:
//! then we refuse.

use std::ffi::c_void;
use std::mem::{MaybeUninit, size_of};
use std::sync::atomic::{Ordering::SeqCst, fence};

use pyo3_ffi as ffi;

use crate::elsewhere::{self, Allocator, DOMAINS, Domain};
use crate::{answers, fork, hooks, hosts, imports, interpreter, layout, numpy, profile, standard_error, watch};

/// Where a domain's innermost allocator is written down.
enum Seat {
    /// In the interpreter: `PyMem_SetAllocator` replaces it.
    Interpreter,
    /// In the context of a hook of the interpreter's own.
    Saved(*mut Allocator),
}

/// Put this process on our heap. The GIL is held.
///
/// # Errors
/// The reason why CPython's allocator stays, in one line.
pub fn install(sample_bytes: u64, max_heap_bytes: usize, seed: u64) -> Result<(), String> {
    if hosts::range().is_some() {
        return Ok(());
    }
    // SAFETY: the GIL is held, and no exception is set in a call from Python.
    unsafe { layout::self_check() }.map_err(|error| error.to_string())?;
    let mut seats = Vec::new();
    for domain in DOMAINS {
        seats.push((domain, find_seat(domain)?));
    }
    if let Some((_, (_, raw))) = seats.iter().find(|(domain, _)| *domain == Domain::Raw) {
        imports::replace(raw)?;
    }
    standard_error::remember();
    hosts::create()?;
    set_limit(max_heap_bytes);
    profile::start(sample_bytes, seed);
    // SAFETY: the GIL is held, and nobody uses the heaps yet.
    unsafe {
        profile::observe(hosts::main(), profile::Domain::Main);
        hosts::with_raw(|raw| profile::observe(raw, profile::Domain::Raw));
    }
    fork::register();
    for (domain, (seat, original)) in seats {
        // SAFETY: the GIL is held.
        unsafe {
            elsewhere::remember(domain, original);
            replace(domain, &seat, original);
        }
    }
    answers::install();
    numpy::look();
    Ok(())
}

/// Replace a domain's allocator while threads without the GIL may call it (the raw domain), or under a GIL of their own (all
/// of them): they see its words change one after the other. So that nobody allocates by the new words and frees by the old
/// ones, `free` comes first, then `realloc`: ours hand foreign blocks back, and need no context.
///
/// # Safety
/// The GIL is held; `original` is what is written down in `seat`.
unsafe fn replace(domain: Domain, seat: &Seat, original: Allocator) {
    let ours = hooks::allocator(domain);
    let only_free = Allocator { free: ours.free, ..original };
    let only_old = Allocator { realloc: ours.realloc, ..only_free };
    for mut step in [only_free, only_old, ours] {
        // SAFETY: by the caller's word. The interpreter copies the words; they are aligned, so none is torn.
        unsafe {
            match seat {
                Seat::Interpreter => ffi::PyMem_SetAllocator(number(domain), (&raw mut step).cast()),
                Seat::Saved(saved) => saved.write_volatile(step),
            }
        }
        fence(SeqCst);
    }
}

/// The allocators of all domains, outermost hooks and all. The GIL is held.
pub fn current() -> [Allocator; 3] {
    DOMAINS.map(|domain| {
        let mut current = MaybeUninit::<Allocator>::zeroed();
        // SAFETY: the call fills the structure in; all-zero is a valid one.
        unsafe {
            ffi::PyMem_GetAllocator(number(domain), current.as_mut_ptr().cast());
            current.assume_init()
        }
    })
}

/// Put back allocators that [`current`] gave.
///
/// # Safety
/// The GIL is held, and blocks of today's allocators may be freed by these.
pub unsafe fn set_current(allocators: [Allocator; 3]) {
    for (domain, mut allocator) in DOMAINS.into_iter().zip(allocators) {
        // SAFETY: by the caller's word.
        unsafe { ffi::PyMem_SetAllocator(number(domain), (&raw mut allocator).cast()) };
    }
}

/// Set the hard limit over all heaps; 0 for none.
pub fn set_limit(bytes: usize) {
    if let Some(range) = hosts::range() {
        range.set_limit(if bytes == 0 { usize::MAX } else { bytes }, Some(watch::limit_handler()));
    }
}

/// What an answer about the heap may take beyond the limit: **16 MiB**.
const ANSWER_BYTES: usize = 16 << 20;

/// Let the heaps hold more than their limit while they are asked where memory went. Returns what [`narrow_limit`] takes.
pub fn widen_limit() -> usize {
    hosts::range().map_or(0, |range| range.widen_limit(ANSWER_BYTES))
}

pub fn narrow_limit(widened_bytes: usize) {
    if let Some(range) = hosts::range() {
        range.narrow_limit(widened_bytes);
    }
}

fn number(domain: Domain) -> ffi::PyMemAllocatorDomain {
    match domain {
        Domain::Raw => ffi::PyMemAllocatorDomain::PYMEM_DOMAIN_RAW,
        Domain::Mem => ffi::PyMemAllocatorDomain::PYMEM_DOMAIN_MEM,
        Domain::Object => ffi::PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ,
    }
}

/// The innermost allocator of a domain and where it is written down.
fn find_seat(domain: Domain) -> Result<(Seat, Allocator), String> {
    let mut current = MaybeUninit::<Allocator>::zeroed();
    // SAFETY: the call fills the structure in; all-zero is a valid one.
    let mut current = unsafe {
        ffi::PyMem_GetAllocator(number(domain), current.as_mut_ptr().cast());
        current.assume_init()
    };
    let mut seat = Seat::Interpreter;
    // tracemalloc over debug is two deep; more than a few would be a circle.
    for _ in 0..8 {
        let malloc = current.malloc.map_or(std::ptr::null(), |f| f as *const c_void);
        if !interpreter::in_image(malloc) {
            return Err(format!(
                "another tool's hook is in the {domain:?} domain; start heapkeeper before it, or without it"
            ));
        }
        if current.ctx.is_null() {
            return Ok((seat, current));
        }
        let saved = saved_in(current.ctx)
            .ok_or_else(|| format!("an unknown hook of the interpreter's is in the {domain:?} domain"))?;
        // SAFETY: `saved_in` found an allocator there.
        current = unsafe { saved.read() };
        seat = Seat::Saved(saved);
    }
    Err(format!("the hooks in the {domain:?} domain have no end"))
}

/// The allocator that a hook of the interpreter's saved in its context: at once (tracemalloc) or behind its name (debug).
fn saved_in(context: *mut c_void) -> Option<*mut Allocator> {
    if !interpreter::in_image(context) {
        return None;
    }
    let word = size_of::<usize>();
    // SAFETY: both structures are longer than two words, and lie in the interpreter's own data.
    unsafe {
        let first = context.cast::<u8>();
        let is_debug = matches!(*first, b'r' | b'm' | b'o') && (1..word).all(|i| *first.add(i) == 0);
        let saved = if is_debug { first.add(word) } else { first }.cast::<Allocator>();
        let malloc = (&raw const (*saved).malloc).cast::<*const c_void>().read();
        let free = (&raw const (*saved).free).cast::<*const c_void>().read();
        (interpreter::in_image(malloc) && interpreter::in_image(free)).then_some(saved)
    }
}
