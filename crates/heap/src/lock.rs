//! A lock of one word that survives `fork`.
//!
//! The usual three states (0 free, 1 held, 2 held and somebody may wait; U. Drepper, "Futexes Are Tricky", mutex 2).
//! A lock of the standard library would do, were it not for `no_std` and for the child of a fork, which must be able to
//! free a lock whose waiters did not come along: [`Lock::reset`].

use core::sync::atomic::{AtomicU32, Ordering};

use crate::os;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A mutual exclusion lock that protects whatever its owner says it does.
#[derive(Debug)]
pub struct Lock(AtomicU32);

impl Lock {
    /// A free lock.
    pub const fn new() -> Lock {
        Lock(AtomicU32::new(FREE))
    }

    /// Take the lock; waits for it.
    #[inline]
    pub fn acquire(&self) {
        if self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.acquire_slow();
        }
    }

    /// Take the lock if nobody holds it; whether that was so.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn acquire_slow(&self) {
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            os::wait_on(&self.0, CONTENDED);
        }
    }

    /// Free the lock, which the caller holds.
    #[inline]
    pub fn release(&self) {
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            os::wake_one(&self.0);
        }
    }

    /// In the child of a fork whose parent held the lock: free it, and forget who waited.
    pub fn reset(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// Run `work` with the lock held.
    #[inline]
    pub fn with<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Held<'a>(&'a Lock);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.release();
            }
        }
        self.acquire();
        let _held = Held(self);
        work()
    }
}

impl Default for Lock {
    fn default() -> Lock {
        Lock::new()
    }
}
