//! Panics of program code (`Drop`, finalizers, callbacks) in the middle of our work: caught there, so that the work is
//! finished, and raised again from the outermost call into this crate.
//!
//! Invariant: `PANICKED` is noted ⇔ there are payloads. Called around every call into program code.

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::inner::{Inner, PANICKED};

/// What a panic carries.
pub type Payload = Box<dyn Any + Send>;

/// Receives panics instead of the caller.
pub(crate) type Hook = Rc<dyn Fn(Payload)>;

#[derive(Default)]
pub(crate) struct Panics {
    caught: Vec<Payload>,
    pub(crate) hook: Option<Hook>,
    /// Panics ever caught.
    pub(crate) count: u64,
}

impl Panics {
    /// What was caught, to be raised where the heap is in no call.
    pub(crate) fn take(&mut self) -> Raised {
        Raised { payloads: core::mem::take(&mut self.caught), hook: self.hook.clone() }
    }
}

/// Run program code. If it panics, the payload waits for the end of the outermost call.
///
/// # Safety
/// `inner` is alive, and stays so.
#[inline(always)]
pub(crate) unsafe fn guard(inner: *mut Inner, code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        // SAFETY: by the caller's word.
        unsafe { caught_slow(inner, payload) };
    }
}

#[cold]
#[inline(never)]
unsafe fn caught_slow(inner: *mut Inner, payload: Payload) {
    // SAFETY: by the caller's word.
    unsafe {
        (*inner).panics.caught.push(payload);
        (*inner).panics.count += 1;
        (*inner).notes |= PANICKED;
    }
}

/// Panics on their way out.
pub(crate) struct Raised {
    payloads: Vec<Payload>,
    hook: Option<Hook>,
}

impl Raised {
    /// Hand them to the hook, or go on panicking with the first. A thread that panics already is left alone: a second panic
    /// would end the process.
    pub(crate) fn raise(self) {
        let mut first = None;
        for payload in self.payloads {
            if let Some(hook) = &self.hook {
                discard_panic_of(|| hook(payload));
            } else if first.is_none() && !std::thread::panicking() {
                first = Some(payload);
            } else {
                discard_panic_of(|| drop(payload));
            }
        }
        if let Some(payload) = first {
            resume_unwind(payload);
        }
    }
}

/// Even a payload's own `Drop` may panic, with a payload that does so as well. At some point they are leaked.
fn discard_panic_of(code: impl FnOnce()) {
    const ROUNDS: usize = 4;
    let mut result = catch_unwind(AssertUnwindSafe(code));
    for _ in 0..ROUNDS {
        let Err(payload) = result else { return };
        result = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
    core::mem::forget(result);
}
