//! What a heap calls for a sample, and for the free of one. **Runs inside allocation hooks**, see the invariants of
//! [`super`].
//!
//! A heap's sampler is used by whoever may use the heap; the tables are everybody's, under their lock. Threads may get here
//! concurrently: the raw domain's without the GIL, interpreters with a GIL of their own.

use core::ffi::c_void;

use heapkeeper_heap::{Observer, Range, monotonic_ms};
use heapkeeper_profile::{Code, CodeId, Full, Gaps, NodeId, Tables, ThreadId};
use pyo3_ffi as ffi;

use super::{identity, with_state};
use crate::frames::{self, Domain, Interpreter, RawFrame, Stack};
use crate::layout::Layout;

/// The sampler of one heap.
pub(super) struct Sampler {
    gaps: Gaps,
    caller: Domain,
    range: &'static Range,
}

impl Sampler {
    pub(super) fn new(gaps: Gaps, caller: Domain, range: &'static Range) -> Sampler {
        Sampler { gaps, caller, range }
    }

    /// The observer to give to the heap, and its first budget in bytes. The sampler stays at its address while the heap is
    /// in use.
    pub(super) fn observer(&mut self) -> (Observer, isize) {
        let first_gap_bytes = self.next_gap_bytes();
        let context = (&raw mut *self).cast::<c_void>();
        (Observer { context, allocated, freed }, first_gap_bytes)
    }

    fn next_gap_bytes(&mut self) -> isize {
        isize::try_from(self.gaps.next_gap_bytes()).unwrap_or(isize::MAX)
    }
}

/// The budget is used up: `block` is a sample. Says whether it found room in the tables.
///
/// # Safety
/// `context` is the sampler of the calling heap, which is the caller's alone; `block` is a new block of `bytes` bytes.
unsafe fn allocated(context: *mut c_void, block: *mut u8, bytes: usize, budget: &mut isize) -> bool {
    // SAFETY: the heap gives back what `Sampler::observer` gave it, and is used by one thread at a time.
    let sampler = unsafe { &mut *context.cast::<Sampler>() };
    *budget = sampler.next_gap_bytes();
    if bytes == 0 {
        return false;
    }
    let mut stack = Stack::new();
    // SAFETY: this is the thread that runs the hook.
    let interpreter = unsafe { read_stack(sampler.caller, &mut stack) };
    // What all heaps hold, this block included: the peak is theirs, not that of our own estimate.
    let level = sampler.range.stats().held_bytes as u64;
    // The number that `threading.get_ident` gives. Unlike the kernel's it is used again after the thread, so threads that
    // come and go do not make sites without end.
    // SAFETY: has no conditions.
    let thread = ThreadId(unsafe { libc::pthread_self() } as usize);
    with_state(|state| {
        state.saw(thread);
        let tables = &mut state.tables;
        let inserted = match interpreter {
            // SAFETY: `read_stack` found frames only in a thread that holds the GIL of the code objects' interpreter.
            Interpreter::Shared => unsafe { intern_stack(tables, &stack) },
            Interpreter::Own(number) => intern_interpreter(tables, number),
        }
        .and_then(|node| tables.insert(block.addr(), bytes, node, thread, Some(level), monotonic_ms));
        if inserted.is_err() {
            tables.lose();
        }
        inserted.is_ok()
    })
    .unwrap_or(false)
}

/// A block goes whose pool holds samples. Says whether it was one.
///
/// # Safety
/// None; unsafe as the type of an observer's function.
unsafe fn freed(_: *mut c_void, block: *mut u8) -> bool {
    with_state(|state| state.tables.remove(block.addr())).unwrap_or(false)
}

/// Read the stack of the calling thread, empty if it does not hold the GIL, and whose stack it is. The frames of an
/// interpreter with an allocator of its own are not read: its code objects are its own to free.
///
/// # Safety
/// The layout has been checked.
unsafe fn read_stack(caller: Domain, stack: &mut Stack) -> Interpreter {
    let state = frames::current_thread_state(caller);
    if state.is_null() {
        return Interpreter::Shared;
    }
    let layout = Layout::get();
    // SAFETY: `state` is the calling thread's and attached, so its interpreter is alive, and the GIL is held.
    unsafe {
        let interpreter = frames::interpreter(layout, state);
        if interpreter == Interpreter::Shared {
            frames::walk(layout, state, stack);
        }
        interpreter
    }
}

/// # Safety
/// The GIL of the code objects' interpreter is held if there are any frames.
unsafe fn intern_stack(tables: &mut Tables, stack: &Stack) -> Result<NodeId, Full> {
    let mut node = if stack.truncated() { NodeId::TRUNCATED } else { NodeId::EMPTY };
    for RawFrame { code, offset_bytes } in stack.frames().iter().rev() {
        let id = match tables.code_at(code.addr()) {
            Some(id) => id,
            // SAFETY: a running frame keeps its code object alive; the GIL is held.
            None => match unsafe { intern_code(tables, *code) }? {
                Some(id) => id,
                None => continue,
            },
        };
        node = tables.child(node, id, *offset_bytes)?;
    }
    Ok(node)
}

/// Make a code object known and keep it alive. `None` for one that is being freed, which no running frame should have.
///
/// # Safety
/// `code` is a code object, and the GIL is held.
#[cold]
pub(super) unsafe fn intern_code(tables: &mut Tables, code: *mut ffi::PyCodeObject) -> Result<Option<CodeId>, Full> {
    // SAFETY: the caller's promise. Taking a reference touches one word and calls nobody.
    unsafe {
        if ffi::Py_REFCNT(code.cast()) <= 0 {
            return Ok(None);
        }
        let interned = tables.intern(Code::Object(code.expose_provenance()), identity::of_code(code))?;
        if interned.keep_alive {
            ffi::Py_INCREF(code.cast());
        }
        Ok(Some(interned.id))
    }
}

pub(super) fn intern_interpreter(tables: &mut Tables, number: i64) -> Result<NodeId, Full> {
    let id = tables.intern(Code::Interpreter(number), identity::of_interpreter(number))?.id;
    tables.child(NodeId::EMPTY, id, -1)
}
