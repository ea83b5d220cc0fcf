//! Spans: blocks too large for a pool.
//!
//! - up to 1 MiB: a run of slots inside an arena, whose first descriptor says how many
//! - above: a run of whole arenas, described by the arena table; memory counts by OS page, and a span that grows moves
//!   by remapping its pages, never by copying them
//!
//! Also [`Heap::realloc`] and aligned allocation, which choose between blocks and spans.

use core::ptr;

use crate::arena::{ALL_SLOTS, ArenaKind, slot_mask};
use crate::heap::Heap;
use crate::os;
use crate::pool::{NO_SLOT, Pool, SlotKind};
use crate::refill::Taken;
use crate::size::{
    ARENA_BYTES, BLOCK_ALIGN, IN_ARENA_MAX_BYTES, MEDIUM_MAX_BYTES, SLOT_BYTES, SLOTS_PER_ARENA, SMALL_MAX_BYTES,
    SizeClass, round_up,
};

impl Heap {
    pub(crate) fn alloc_span(&mut self, bytes: usize) -> *mut u8 {
        if bytes <= IN_ARENA_MAX_BYTES {
            self.alloc_slots(bytes.div_ceil(SLOT_BYTES)).0
        } else {
            self.alloc_arenas(bytes).0
        }
    }

    /// As [`Heap::alloc_zeroed`], for requests that a span serves: memory fresh from the OS needs no zeroing.
    #[cold]
    pub(crate) fn alloc_span_zeroed(&mut self, bytes: usize) -> *mut u8 {
        if bytes > isize::MAX as usize {
            return ptr::null_mut();
        }
        self.budget -= bytes as isize;
        let (block, clean) = if bytes <= IN_ARENA_MAX_BYTES {
            self.alloc_slots(bytes.div_ceil(SLOT_BYTES))
        } else {
            self.alloc_arenas(bytes)
        };
        if !block.is_null() && !clean {
            // SAFETY: the span has at least `bytes` bytes.
            unsafe { ptr::write_bytes(block, 0, bytes) };
        }
        self.settle(block, bytes);
        block
    }

    /// A span of `count` slots, and whether it is known to be zero.
    fn alloc_slots(&mut self, count: usize) -> (*mut u8, bool) {
        let Some(Taken { slot, clean }) = self.take_slots(count, false) else {
            return (ptr::null_mut(), false);
        };
        self.describe_slots(
            slot,
            count,
            Pool {
                free: ptr::null_mut(),
                next: NO_SLOT,
                prev: NO_SLOT,
                used: 1,
                slow_below: 0,
                carved: 1,
                capacity: 1,
                owner: 0,
                marks: 0,
                class: 0,
                kind: SlotKind::Span,
                slots: count as u8,
                back: 0,
            },
        );
        self.spans += 1;
        self.span_bytes += count * SLOT_BYTES;
        (self.range.slot_start(slot), clean)
    }

    /// A span of whole arenas, and whether it is known to be zero.
    fn alloc_arenas(&mut self, bytes: usize) -> (*mut u8, bool) {
        let Some(span_bytes) = round_up(bytes, self.range.page_bytes()) else {
            return (ptr::null_mut(), false);
        };
        if self.charge(span_bytes, false).is_none() {
            return (ptr::null_mut(), false);
        }
        let arenas = span_bytes.div_ceil(ARENA_BYTES);
        let Some(first) = self.take_span(span_bytes) else {
            self.uncharge(span_bytes);
            return (ptr::null_mut(), false);
        };
        let mut clean = true;
        for index in first..first + arenas {
            // SAFETY: the arenas are this heap's now.
            clean &= unsafe { (*self.range.arena(index)).dirty == 0 };
        }
        self.describe_arenas(first, arenas, span_bytes);
        self.range.note_peak();
        self.spans += 1;
        self.span_bytes += span_bytes;
        (self.range.arena_start(first), clean)
    }

    fn take_span(&mut self, span_bytes: usize) -> Option<usize> {
        let keep_slots = self.range.keep_beside_now() / SLOT_BYTES;
        if self.retained_slots > keep_slots {
            self.give_back_slots(keep_slots, false);
        }
        self.range.take_arenas(
            span_bytes.div_ceil(ARENA_BYTES),
            self.id,
            ArenaKind::SpanInterior,
            huge_arenas(span_bytes),
        )
    }

