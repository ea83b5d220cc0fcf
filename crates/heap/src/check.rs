//! The consistency checker: each invariant of the tables as an equation, for tests and for `is_valid` in debug builds.
//! `Heap::check` looks at what a heap owns, `Range::check` at what nobody owns.

use crate::arena::{Arena, ArenaKind, NO_ARENA};
use crate::heap::Heap;
use crate::pool::{ALWAYS_SLOW, NO_SLOT, SlotKind, no_pool};
use crate::range::{Range, State};
use crate::runs::bin_of;
use crate::size::{SLOT_BYTES, SLOTS_PER_ARENA, SizeClass};

/// An equation that does not hold: which, where, and both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inconsistency {
    /// The equation.
    pub invariant: &'static str,
    /// Slot or arena, counted from the start of the range, or the class.
    pub place: usize,
    /// Left side.
    pub left: usize,
    /// Right side.
    pub right: usize,
}

impl core::fmt::Display for Inconsistency {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "heap inconsistent at {}: {} ({} against {})", self.place, self.invariant, self.left, self.right)
    }
}

impl core::error::Error for Inconsistency {}

fn equal(invariant: &'static str, place: usize, left: usize, right: usize) -> Result<(), Inconsistency> {
    if left == right { Ok(()) } else { Err(Inconsistency { invariant, place, left, right }) }
}

/// What the arenas add up to.
#[derive(Default)]
struct Sums {
    used_slots: usize,
    arena_span_bytes: usize,
    slot_span_bytes: usize,
    spans: usize,
    retained_slots: usize,
    listed: usize,
}

impl Heap {
    /// Whether all invariants hold.
    pub fn is_valid(&self) -> bool {
        self.check().is_ok()
    }

    /// Check every invariant of this heap's tables. Takes time in proportion to the heap.
    ///
    /// # Errors
    /// The first equation that does not hold.
    pub fn check(&self) -> Result<(), Inconsistency> {
        let mut sums = Sums::default();
        let mut result = Ok(());
        self.for_each_arena(|index, kind| {
            if result.is_ok() {
                result = match kind {
                    ArenaKind::Pools => self.check_arena(index, &mut sums),
                    ArenaKind::Span => self.check_span(index, &mut sums),
                    _ => Ok(()),
                };
            }
        });
        result?;
        let held = sums.used_slots * SLOT_BYTES + sums.arena_span_bytes;
        equal("held_bytes = slots in use + arena spans", 0, self.held_bytes, held)?;
        equal("spans = spans found", 0, self.spans, sums.spans)?;
        let span_bytes = sums.slot_span_bytes + sums.arena_span_bytes;
        equal("span_bytes = bytes of spans found", 0, self.span_bytes, span_bytes)?;
        equal("retained_slots = free & dirty slots", 0, self.retained_slots, sums.retained_slots)?;
        self.check_lists(sums.listed)
    }

    fn check_arena(&self, index: usize, sums: &mut Sums) -> Result<(), Inconsistency> {
        // SAFETY: the arena is this heap's.
        let arena: &Arena = unsafe { &*self.range.arena(index) };
        let mut slot = 0;
        while slot < SLOTS_PER_ARENA {
            let at = index * SLOTS_PER_ARENA + slot;
            // SAFETY: descriptors of this heap's arena.
            let pool = unsafe { &*self.range.pool(at) };
            let is_free = arena.free >> slot & 1 == 1;
            equal("bit in free = kind is Free", at, is_free.into(), (pool.kind == SlotKind::Free).into())?;
            if is_free {
                slot += 1;
                continue;
            }
            equal("the first slot in use has back = 0", at, pool.back.into(), 0)?;
            let slots = usize::from(pool.slots);
            for i in 1..slots {
                // SAFETY: as above.
                let interior = unsafe { &*self.range.pool(at + i) };
                let kind = usize::from(interior.kind == SlotKind::Interior);
                equal("further slots are Interior", at + i, kind, 1)?;
                equal("back = distance to the first slot", at + i, interior.back.into(), i)?;
                equal("further slots have no owner", at + i, interior.owner.into(), 0)?;
            }
            match pool.kind {
                SlotKind::Span => {
                    sums.spans += 1;
                    sums.slot_span_bytes += slots * SLOT_BYTES;
                    equal("a span's slots have no owner", at, pool.owner.into(), 0)?;
                }
                _ => self.check_pool(at, sums)?,
            }
            sums.used_slots += slots;
            slot += slots;
        }
        let used_clean = (!arena.free & !arena.dirty).count_ones() as usize;
        equal("slots in use are dirty", index, used_clean, 0)?;
        sums.retained_slots += (arena.free & arena.dirty).count_ones() as usize;
        let bin = arena.free.count_ones() as usize;
        equal("an arena in use has a used slot", index, (bin < SLOTS_PER_ARENA).into(), 1)?;
        let mut at = self.bins[bin];
        while at != NO_ARENA && at as usize != index {
            // SAFETY: binned arenas are this heap's.
            at = unsafe { (*self.range.arena(at as usize)).next };
        }
        equal("an arena is in the bin of its free slots", index, at as usize, index)
    }

