//! The debug heap: a heap that finds out what a program does to memory that is not its own.
//!
//! It wraps a [`Heap`]. Every block gets a header and two redzones (`debug/block.rs`), new blocks are filled with
//! [`FRESH`], freed ones with [`DEAD`], and stay in a quarantine for a while before their memory is used again. What was
//! written where it must not be is found when the block is freed, when it leaves quarantine, and by [`DebugHeap::check`].
//! The three fill bytes are those of CPython's debug allocator, so that they look familiar in a debugger.
//!
//! Invariants:
//! - every live block of the wrapped heap is a debug block whose header is sealed, or was trampled on and is left alone
//! - the quarantine holds the blocks whose state is `Quarantined`, at most `quarantine_bytes` of them, oldest first
//!
//! Everything lies in the blocks themselves and in this structure: nothing is allocated elsewhere.

mod block;
mod quarantine;

use core::fmt;
use core::ptr;

use crate::check::Inconsistency;
use crate::heap::Heap;
use crate::locate::{Location, Tier};
use crate::size::BLOCK_ALIGN;

pub use block::{DEAD, FRESH, REDZONE};
use block::{DebugBlock, FRONT_BYTES, Header, REDZONE_BYTES, State};
use quarantine::Quarantine;

/// What a program did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// It wrote to the bytes right before the block.
    WriteBefore,
    /// It wrote to the bytes right behind the block.
    WriteAfter,
    /// It freed the block a second time.
    DoubleFree,
    /// It freed an address where no block starts.
    NotABlock,
    /// It wrote to the block after freeing it.
    UseAfterFree,
}

/// A fault, and the block that it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What was done.
    pub kind: FaultKind,
    /// The block as its owner knows it, or the address that is none.
    pub block: *mut u8,
    /// Bytes that were requested; 0 if there is no block, or nothing is left that says.
    pub bytes: usize,
    /// Which allocation of this heap it came from, the first being 1; 0 where `bytes` is not known. In a program that does
    /// the same each time this number is the same each time.
    pub serial: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FaultKind::WriteBefore => "write before the start of block",
            FaultKind::WriteAfter => "write past the end of block",
            FaultKind::DoubleFree => "second free of block",
            FaultKind::NotABlock => "free of an address where no block starts,",
            FaultKind::UseAfterFree => "write after free to block",
        };
        write!(f, "{what} {:p}", self.block)?;
        if self.serial != 0 {
            write!(f, " ({} bytes, allocation {})", self.bytes, self.serial)?;
        }
        Ok(())
    }
}

impl core::error::Error for Fault {}

/// A block that is still live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leak {
    /// The block.
    pub block: *mut u8,
    /// Bytes that were requested.
    pub bytes: usize,
    /// Which allocation it came from, the first being 1.
    pub serial: u64,
}

/// Bytes of freed blocks that stay in quarantine: **1 MiB**.
const QUARANTINE_BYTES: usize = 1 << 20;

/// A heap that checks how its blocks are used. Faults go to a handler, which by **default** panics.
pub struct DebugHeap {
    heap: Heap,
    quarantine: Quarantine,
    handler: fn(&Fault),
    serial: u64,
}

impl DebugHeap {
    /// Wrap a heap, which must be empty.
    ///
    /// # Panics
    /// If it is not.
    pub fn new(heap: Heap) -> DebugHeap {
        assert_eq!(heap.live_blocks(), 0, "a debug heap knows the blocks that it allocated itself only");
        DebugHeap { heap, quarantine: Quarantine::new(QUARANTINE_BYTES), handler: panic_on_fault, serial: 0 }
    }

    /// Call `handler` with each fault instead of panicking. It must not use this heap.
    pub fn on_fault(mut self, handler: fn(&Fault)) -> DebugHeap {
        self.handler = handler;
        self
    }

    /// Keep up to so many bytes of freed blocks in quarantine, redzones included. **1 MiB** unless set.
    pub fn quarantine_bytes(mut self, bytes: usize) -> DebugHeap {
        self.quarantine.max_bytes = bytes;
        self
    }

