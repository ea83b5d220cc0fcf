//! Free runs: arenas of the range that no heap owns, and how they are taken, put back and purged.
//!
//! A run is clean (its memory reads as zeros, once it has addresses) or dirty (some of it may be resident) as a whole, so
//! that runs of one kind coalesce with their neighbours and the other kind stays apart: a request is served from dirty runs
//! first, whose memory is there already. Runs lie in bins by the logarithm of their length; first and last arena of a run
//! carry its length.
//!
//! All functions run with the range's lock held.

use core::sync::atomic::Ordering::Relaxed;

use crate::arena::{ALL_SLOTS, ArenaKind, NO_ARENA, slot_mask};
use crate::os::{self, Access};
use crate::range::{Range, State};
use crate::size::{ARENA_BYTES, SLOT_BYTES, SLOTS_PER_ARENA};

/// Bins: runs of 1, 2–3, 4–7, … arenas. 2^20 arenas are 2 TiB.
const BINS: usize = 21;

/// A run of so many arenas that goes back to the OS also stops counting as committed: **64**, 128 MiB. The kernel refuses
/// to fork where one mapping counts for more than all memory (`vm.overcommit_memory` 0), however little of it is in use.
const RENEW_FROM_ARENAS: usize = 64;

/// Heads of the lists of free runs.
pub(crate) struct FreeRuns {
    clean: [u32; BINS],
    dirty: [u32; BINS],
}

impl FreeRuns {
    pub const fn new() -> FreeRuns {
        FreeRuns { clean: [NO_ARENA; BINS], dirty: [NO_ARENA; BINS] }
    }

    fn bins(&mut self, dirty: bool) -> &mut [u32; BINS] {
        if dirty { &mut self.dirty } else { &mut self.clean }
    }

    /// Heads of the lists of clean or dirty runs, for the checker.
    pub(crate) fn heads(&self, dirty: bool) -> &[u32; BINS] {
        if dirty { &self.dirty } else { &self.clean }
    }
}

pub(crate) fn bin_of(run: usize) -> usize {
    (run.ilog2() as usize).min(BINS - 1)
}

impl Range {
    /// Take `count` arenas in a row for a heap, writable, with `kind` and `owner` set on each; dirty ones if there are
    /// any. `huge_arenas` says how many of them, from the first, may ask for huge pages.
    pub(crate) fn take_arenas(&self, count: usize, owner: u16, kind: ArenaKind, huge_arenas: usize) -> Option<usize> {
        self.with_state(|state| {
            let huge = self.note_held(state);
            let first = self.find_arenas(state, count)?;
            if !self.make_arenas_writable(first, count) {
                self.put_run(state, first, count, self.any_dirty(first, count));
                return None;
            }
            for index in first..first + count {
                self.claim(state, index, owner, kind, huge && index - first < huge_arenas);
            }
            if kind == ArenaKind::Pools {
                self.probe_huge(state, first);
            }
            Some(first)
        })
    }

    /// An arena of pools is about to be used: see whether it got the huge page that it asked for.
    fn probe_huge(&self, state: &mut State, index: usize) {
        // SAFETY: the arena was just claimed, and is clean if it is looked at.
        unsafe {
            let arena = &mut *self.arena(index);
            if !arena.huge || arena.dirty != 0 {
                return;
            }
            let had = os::fault_in_huge(self.arena_start(index), ARENA_BYTES);
            state.policy.note_huge(had, os::monotonic_ms());
            if !had {
                self.note_held(state);
                arena.huge = false;
                os::advise_huge(self.arena_start(index), ARENA_BYTES, false);
            }
        }
    }

    /// Make one arena, which just left its free run, a heap's.
    fn claim(&self, state: &mut State, index: usize, owner: u16, kind: ArenaKind, huge: bool) {
        // SAFETY: the arena left its free run and is nobody's yet.
        unsafe {
            let arena = &mut *self.arena(index);
            state.retained_slots -= arena.dirty.count_ones() as usize;
            arena.owner = owner;
            arena.kind = kind;
            arena.free = ALL_SLOTS;
            arena.next = NO_ARENA;
            arena.prev = NO_ARENA;
            arena.dirty_run = false;
            arena.marked = false;
            // Resident memory keeps the pages that it has.
            if arena.huge != huge && arena.dirty == 0 {
                arena.huge = huge;
                os::advise_huge(self.arena_start(index), ARENA_BYTES, huge);
            }
        }
    }