    fn describe_arenas(&mut self, first: usize, arenas: usize, span_bytes: usize) {
        for index in first..first + arenas {
            let arena = self.range.arena(index);
            // What this span may have touched: all of its slots, the last arena's share included.
            let here = (span_bytes - (index - first) * ARENA_BYTES).min(ARENA_BYTES);
            // SAFETY: the arena is this heap's.
            unsafe {
                (*arena).kind = if index == first { ArenaKind::Span } else { ArenaKind::SpanInterior };
                (*arena).run = if index == first { arenas } else { index - first } as u32;
                (*arena).span_bytes = if index == first { span_bytes } else { 0 };
                (*arena).dirty |=
                    if (*arena).huge { slot_mask(0, SLOTS_PER_ARENA) } else { slot_mask(0, here.div_ceil(SLOT_BYTES)) };
            }
        }
    }

    /// Free the span that starts at `block`. False if there is none of this heap's.
    ///
    /// # Safety
    /// As for [`Heap::free`]; `slot` is the block's.
    pub(crate) unsafe fn free_span(&mut self, block: *mut u8, slot: usize) -> bool {
        let index = slot / SLOTS_PER_ARENA;
        let arena = self.range.arena(index);
        let pool = self.range.pool(slot);
        // SAFETY: descriptors exist for every address of the range; those of arenas of this heap are its own.
        unsafe {
            if (*arena).owner != self.id {
                return false;
            }
            match ((*arena).kind, (*pool).kind) {
                (ArenaKind::Pools, SlotKind::Span) if block == self.range.slot_start(slot) => {
                    let slots = usize::from((*pool).slots);
                    if (*pool).marks > 0 {
                        self.show_freed(block);
                    }
                    self.spans -= 1;
                    self.span_bytes -= slots * SLOT_BYTES;
                    self.put_slots(slot, slots);
                    true
                }
                (ArenaKind::Span, _) if block == self.range.arena_start(index) => {
                    let span_bytes = (*arena).span_bytes;
                    if (*arena).marked {
                        self.show_freed(block);
                    }
                    self.spans -= 1;
                    self.span_bytes -= span_bytes;
                    self.uncharge(span_bytes);
                    self.range.put_arenas(index, (*arena).run as usize);
                    true
                }
                _ => false,
            }
        }
    }

    fn show_freed(&mut self, block: *mut u8) {
        if let Some(observer) = self.observer {
            observer.show_freed(block);
        }
    }

    /// Resize a block: in place where its class or span allows, by remapping where it is a large span, else by copying.
    /// Null, and the block as it was, if there is no memory. A null `block` allocates.
    ///
    /// # Safety
    /// `block` is a live block of this heap, not used afterwards unless null is returned.
    pub unsafe fn realloc(&mut self, block: *mut u8, bytes: usize) -> *mut u8 {
        if block.is_null() {
            return self.alloc(bytes);
        }
        let old_bytes = self.usable_bytes(block);
        debug_assert!(old_bytes > 0, "realloc of a block that is not this heap's");
        // Shrinking moves only when it saves a quarter: CPython's rule (3.13, Objects/obmalloc.c, pymalloc_realloc).
        if bytes <= old_bytes && (bytes > old_bytes - old_bytes / 4 || old_bytes <= BLOCK_ALIGN) {
            return block;
        }
        if bytes > MEDIUM_MAX_BYTES && old_bytes > MEDIUM_MAX_BYTES {
            // SAFETY: a live span of this heap.
            if let Some(moved) = unsafe { self.resize_span(block, old_bytes, bytes) } {
                return moved;
            }
        }
        let new = self.alloc(bytes);
        if new.is_null() {
            // A block that was to shrink is large enough as it is: shrinking never fails.
            return if bytes <= old_bytes { block } else { new };
        }
        // SAFETY: both blocks are live and distinct, and at least this long.
        unsafe {
            ptr::copy_nonoverlapping(block, new, old_bytes.min(bytes));
            self.free(block);
        }
        new
    }