    /// A block of `bytes` bytes, each of them [`FRESH`]; null if there is no memory.
    pub fn alloc(&mut self, bytes: usize) -> *mut u8 {
        self.alloc_aligned(bytes, BLOCK_ALIGN)
    }

    /// As [`DebugHeap::alloc`], with all bytes zero.
    pub fn alloc_zeroed(&mut self, bytes: usize) -> *mut u8 {
        let block = self.alloc(bytes);
        if !block.is_null() {
            // SAFETY: the block has this many bytes.
            unsafe { block.write_bytes(0, bytes) };
        }
        block
    }

    /// As [`DebugHeap::alloc`], at a multiple of `align`, a power of two up to 2 MiB. Null for another number.
    pub fn alloc_aligned(&mut self, bytes: usize, align: usize) -> *mut u8 {
        let front_bytes = FRONT_BYTES.max(align);
        let Some(whole_bytes) = bytes.checked_add(front_bytes + REDZONE_BYTES) else {
            return ptr::null_mut();
        };
        let mut start = self.heap.alloc_aligned(whole_bytes, align);
        if start.is_null() && self.empty_quarantine() {
            start = self.heap.alloc_aligned(whole_bytes, align);
        }
        if start.is_null() {
            return start;
        }
        self.serial += 1;
        let block = DebugBlock { start, whole_bytes: self.heap.usable_bytes(start) };
        // SAFETY: a fresh block of the wrapped heap, which has room for both redzones.
        unsafe { block.set_up(front_bytes, bytes, self.serial) }
    }