    fn find_arenas(&self, state: &mut State, count: usize) -> Option<usize> {
        if let Some(first) = self.take_run(state, count, true) {
            return Some(first);
        }
        // No dirty run is long enough. What is kept must not raise the peak beside the fresh memory that is taken now.
        self.purge(state, self.keep_beside_bytes());
        if let Some(first) = self.take_run(state, count, false) {
            return Some(first);
        }
        let first = state.frontier as usize;
        if self.ensure_mapped(state, first + count) {
            state.frontier += count as u32;
            return Some(first);
        }
        // A small range that is nearly used up: dirty and clean neighbours may make a run together.
        self.purge(state, 0);
        self.take_run(state, count, false).or_else(|| self.take_last_run(state, count))
    }

    /// Take `count` arenas that begin in the free run below the frontier and end above it. All runs are clean.
    fn take_last_run(&self, state: &mut State, count: usize) -> Option<usize> {
        let frontier = state.frontier as usize;
        // SAFETY: read under the lock; the last arena of a free run carries its length.
        let run = unsafe {
            let last = &*self.arena(frontier.checked_sub(1)?);
            if last.kind == ArenaKind::Free { last.run as usize } else { 0 }
        };
        if run == 0 || !self.ensure_mapped(state, frontier - run + count) {
            return None;
        }
        self.unlink_run(state, frontier - run, run, false);
        state.frontier = (frontier - run + count) as u32;
        Some(frontier - run)
    }

    /// Whether any of these arenas, which are free or about to be, may hold anything but zeros.
    fn any_dirty(&self, first: usize, count: usize) -> bool {
        // SAFETY: the arenas are under the lock or the caller's.
        (first..first + count).any(|index| unsafe { (*self.arena(index)).dirty != 0 })
    }

    /// Take `count` arenas out of the smallest bin that has a run of that length, splitting it.
    fn take_run(&self, state: &mut State, count: usize, dirty: bool) -> Option<usize> {
        for bin in bin_of(count)..BINS {
            let mut at = state.runs.bins(dirty)[bin];
            while at != NO_ARENA {
                let first = at as usize;
                // SAFETY: a listed run's first arena is free and carries its length and links.
                let (run, next) = unsafe { ((*self.arena(first)).run as usize, (*self.arena(first)).next) };
                if run >= count {
                    self.unlink_run(state, first, run, dirty);
                    if run > count {
                        self.link_run(state, first + count, run - count, dirty);
                    }
                    return Some(first);
                }
                at = next;
            }
        }
        None
    }

    fn link_run(&self, state: &mut State, first: usize, run: usize, dirty: bool) {
        let head = &mut state.runs.bins(dirty)[bin_of(run)];
        // SAFETY: all arenas of the run are free and under the lock; links name first arenas of listed runs.
        unsafe {
            for index in first..first + run {
                (*self.arena(index)).kind = ArenaKind::Free;
                (*self.arena(index)).dirty_run = dirty;
                (*self.arena(index)).owner = 0;
            }
            (*self.arena(first + run - 1)).run = run as u32;
            let arena = self.arena(first);
            (*arena).run = run as u32;
            (*arena).prev = NO_ARENA;
            (*arena).next = *head;
            if *head != NO_ARENA {
                (*self.arena(*head as usize)).prev = first as u32;
            }
        }
        *head = first as u32;
    }

    fn unlink_run(&self, state: &mut State, first: usize, run: usize, dirty: bool) {
        // SAFETY: the run is listed, so its links name first arenas of listed runs.
        unsafe {
            let (prev, next) = ((*self.arena(first)).prev, (*self.arena(first)).next);
            if prev == NO_ARENA {
                state.runs.bins(dirty)[bin_of(run)] = next;
            } else {
                (*self.arena(prev as usize)).next = next;
            }
            if next != NO_ARENA {
                (*self.arena(next as usize)).prev = prev;
            }
        }
    }

    /// Put arenas that are nobody's any more into a free run, together with free neighbours of their kind.
    fn put_run(&self, state: &mut State, mut first: usize, mut run: usize, dirty: bool) {
        // SAFETY: neighbours are read under the lock; the kinds of arenas that heaps own do not change to or from `Free`
        // without it.
        unsafe {
            if first > 0 {
                let before = &*self.arena(first - 1);
                if before.kind == ArenaKind::Free && before.dirty_run == dirty {
                    let length = before.run as usize;
                    self.unlink_run(state, first - length, length, dirty);
                    first -= length;
                    run += length;
                }
            }
            if first + run < state.frontier as usize {
                let after = &*self.arena(first + run);
                if after.kind == ArenaKind::Free && after.dirty_run == dirty {
                    let length = after.run as usize;
                    self.unlink_run(state, first + run, length, dirty);
                    run += length;
                }
            }
        }
        self.link_run(state, first, run, dirty);
    }