    /// Resize a span without copying, if that can be done.
    ///
    /// # Safety
    /// `block` is a live span of this heap of `old_bytes`.
    unsafe fn resize_span(&mut self, block: *mut u8, old_bytes: usize, bytes: usize) -> Option<*mut u8> {
        if bytes > isize::MAX as usize {
            return None;
        }
        // SAFETY: a live span of this heap.
        let moved = unsafe {
            if old_bytes <= IN_ARENA_MAX_BYTES {
                if bytes > IN_ARENA_MAX_BYTES {
                    return None;
                }
                self.resize_slots(block, bytes.div_ceil(SLOT_BYTES))?
            } else {
                if bytes <= IN_ARENA_MAX_BYTES {
                    return None;
                }
                self.resize_arenas(block, old_bytes, round_up(bytes, self.range.page_bytes())?)?
            }
        };
        // To an observer this is a free and an allocation.
        self.budget -= bytes as isize;
        let marked = self.take_span_mark(moved);
        if marked {
            self.show_freed(block);
        }
        if self.budget < 0 {
            self.observe_alloc(moved, bytes);
        }
        Some(moved)
    }

    /// Clear the mark of the span at `block`; whether it had one.
    fn take_span_mark(&mut self, block: *mut u8) -> bool {
        let slot = self.range.slot_of(block);
        // SAFETY: a live span of this heap.
        unsafe {
            let pool = self.range.pool(slot);
            let arena = self.range.arena(slot / SLOTS_PER_ARENA);
            let marked = (*pool).marks > 0 || (*arena).marked;
            if (*pool).kind == SlotKind::Span {
                (*pool).marks = 0;
            }
            (*arena).marked = false;
            marked
        }
    }

    unsafe fn resize_slots(&mut self, block: *mut u8, new: usize) -> Option<*mut u8> {
        let slot = self.range.slot_of(block);
        let (index, first) = (slot / SLOTS_PER_ARENA, slot % SLOTS_PER_ARENA);
        let arena = self.range.arena(index);
        // SAFETY: the span's descriptors and its arena are this heap's.
        unsafe {
            let head = self.range.pool(slot);
            let old = usize::from((*head).slots);
            if new < old {
                (*head).slots = new as u8;
                self.span_bytes -= (old - new) * SLOT_BYTES;
                self.put_slots(slot + new, old - new);
                return Some(block);
            }
            if new == old {
                return Some(block);
            }
            if first + new > SLOTS_PER_ARENA {
                return None;
            }
            let mask = slot_mask(first + old, new - old);
            if (*arena).free & mask != mask {
                return None;
            }
            self.charge((new - old) * SLOT_BYTES, false)?;
            self.range.note_peak();
            self.bin_remove(index);
            self.retained_slots -= ((*arena).dirty & mask).count_ones() as usize;
            (*arena).free &= !mask;
            (*arena).dirty |= mask;
            self.bin_insert(index);
            self.span_bytes += (new - old) * SLOT_BYTES;
            let mut whole = ptr::read(head);
            whole.slots = new as u8;
            self.describe_slots(slot, new, whole);
        }
        Some(block)
    }

    unsafe fn resize_arenas(&mut self, block: *mut u8, old_bytes: usize, new_bytes: usize) -> Option<*mut u8> {
        let first = self.range.slot_of(block) / SLOTS_PER_ARENA;
        let (old, new) = (old_bytes.div_ceil(ARENA_BYTES), new_bytes.div_ceil(ARENA_BYTES));
        if new_bytes <= old_bytes {
            // SAFETY: the tail is no longer part of the span.
            unsafe {
                let kept = new * ARENA_BYTES;
                if kept > new_bytes {
                    os::decommit(block.add(new_bytes), kept.min(old_bytes) - new_bytes);
                }
                // The arenas that stay have been described as touched already; the last one keeps that on the safe side.
                (*self.range.arena(first)).span_bytes = new_bytes;
                (*self.range.arena(first)).run = new as u32;
                if old > new {
                    self.range.put_arenas(first + new, old - new);
                }
            }
            self.span_bytes -= old_bytes - new_bytes;
            self.uncharge(old_bytes - new_bytes);
            return Some(block);
        }
        self.charge(new_bytes - old_bytes, false)?;
        let moved = if new == old || self.range.extend_span(first, old, new, self.id, huge_arenas(new_bytes)) {
            self.describe_arenas(first, new, new_bytes);
            Some(block)
        } else {
            // SAFETY: a live span of this heap.
            unsafe { self.move_span(first, old_bytes, new_bytes) }
        };
        match moved {
            Some(_) => {
                self.range.note_peak();
                self.span_bytes += new_bytes - old_bytes;
            }
            None => self.uncharge(new_bytes - old_bytes),
        }
        moved
    }

