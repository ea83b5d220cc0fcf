//! The mark pass: what the candidates held from elsewhere lead to.
//!
//! A counter is `unreached` (0 over the heap, 1 over a list) or above it. A cursor sweeps over the candidates in address
//! order and traces each that is above. A child that is `unreached` is raised by one; if it lies ahead, the cursor will
//! come by, and nothing else is done; if it lies behind, it is queued.
//!
//! The queue is a FIFO of [`FIFO`] objects, each prefetched as it enters, over a stack (Cher, Hosking, Vitek: Software
//! prefetching for mark-sweep garbage collection, ISMM 2004). What is in the FIFO stays there while the cursor goes on, so
//! that memory has time to arrive.
//!
//! **It ends, and nothing is missed.** A counter is raised once in a collection, so each object enters the queue at most
//! once. An object raised while the stack is full is dropped: it is raised, but perhaps not traced. Then the sweep is
//! repeated from the start, and traces it with everything else that is above; tracing twice changes nothing. A sweep that
//! drops nothing has traced all that is above, by the cursor or by the queue, and is the last. A sweep drops only when the
//! stack was full, thus has raised at least as many objects as the stack holds: with a stack of S, at most 1 + n/S sweeps
//! for n candidates; S is at least heap bytes / 256 and n at most heap bytes / 32, so at most 9.

use core::marker::PhantomData;

use crate::count::{LISTED, candidate, is_candidate};
use crate::model::{ObjectModel, Visitor};
use crate::scratch::{Counters, List, Scratch};

/// Objects on their way from memory.
const FIFO: usize = 16;

/// What a mark pass saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marked {
    /// Candidates traced; if `sweeps` is 1, each of them once.
    pub(crate) traced: usize,
    pub(crate) sweeps: usize,
    /// Entries of the stack used at most.
    pub(crate) deepest: usize,
}

/// Mark over the whole heap, after `count_heap`. Afterwards the counter of a candidate is 0 if and only if it is unreachable.
pub(crate) fn mark_heap<M: ObjectModel>(model: &M, counters: Counters, stack: List) -> Marked {
    let mut marker = Marker::<M>::new(counters, stack, 0);
    loop {
        marker.begin();
        model.heap().visit_live(|block| {
            if counters.of(block.address) == 0 {
                return;
            }
            if let Some(object) = candidate(model, block.address, block.block_bytes) {
                marker.cursor_at(model, object);
            }
        });
        if marker.end(model) {
            return marker.marked;
        }
    }
}

/// Mark over the first `length` entries of the list, after `count_list`. Afterwards the counter of a listed object is
/// [`LISTED`] if and only if it is unreachable.
pub(crate) fn mark_list<M: ObjectModel>(model: &M, scratch: &Scratch, stack: List, length: usize) -> Marked {
    let mut marker = Marker::<M>::new(scratch.counters, stack, LISTED);
    loop {
        marker.begin();
        for i in 0..length {
            let address = scratch.list.get(i);
            if scratch.counters.of(address) > LISTED {
                // SAFETY: the list holds objects that are alive.
                marker.cursor_at(model, unsafe { M::at(address) });
            }
        }
        if marker.end(model) {
            return marker.marked;
        }
    }
}

struct Marker<M> {
    counters: Counters,
    unreached: u16,
    /// Address of the object that the sweep has come to.
    cursor: usize,
    fifo: [*mut u8; FIFO],
    /// Objects ever taken out of the FIFO, and put in: its content is `out..into`, modulo its length.
    out: usize,
    into: usize,
    stack: List,
    depth: usize,
    dropped: bool,
    marked: Marked,
    model: PhantomData<M>,
}

impl<M: ObjectModel> Marker<M> {
    fn new(counters: Counters, stack: List, unreached: u16) -> Marker<M> {
        Marker {
            counters,
            unreached,
            cursor: 0,
            fifo: [core::ptr::null_mut(); FIFO],
            out: 0,
            into: 0,
            stack,
            depth: 0,
            dropped: false,
            marked: Marked::default(),
            model: PhantomData,
        }
    }

    fn begin(&mut self) {
        self.dropped = false;
        self.marked.sweeps += 1;
    }

    /// The cursor has come to an object that is reached.
    #[inline(always)]
    fn cursor_at(&mut self, model: &M, object: M::Ref) {
        self.cursor = M::address(object).addr();
        self.marked.traced += 1;
        model.trace(object, self);
        while self.depth > 0 {
            self.trace_oldest(model);
        }
    }

    /// The sweep is through. Whether it was the last.
    fn end(&mut self, model: &M) -> bool {
        self.cursor = usize::MAX;
        while self.out != self.into {
            self.trace_oldest(model);
        }
        debug_assert!(self.depth == 0 && self.out == self.into);
        !self.dropped
    }

    #[inline]
    fn enter(&mut self, address: *mut u8) {
        prefetch(address);
        self.fifo[self.into % FIFO] = address;
        self.into += 1;
    }

    /// Trace what entered the FIFO first. The stack is empty unless the FIFO is full.
    #[inline]
    fn trace_oldest(&mut self, model: &M) {
        let address = self.fifo[self.out % FIFO];
        self.out += 1;
        if self.depth > 0 {
            self.depth -= 1;
            self.enter(self.stack.get(self.depth));
        }
        // SAFETY: objects enter the FIFO as children of live objects, and nothing is freed meanwhile.
        let object = unsafe { M::at(address) };
        // Over the heap, children that are no candidates get here too.
        if is_candidate(model, object) {
            self.marked.traced += 1;
            model.trace(object, self);
        }
    }

    #[inline]
    fn queue(&mut self, address: *mut u8) {
        if self.into - self.out < FIFO {
            self.enter(address);
        } else if self.depth < self.stack.capacity {
            self.stack.set(self.depth, address);
            self.depth += 1;
            self.marked.deepest = self.marked.deepest.max(self.depth);
        } else {
            self.dropped = true;
        }
    }
}

impl<M: ObjectModel> Visitor<M::Ref> for Marker<M> {
    #[inline(always)]
    fn visit(&mut self, child: M::Ref) {
        let address = M::address(child);
        let Some(index) = self.counters.index(address) else { return };
        if self.counters.get(index) == self.unreached {
            self.counters.set(index, self.unreached + 1);
            if address.addr() < self.cursor {
                self.queue(address);
            }
        }
    }
}

/// Ask for the line at `address` ahead of its use.
#[inline(always)]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address will do.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