    /// Give arenas back to the range. Their `dirty` masks say what is resident. What exceeds the allowance goes back to
    /// the OS at once, in one stroke rather than arena by arena.
    pub(crate) fn put_arenas(&self, first: usize, count: usize) {
        self.with_state(|state| {
            let huge = self.note_held(state);
            if count > 1 {
                state.policy.note_span(count * ARENA_BYTES, os::monotonic_ms());
            }
            let mut dirty_slots = 0;
            let mut small_pages = false;
            for index in first..first + count {
                // SAFETY: the heap that owned these arenas is done with them.
                let arena = unsafe { &*self.arena(index) };
                dirty_slots += arena.dirty.count_ones() as usize;
                small_pages |= !arena.huge;
            }
            state.retained_slots += dirty_slots;
            if huge && small_pages && count == 1 && dirty_slots > 0 {
                // Its next memory will be a huge page, which spares more than keeping this one would.
                self.clean_arenas(state, first, count);
                self.returned.fetch_add((dirty_slots * SLOT_BYTES) as u64, Relaxed);
                dirty_slots = 0;
            }
            self.put_run(state, first, count, dirty_slots > 0);
            let keep = self.keep_bytes(state);
            if state.retained_slots * SLOT_BYTES > keep + keep / 4 {
                self.purge(state, keep);
            }
        });
    }

    /// Give memory of dirty runs back to the OS, longest runs first, until at most `keep_bytes` are retained.
    /// Returns the bytes given back.
    pub(crate) fn purge(&self, state: &mut State, keep_bytes: usize) -> usize {
        let before = state.retained_slots;
        for bin in (0..BINS).rev() {
            while state.retained_slots * SLOT_BYTES > keep_bytes {
                let first = state.runs.dirty[bin];
                if first == NO_ARENA {
                    break;
                }
                let first = first as usize;
                // SAFETY: a listed run's first arena carries its length.
                let run = unsafe { (*self.arena(first)).run as usize };
                let excess = state.retained_slots - keep_bytes / SLOT_BYTES;
                let count = excess.div_ceil(SLOTS_PER_ARENA).min(run);
                let start = first + run - count;
                self.unlink_run(state, first, run, true);
                if run > count {
                    self.link_run(state, first, run - count, true);
                }
                self.clean_arenas(state, start, count);
                self.put_run(state, start, count, false);
            }
        }
        let given_back = (before - state.retained_slots) * SLOT_BYTES;
        self.returned.fetch_add(given_back as u64, Relaxed);
        given_back
    }

    fn clean_arenas(&self, state: &mut State, first: usize, count: usize) {
        for index in first..first + count {
            // SAFETY: these arenas are free.
            state.retained_slots -= unsafe { (*self.arena(index)).dirty.count_ones() as usize };
        }
        // SAFETY: what they hold is garbage.
        unsafe {
            if self.unmap_arenas(state, first, count) || count >= RENEW_FROM_ARENAS && self.renew_arenas(first, count) {
                return;
            }
            os::decommit(self.arena_start(first), count * ARENA_BYTES);
            for index in first..first + count {
                (*self.arena(index)).dirty = 0;
            }
        }
    }

    /// Where the process may map so much and no more, give the addresses of free arenas back too: its threads and its other
    /// mappings need them as well. False, and nothing done, where that need not or cannot be.
    ///
    /// # Safety
    /// The arenas are under the lock or the caller's, and hold nothing that is needed.
    unsafe fn unmap_arenas(&self, state: &State, first: usize, count: usize) -> bool {
        if !state.claims.keep_their_place() || !os::is_limited() {
            return false;
        }
        // SAFETY: as above.
        unsafe {
            if !os::release(self.arena_start(first), count * ARENA_BYTES) {
                return false;
            }
            for index in first..first + count {
                let arena = &mut *self.arena(index);
                (arena.dirty, arena.huge, arena.writable, arena.unmapped) = (0, false, false, true);
            }
        }
        true
    }