    /// Move a span's pages to a longer run of arenas.
    ///
    /// # Safety
    /// The span at arena `first` is live, this heap's, and `old_bytes` long.
    unsafe fn move_span(&mut self, first: usize, old_bytes: usize, new_bytes: usize) -> Option<*mut u8> {
        let (old, new) = (old_bytes.div_ceil(ARENA_BYTES), new_bytes.div_ceil(ARENA_BYTES));
        let target = self.take_span(new_bytes)?;
        // SAFETY: both runs are this heap's, writable and apart; the target holds nothing.
        unsafe {
            for i in 0..old {
                if !self.move_arena(first + i, target + i) {
                    // No memory for the rest: what went over comes back. The source stayed mapped.
                    for i in 0..i {
                        let (from, to) = (self.range.arena_start(first + i), self.range.arena_start(target + i));
                        ptr::copy_nonoverlapping(to, from, ARENA_BYTES);
                        (*self.range.arena(first + i)).dirty = ALL_SLOTS;
                        (*self.range.arena(target + i)).dirty = ALL_SLOTS;
                    }
                    self.range.put_arenas(target, new);
                    return None;
                }
            }
            (*self.range.arena(target)).marked = (*self.range.arena(first)).marked;
            self.describe_arenas(target, new, new_bytes);
            self.range.put_arenas(first, old);
        }
        Some(self.range.arena_start(target))
    }

    /// Move what an arena holds to another one, by remapping, else by copying. An arena is the unit because it is sure to
    /// be one mapping for the kernel; spans that grew in place are several.
    ///
    /// # Safety
    /// Both are this heap's and writable; the target holds nothing.
    unsafe fn move_arena(&mut self, source: usize, target: usize) -> bool {
        let (from, to) = (self.range.arena_start(source), self.range.arena_start(target));
        // SAFETY: as above.
        unsafe {
            if os::move_memory(from, to, ARENA_BYTES) {
                // The memory left, and took its kind along; the advice stays with the source's addresses too.
                (*self.range.arena(source)).dirty = 0;
                (*self.range.arena(target)).huge = (*self.range.arena(source)).huge;
                return true;
            }
            if !self.range.renew_arenas(target, 1) || !self.range.make_arenas_writable(target, 1) {
                return false;
            }
            ptr::copy_nonoverlapping(from, to, ARENA_BYTES);
            (*self.range.arena(target)).dirty = ALL_SLOTS;
        }
        true
    }

    /// A block of at least `bytes` bytes whose address is a multiple of `align`, a power of two up to 2 MiB. Null if there
    /// is no memory, or `align` is not such a number.
    pub fn alloc_aligned(&mut self, bytes: usize, align: usize) -> *mut u8 {
        if !align.is_power_of_two() || align > ARENA_BYTES || bytes > isize::MAX as usize {
            return ptr::null_mut();
        }
        if align <= BLOCK_ALIGN {
            return self.alloc(bytes);
        }
        // Pools start at a slot, so blocks whose size is a multiple of `align` are aligned to it.
        if align <= SMALL_MAX_BYTES && bytes <= SMALL_MAX_BYTES {
            return match round_up(bytes.max(1), align) {
                Some(rounded) => self.alloc(rounded),
                None => ptr::null_mut(),
            };
        }
        if align <= SLOT_BYTES {
            let rounded = bytes.max(align).next_power_of_two();
            // A power of two is a class of its own, and divides a slot or is a multiple of it.
            return if rounded <= MEDIUM_MAX_BYTES {
                self.alloc(rounded)
            } else {
                self.alloc(bytes.max(MEDIUM_MAX_BYTES + 1))
            };
        }
        // Beyond a slot only spans of arenas are aligned: to 2 MiB.
        self.alloc(bytes.max(IN_ARENA_MAX_BYTES + 1))
    }

    /// Bytes that the live block at `block` can hold, at least what was asked for; 0 if it is not this heap's.
    #[inline]
    pub fn usable_bytes(&self, block: *const u8) -> usize {
        match self.range.locate(block) {
            Some(location) if location.heap == self.id => location.block_bytes,
            _ => 0,
        }
    }
}

/// Arenas of a span that may be huge pages: those that it fills, and the last one if it nearly does. In another, a huge
/// page would waste the rest.
fn huge_arenas(span_bytes: usize) -> usize {
    (span_bytes + ARENA_BYTES / 8) / ARENA_BYTES
}

const _: () = assert!(SizeClass::of(MEDIUM_MAX_BYTES).is_some());