    fn check_pool(&self, slot: usize, sums: &mut Sums) -> Result<(), Inconsistency> {
        let descriptor = self.range.pool(slot);
        // SAFETY: a descriptor of this heap's arena.
        let pool = unsafe { &*descriptor };
        let class = SizeClass(pool.class);
        equal("a pool belongs to its heap", slot, pool.owner.into(), self.id.into())?;
        equal("slots = the class's", slot, pool.slots.into(), class.pool_slots())?;
        equal("capacity = the class's", slot, pool.capacity.into(), class.capacity_blocks())?;
        let (_, free) = self.free_blocks(descriptor);
        let uncarved = usize::from(pool.capacity - pool.carved);
        let sum = usize::from(pool.used).saturating_add(free).saturating_add(uncarved);
        equal("used + free + uncarved = capacity", slot, sum, pool.capacity.into())?;
        let full = pool.kind == SlotKind::Full;
        if full {
            equal("a full pool's blocks are used", slot, pool.used.into(), pool.capacity.into())?;
        }
        // A pool that is alone now need not know it.
        let knows_alone = pool.slow_below == 0 && pool.slots == 1 && pool.is_alone();
        let slow_below = if full || pool.marks > 0 { ALWAYS_SLOW } else { u16::from(!knows_alone) };
        equal("slow_below says what a free must do", slot, pool.slow_below.into(), slow_below.into())?;
        sums.listed += usize::from(!full);
        Ok(())
    }

    fn check_span(&self, index: usize, sums: &mut Sums) -> Result<(), Inconsistency> {
        // SAFETY: the arena is this heap's.
        let arena = unsafe { &*self.range.arena(index) };
        let arenas = arena.span_bytes.div_ceil(crate::size::ARENA_BYTES);
        equal("a span's arenas = its bytes, rounded up", index, arena.run as usize, arenas)?;
        for i in 1..arenas {
            // SAFETY: as above.
            let interior = unsafe { &*self.range.arena(index + i) };
            let kind = usize::from(interior.kind == ArenaKind::SpanInterior);
            equal("further arenas are SpanInterior", index + i, kind, 1)?;
            equal("run = distance to the first arena", index + i, interior.run as usize, i)?;
        }
        sums.spans += 1;
        sums.arena_span_bytes += arena.span_bytes;
        Ok(())
    }

    fn check_lists(&self, listed: usize) -> Result<(), Inconsistency> {
        let mut found = 0;
        for (class, head) in self.current.iter().enumerate() {
            let mut pool = *head;
            let mut prev = NO_SLOT;
            while pool != no_pool() {
                found += 1;
                // SAFETY: listed pools are this heap's.
                let descriptor = unsafe { &*pool };
                equal("a listed pool's class is its list's", class, descriptor.class.into(), class)?;
                let listed = usize::from(descriptor.kind == SlotKind::Listed);
                equal("a listed pool is Listed", class, listed, 1)?;
                equal("prev = the pool before", class, descriptor.prev as usize, prev as usize)?;
                equal("no list is longer than there are pools", class, (found <= self.slots).into(), 1)?;
                prev = self.range.slot_of_pool(pool) as u32;
                pool = if descriptor.next == NO_SLOT { no_pool() } else { self.range.pool(descriptor.next as usize) };
            }
        }
        equal("pools listed = pools that are Listed", 0, found, listed)
    }
}