    /// Give the addresses of all clean runs back, where they count.
    pub(crate) fn unmap_clean_runs(&self, state: &State) {
        for head in state.runs.clean {
            let mut at = head;
            while at != NO_ARENA {
                let first = at as usize;
                // SAFETY: a listed run's first arena carries its length and links; all of it is free.
                unsafe {
                    let run = (*self.arena(first)).run as usize;
                    at = (*self.arena(first)).next;
                    for index in first..first + run {
                        if !(*self.arena(index)).unmapped && !self.unmap_arenas(state, index, 1) {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// See to it that arenas `[first, end)`, which are under the lock or the caller's, have addresses.
    fn map_arenas(&self, first: usize, end: usize) -> bool {
        for index in first..end {
            // SAFETY: as above; the addresses are in this range's claim.
            unsafe {
                let arena = &mut *self.arena(index);
                if arena.unmapped {
                    if os::reserve_at(self.arena_start(index), ARENA_BYTES, Access::None).is_none() {
                        return false;
                    }
                    arena.unmapped = false;
                    os::advise_huge(self.arena_start(index), ARENA_BYTES, false);
                }
            }
        }
        true
    }

    /// Put arenas back to how the reservation left them: clean, not writable, without advice. False if the kernel refuses.
    ///
    /// # Safety
    /// The arenas are under the lock or the caller's, and hold nothing that is needed.
    pub(crate) unsafe fn renew_arenas(&self, first: usize, count: usize) -> bool {
        // SAFETY: as above.
        unsafe {
            let renewed = os::reserve_again(self.arena_start(first), count * ARENA_BYTES);
            for index in first..first + count {
                let arena = self.arena(index);
                // After a refusal nobody knows what is there, so `make_writable` shall find out.
                (*arena).writable = false;
                if renewed {
                    (*arena).dirty = 0;
                    (*arena).huge = false;
                }
            }
            if renewed {
                os::advise_huge(self.arena_start(first), count * ARENA_BYTES, false);
            }
            renewed
        }
    }

    /// Take the arenas right behind a span, if they are free, to grow it in place.
    pub(crate) fn extend_span(&self, first: usize, old: usize, new: usize, owner: u16, huge_arenas: usize) -> bool {
        let (start, more) = (first + old, new - old);
        self.with_state(|state| {
            if !self.ensure_mapped(state, first + new) {
                return false;
            }
            if start == state.frontier as usize {
                state.frontier += more as u32;
            } else {
                // SAFETY: read under the lock.
                let (kind, run, dirty) = unsafe {
                    let arena = &*self.arena(start);
                    (arena.kind, arena.run as usize, arena.dirty_run)
                };
                // A free arena that follows one in use is the first of its run, or of two runs of different kind.
                if kind != ArenaKind::Free || run < more {
                    return false;
                }
                self.unlink_run(state, start, run, dirty);
                if run > more {
                    self.link_run(state, start + more, run - more, dirty);
                }
            }
            if !self.make_arenas_writable(start, more) {
                self.put_run(state, start, more, self.any_dirty(start, more));
                return false;
            }
            let huge = self.note_held(state);
            for index in start..start + more {
                let huge = huge && index - first < huge_arenas;
                self.claim(state, index, owner, ArenaKind::SpanInterior, huge);
            }
            true
        })
    }

    pub(crate) fn make_arenas_writable(&self, first: usize, count: usize) -> bool {
        let mut index = first;
        while index < first + count {
            // SAFETY: the arenas are under the lock or the caller's.
            unsafe {
                if (*self.arena(index)).writable {
                    index += 1;
                    continue;
                }
                let mut end = index + 1;
                while end < first + count && !(*self.arena(end)).writable {
                    end += 1;
                }
                if !self.map_arenas(index, end)
                    || !os::make_writable(self.arena_start(index), (end - index) * ARENA_BYTES)
                {
                    return false;
                }
                while index < end {
                    (*self.arena(index)).writable = true;
                    index += 1;
                }
            }
        }
        true
    }

    /// Give the memory of slots `[first, first + count)` of an arena that a heap owns back to the OS.
    ///
    /// # Safety
    /// The slots are free; the caller owns the arena.
    pub(crate) unsafe fn clean_slots(&self, arena: usize, first: usize, count: usize) {
        let start = self.slot_start(arena * SLOTS_PER_ARENA + first);
        // SAFETY: the slots hold nothing that is needed.
        unsafe {
            os::decommit(start, count * SLOT_BYTES);
            (*self.arena(arena)).dirty &= !slot_mask(first, count);
            // A split huge page does not grow together again: what comes back here comes in small pages.
            if (*self.arena(arena)).huge {
                (*self.arena(arena)).huge = false;
                os::advise_huge(self.arena_start(arena), ARENA_BYTES, false);
            }
        }
        self.returned.fetch_add((count * SLOT_BYTES) as u64, Relaxed);
    }
}