    /// Resize a block. It always moves, so that a pointer kept to the old one is found out; only a block that shrinks when
    /// there is no memory stays where it is. Null, and the block as it was, if it cannot grow.
    ///
    /// # Safety
    /// `block` is null, or a live block of this heap that is not used afterwards, unless null is returned. Of what is
    /// not, most is reported instead of done: then null is returned.
    pub unsafe fn realloc(&mut self, block: *mut u8, bytes: usize) -> *mut u8 {
        if block.is_null() {
            return self.alloc(bytes);
        }
        let (old, header) = match self.examine(block) {
            Ok(found) => found,
            Err(fault) => {
                self.report(&fault);
                return ptr::null_mut();
            }
        };
        let new = self.alloc(bytes);
        // SAFETY: a live debug block; the new one is another, and both have the bytes that are copied.
        unsafe {
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, header.bytes.min(bytes));
                self.free(block);
                new
            } else if bytes <= header.bytes {
                let faults = old.damage(&header);
                let header = header.with_bytes(bytes);
                old.set_state(&header, State::Live);
                old.restore(&header);
                faults.iter().flatten().for_each(|fault| self.report(fault));
                block
            } else {
                new
            }
        }
    }

    /// Free a block. False, after a fault was reported, if it is none; null is nothing to free.
    ///
    /// # Safety
    /// `block` is null, or a live block of this heap that is not used afterwards. Of what is not, most is reported
    /// instead of done.
    pub unsafe fn free(&mut self, block: *mut u8) -> bool {
        if block.is_null() {
            return true;
        }
        let (found, header) = match self.examine(block) {
            Ok(found) => found,
            Err(fault) => {
                self.report(&fault);
                return false;
            }
        };
        // SAFETY: a live debug block, which is given up here.
        unsafe {
            let faults = found.damage(&header);
            found.restore(&header);
            found.set_state(&header, State::Quarantined);
            found.poison(&header);
            self.retire(found);
            faults.iter().flatten().for_each(|fault| self.report(fault));
        }
        true
    }

    /// The live block that `block` is said to be, or what is wrong with that.
    fn examine(&self, block: *mut u8) -> Result<(DebugBlock, Header), Fault> {
        let none = Fault { kind: FaultKind::NotABlock, block, bytes: 0, serial: 0 };
        let location = self.heap.range().locate(block).filter(|_| self.heap.owns(block)).ok_or(none)?;
        let found = DebugBlock { start: block.with_addr(location.start), whole_bytes: location.block_bytes };
        // SAFETY: memory of a pool or span of this heap can be read.
        let Some(header) = (unsafe { found.header() }) else {
            let trampled = self.is_live(&location);
            return Err(if trampled { Fault { kind: FaultKind::WriteBefore, ..none } } else { none });
        };
        let fault = Fault { bytes: header.bytes, serial: header.serial, ..none };
        match header.state {
            State::Ruined => Err(Fault { kind: FaultKind::WriteBefore, ..none }),
            _ if found.user(&header) != block => Err(none),
            State::Live => Ok((found, header)),
            State::Quarantined | State::Released => Err(Fault { kind: FaultKind::DoubleFree, ..fault }),
        }
    }

    /// Whether the wrapped heap has handed out the block at this place.
    fn is_live(&self, location: &Location) -> bool {
        match location.tier {
            Tier::Block { pool, index, .. } => {
                let pool = self.heap.range().pool(pool);
                let (free, _) = self.heap.free_blocks(pool);
                // SAFETY: the descriptor of a pool of this heap.
                let carved = usize::from(unsafe { (*pool).carved });
                index < carved && free[index / 64] >> (index % 64) & 1 == 0
            }
            Tier::Span | Tier::ArenaSpan => true,
        }
    }

    /// Put a block that was just freed into quarantine; what has to leave for it goes back to the wrapped heap.
    fn retire(&mut self, block: DebugBlock) {
        self.quarantine.push(block);
        while let Some(oldest) = self.quarantine.pop_excess() {
            self.release(oldest);
        }
    }

    fn empty_quarantine(&mut self) -> bool {
        let mut any = false;
        while let Some(oldest) = self.quarantine.pop() {
            self.release(oldest);
            any = true;
        }
        any
    }

    /// Give a block that leaves quarantine back to the wrapped heap, if nobody wrote to it meanwhile.
    fn release(&mut self, block: DebugBlock) {
        // SAFETY: blocks in quarantine are live blocks of the wrapped heap, and ours alone.
        unsafe {
            let fault = block.use_after_free();
            // Without its header a block still has its place.
            let header = block.header().unwrap_or(Header::UNKNOWN);
            block.set_state(&header, State::Released);
            self.heap.free(block.start);
            fault.iter().for_each(|fault| self.report(fault));
        }
    }

    /// Look at every block, live ones and those in quarantine, and at the wrapped heap's tables. Each fault is reported
    /// once. Returns how many there were.
    ///
    /// # Errors
    /// An inconsistency of the tables, if there is no fault that may explain it.
    pub fn check(&mut self) -> Result<usize, Inconsistency> {
        let mut faults = 0;
        let handler = self.handler;
        self.heap.visit_live(|live| {
            let block = DebugBlock { start: live.address, whole_bytes: live.block_bytes };
            // SAFETY: a live block of the wrapped heap: one of ours, or one in quarantine.
            unsafe {
                for fault in block.inspect().iter().flatten() {
                    faults += 1;
                    handler(fault);
                }
            }
        });
        match self.heap.check() {
            Err(inconsistency) if faults == 0 => Err(inconsistency),
            _ => Ok(faults),
        }
    }

    /// Call `visit` with every block that is still live, in address order.
    pub fn leaks(&self, mut visit: impl FnMut(Leak)) {
        self.heap.visit_live(|live| {
            let block = DebugBlock { start: live.address, whole_bytes: live.block_bytes };
            // SAFETY: a live block of the wrapped heap can be read.
            match unsafe { block.header() } {
                Some(header) if header.state == State::Live => {
                    visit(Leak { block: block.user(&header), bytes: header.bytes, serial: header.serial });
                }
                _ => {}
            }
        });
    }

    /// Bytes that were requested for the live block at `block`; 0 if it is none.
    pub fn usable_bytes(&self, block: *mut u8) -> usize {
        self.examine(block).map_or(0, |(_, header)| header.bytes)
    }

    /// The wrapped heap. Its figures include headers, redzones and the quarantine.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    fn report(&self, fault: &Fault) {
        (self.handler)(fault);
    }
}

#[cold]
fn panic_on_fault(fault: &Fault) {
    panic!("{fault}");
}