impl Range {
    /// Check every invariant of the free arenas. Takes time in proportion to the arenas ever used, with the range locked.
    ///
    /// # Errors
    /// The first equation that does not hold.
    pub fn check(&self) -> Result<(), Inconsistency> {
        self.with_state(|state| {
            let (mut runs, mut retained_slots, mut index) = (0, 0, 0);
            // The last run found: where it ended and whether it was dirty.
            let mut last = (usize::MAX, false);
            while index < state.frontier as usize {
                // SAFETY: arenas change from or to free under the lock only, which is held.
                let (kind, run, dirty) = unsafe {
                    let arena = &*self.arena(index);
                    (arena.kind, arena.run as usize, arena.dirty_run)
                };
                equal(
                    "no arena below the frontier is untouched",
                    index,
                    matches!(kind, ArenaKind::Untouched).into(),
                    0,
                )?;
                if kind != ArenaKind::Free {
                    index += 1;
                    continue;
                }
                equal("neighbouring runs of one kind are one", index, (last == (index, dirty)).into(), 0)?;
                retained_slots += self.check_run(index, run, dirty)?;
                runs += 1;
                index += run;
                last = (index, dirty);
            }
            equal("the last run ends below the frontier", index, index, state.frontier as usize)?;
            equal("retained_slots = dirty slots of free arenas", 0, state.retained_slots, retained_slots)?;
            self.check_bins(state, runs)
        })
    }

    /// Check the arenas of a free run. Returns its dirty slots.
    fn check_run(&self, first: usize, run: usize, dirty: bool) -> Result<usize, Inconsistency> {
        equal("a run has an arena at least", first, run.min(1), 1)?;
        equal("a run ends inside the range", first, (first + run).max(self.arenas()), self.arenas())?;
        let mut dirty_slots = 0;
        for index in first..first + run {
            // SAFETY: as in `check`.
            let arena = unsafe { &*self.arena(index) };
            equal("arenas of a run are free", index, (arena.kind == ArenaKind::Free).into(), 1)?;
            equal("arenas of a run are nobody's", index, arena.owner.into(), 0)?;
            equal("arenas of a run are of one kind", index, arena.dirty_run.into(), dirty.into())?;
            let unmapped_in_use = arena.unmapped && (arena.dirty != 0 || arena.writable);
            equal("an unmapped arena is clean, and not writable", index, unmapped_in_use.into(), 0)?;
            dirty_slots += arena.dirty.count_ones() as usize;
        }
        // SAFETY: as in `check`.
        let length = unsafe { (*self.arena(first + run - 1)).run as usize };
        equal("a run's last arena carries its length", first, length, run)?;
        if !dirty {
            equal("a clean run has no dirty slot", first, dirty_slots, 0)?;
        }
        Ok(dirty_slots)
    }

    fn check_bins(&self, state: &State, runs: usize) -> Result<(), Inconsistency> {
        let mut found = 0;
        for dirty in [false, true] {
            for (bin, head) in state.runs.heads(dirty).iter().enumerate() {
                let (mut at, mut prev) = (*head, NO_ARENA);
                while at != NO_ARENA {
                    found += 1;
                    equal("no list is longer than there are runs", bin, found.max(runs), runs)?;
                    // SAFETY: as in `check`; links name arenas.
                    let arena = unsafe { &*self.arena(at as usize) };
                    equal("a listed run is free", at as usize, (arena.kind == ArenaKind::Free).into(), 1)?;
                    equal("a run is in its list", at as usize, arena.dirty_run.into(), dirty.into())?;
                    equal("a run is in its bin", at as usize, bin_of(arena.run as usize), bin)?;
                    equal("prev = the run before", at as usize, arena.prev as usize, prev as usize)?;
                    (prev, at) = (at, arena.next);
                }
            }
        }
        equal("runs listed = runs found", 0, found, runs)
    }
}
