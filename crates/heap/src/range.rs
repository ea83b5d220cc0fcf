//! The range: one claim of address space that all heaps of a process carve their arenas from, and the tables beside it.
//!
//! ```text
//! arenas:       | arena 0 | arena 1 | …  | ……………… |     from base on, 2 MiB aligned
//! arena table:  | 64 B an arena      | ……………… |
//! pool table:   | 32 B a slot        | ……………… |
//! side tables:  | n B a slot         | ……………… |
//!               | mapped             | claimed    |     all grow together, 64 MiB of arenas at a time
//! ```
//! "Is it ours?" is one compare with `base`; the descriptor of any address, interior ones too, is arithmetic.
//!
//! Invariants:
//! - every arena below `frontier` is in a free run, or owned by a heap; those above were never used
//! - `frontier <= mapped_arenas <= arenas`; all tables have entries for `mapped_arenas`
//! - `held` = bytes of slots and arena spans handed out, over all heaps; it does not rise beyond the limit (plus the grace for
//!   small blocks)
//! - `retained_slots` = dirty slots of free arenas
//!
//! Called by heaps on their slow paths only; everything that changes the tables of free arenas takes `lock`.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::size_of;
use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, Release},
};

use crate::arena::Arena;
use crate::claim::{Claims, GROW_ARENAS};
use crate::lock::Lock;
use crate::os::{self, Access};
use crate::policy::Policy;
use crate::pool::{Pool, PoolPtr};
use crate::runs::FreeRuns;
use crate::size::{ARENA_BYTES, ARENA_SHIFT, SLOT_BYTES, SLOT_SHIFT, SLOTS_PER_ARENA, round_up};

/// Heaps that can live at the same time in one range.
const MAX_HEAPS: usize = 4096;

/// Smallest reservation worth having: 16 MiB.
const MIN_RESERVE_BYTES: usize = 8 * ARENA_BYTES;

/// Largest reservation: 32 TiB, so that slots have 32-bit numbers.
const MAX_RESERVE_BYTES: usize = (1 << 31) * SLOT_BYTES;

/// Beyond the limit, or beyond what is held where that is more (the limit was set lower), small blocks may take this much more
/// once a request has been refused, so that whoever handles the refusal can, or when the [`LimitHandler`] says so: **1 MiB**, or
/// a sixteenth of the limit where that is less.
const GRACE_MAX_BYTES: usize = 1 << 20;

/// When arenas ask for huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// **Default.** Arenas taken while the heap holds at least 16 MiB, or did in the last 4 s, ask for one: from there on the
    /// most that a huge page can waste (less than one arena) is small beside the heap, and each one spares 512 page
    /// faults and as many TLB entries. Smaller processes never pay. Where the kernel allows none, nothing changes.
    Auto,
    /// Never ask.
    Never,
}

/// Why no range could be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReserveError {
    /// The kernel refused even the smallest reservation. Raise the limit on virtual memory (`ulimit -v`).
    NoAddressSpace,
}

impl core::fmt::Display for ReserveError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ReserveError::NoAddressSpace => {
                f.write_str("not enough address space for a heap; raise the limit on virtual memory (ulimit -v)")
            }
        }
    }
}

impl core::error::Error for ReserveError {}

/// Asked before a request fails at the limit: frees what it can outside the heap that asks and says whether to try again.
#[derive(Debug, Clone, Copy)]
pub struct LimitHandler {
    /// Handed to `at_limit`.
    pub context: *mut c_void,
    /// Gets the bytes that are missing. Must not touch the heap that asks.
    pub at_limit: unsafe fn(context: *mut c_void, needed_bytes: usize) -> bool,
}

/// What a range holds. All byte figures are over all its heaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeStats {
    /// Address space mapped for arenas. Grows in steps, as far as the claim goes.
    pub reserved_bytes: usize,
    /// Bytes of pools and spans in use.
    pub held_bytes: usize,
    /// The most that `held_bytes` ever was.
    pub peak_bytes: usize,
    /// When that was, by [`crate::monotonic_ms`].
    pub peak_at_ms: u64,
    /// Free arenas' memory kept for reuse. Heaps keep free slots of their own: see `HeapStats::retained_bytes`.
    pub retained_bytes: usize,
    /// Bytes given back to the OS so far.
    pub returned_bytes: u64,
    /// The hard limit; `usize::MAX` for none.
    pub limit_bytes: usize,
}

/// One claim of address space, with the tables beside it.
pub struct Range {
    base: *mut u8,
    /// Arenas that the claim has room for.
    arenas: usize,
    arena_table: *mut Arena,
    pool_table: *mut Pool,
    page_bytes: usize,
    /// Changes under `lock`.
    mapped_arenas: AtomicUsize,

    pub(crate) held: AtomicUsize,
    peak: AtomicUsize,
    peak_at_ms: AtomicU64,
    pub(crate) returned: AtomicU64,
    limit: AtomicUsize,
    /// Held bytes up to which small blocks may go, after a refusal that still stands; 0 without one.
    grace_end: AtomicUsize,
    /// Bytes that may be held beyond the limit for now: see [`Range::widen_limit`].
    widened: AtomicUsize,
    huge_allowed: AtomicBool,
    huge_wanted: AtomicBool,

    lock: Lock,
    state: UnsafeCell<State>,
}

/// What `Range::lock` protects.
pub(crate) struct State {
    /// Arenas from here on were never used.
    pub frontier: u32,
    pub runs: FreeRuns,
    /// Dirty slots of free arenas.
    pub retained_slots: usize,
    pub policy: Policy,
    heaps: [u64; MAX_HEAPS / 64],
    handler: Option<LimitHandler>,
    pub claims: Claims,
}

// SAFETY: the tables of free arenas and `state` change under `lock` only; descriptors of owned arenas and their slots
// belong to the one heap that owns them; the rest is atomic or constant.
unsafe impl Sync for Range {}
// SAFETY: as above; nothing is bound to a thread.
unsafe impl Send for Range {}

impl Range {
    /// Claim up to `max_bytes` of address space for arenas (1 TiB is a good choice: it costs nothing until used), less where
    /// the system refuses: halved until it agrees, at most fifteen sixteenths of what `ulimit -v` leaves, at most what
    /// `ulimit -d` leaves, and at most 32 TiB. No more of it is mapped than is used, in steps of 64 MiB, wherever the kernel
    /// lets us keep our place; elsewhere all of it, so that it is at most half of what `ulimit -v` leaves.
    ///
    /// The range lives until [`Range::release`].
    ///
    /// # Errors
    /// [`ReserveError::NoAddressSpace`] if not even 16 MiB can be had.
    pub fn reserve(max_bytes: usize) -> Result<&'static Range, ReserveError> {
        let mut bytes = max_bytes.clamp(MIN_RESERVE_BYTES, MAX_RESERVE_BYTES);
        let left = os::address_space_left().unwrap_or(usize::MAX);
        bytes = bytes.min(left / 16 * 15);
        // More could never be written to; and the tables count as data as well, a 500th of the range.
        if let Some(left) = os::data_left() {
            bytes = bytes.min(left);
        }
        bytes &= !(ARENA_BYTES - 1);
        while bytes >= MIN_RESERVE_BYTES {
            if let Some(range) = Range::reserve_exactly(bytes) {
                if bytes <= left / 2 || range.with_state(|state| state.claims.keep_their_place()) {
                    return Ok(range);
                }
                // SAFETY: nobody knows of it yet.
                unsafe { range.release() };
            }
            bytes = (bytes / 2) & !(ARENA_BYTES - 1);
        }
        Err(ReserveError::NoAddressSpace)
    }

    fn reserve_exactly(bytes: usize) -> Option<&'static Range> {
        let page_bytes = os::page_bytes();
        let arenas = bytes >> ARENA_SHIFT;
        let claims = Claims::take(arenas, page_bytes)?;
        let Some(range) = os::reserve(round_up(size_of::<Range>(), page_bytes)?, Access::Table) else {
            // SAFETY: nobody knows of them yet.
            unsafe { claims.release() };
            return None;
        };
        // Where the system hands out huge pages unasked, arenas below the threshold must not get them. A kernel without
        // huge pages refuses the advice, which is as good.
        // SAFETY: fresh, and ours.
        unsafe { os::advise_huge(claims.arenas.start(), claims.arenas.mapped_bytes(), false) };
        let range = range.as_ptr().cast::<Range>();
        // SAFETY: the memory is writable, aligned to an OS page and large enough; fresh zeroed tables are valid ones of
        // `Arena`s (Untouched) and `Pool`s (Free).
        unsafe {
            range.write(Range {
                base: claims.arenas.start(),
                arenas,
                arena_table: claims.arena_table.start().cast(),
                pool_table: claims.pool_table.start().cast(),
                page_bytes,
                mapped_arenas: AtomicUsize::new(claims.mapped_arenas()),
                held: AtomicUsize::new(0),
                peak: AtomicUsize::new(0),
                peak_at_ms: AtomicU64::new(os::monotonic_ms()),
                returned: AtomicU64::new(0),
                limit: AtomicUsize::new(usize::MAX),
                grace_end: AtomicUsize::new(0),
                widened: AtomicUsize::new(0),
                huge_allowed: AtomicBool::new(true),
                huge_wanted: AtomicBool::new(false),
                lock: Lock::new(),
                state: UnsafeCell::new(State {
                    frontier: 0,
                    runs: FreeRuns::new(),
                    retained_slots: 0,
                    policy: Policy::new(),
                    heaps: [0; MAX_HEAPS / 64],
                    handler: None,
                    claims,
                }),
            });
            Some(&*range)
        }
    }

    /// Give the whole range back to the OS.
    ///
    /// # Safety
    /// No heap, side table, block or reference of this range is used afterwards.
    pub unsafe fn release(&'static self) {
        let bytes = size_of::<Range>().next_multiple_of(self.page_bytes);
        // SAFETY: the caller vouches that nothing refers to any of it; the claims are copied out before their place goes.
        unsafe {
            self.state.get().cast::<u8>().add(core::mem::offset_of!(State, claims)).cast::<Claims>().read().release();
            os::release((&raw const *self).cast_mut().cast(), bytes);
        }
    }

    /// See to it that the first `arenas` arenas are mapped, with their entries in all tables; a few more while we are at it.
    pub(crate) fn ensure_mapped(&self, state: &mut State, arenas: usize) -> bool {
        let mapped = self.arenas();
        if arenas <= mapped {
            return true;
        }
        if arenas > self.arenas {
            return false;
        }
        let more = arenas.max(mapped + GROW_ARENAS).min(self.arenas);
        if !state.claims.grow(more, self.page_bytes) && !state.claims.grow(arenas, self.page_bytes) {
            return false;
        }
        let now = state.claims.mapped_arenas();
        // SAFETY: fresh, and ours.
        unsafe {
            os::advise_huge(
                state.claims.arenas.start().add(mapped << ARENA_SHIFT),
                (now - mapped) << ARENA_SHIFT,
                false,
            )
        };
        self.mapped_arenas.store(now, Release);
        true
    }

    /// Address space for a table with `bytes_per_slot` bytes for each slot; grows with the range.
    pub(crate) fn add_side_table(&self, bytes_per_slot: usize) -> Option<*mut u8> {
        self.with_state(|state| state.claims.add_side_table(self.arenas, bytes_per_slot, self.page_bytes))
    }

    /// Give the side table at `start` back.
    ///
    /// # Safety
    /// Nobody uses it afterwards.
    pub(crate) unsafe fn remove_side_table(&self, start: *mut u8) {
        // SAFETY: by the caller's word.
        self.with_state(|state| unsafe { state.claims.remove_side_table(start) });
    }

    /// Whether `address` lies in a mapped arena of this range, in use or not.
    #[inline]
    pub fn contains(&self, address: *const u8) -> bool {
        address.addr().wrapping_sub(self.base.addr()) < self.arenas() << ARENA_SHIFT
    }

    /// First and past-the-end address of the arenas that are mapped.
    pub fn bounds(&self) -> core::ops::Range<usize> {
        self.base.addr()..self.base.addr() + (self.arenas() << ARENA_SHIFT)
    }

    /// Set the hard limit on held bytes over all heaps, `usize::MAX` for none, and who is asked before a request fails.
    pub fn set_limit(&self, limit_bytes: usize, handler: Option<LimitHandler>) {
        self.with_state(|state| state.handler = handler);
        self.limit.store(limit_bytes, Relaxed);
        self.grace_end.store(0, Relaxed);
    }

    /// Let all heaps hold `bytes` more than the limit, or than they hold where that is more: for whoever answers what became of the
    /// memory, of all times when there is none left. Returns what [`Range::narrow_limit`] takes back.
    pub fn widen_limit(&self, bytes: usize) -> usize {
        let widened = bytes.saturating_add(self.held.load(Relaxed).saturating_sub(self.limit.load(Relaxed)));
        self.widened.fetch_add(widened, Relaxed);
        widened
    }

    /// The end of what [`Range::widen_limit`] began, with the bytes that it returned.
    pub fn narrow_limit(&self, widened_bytes: usize) {
        // In a child that was forked meanwhile it is narrow already.
        let _ = self.widened.fetch_update(Relaxed, Relaxed, |widened| Some(widened.saturating_sub(widened_bytes)));
    }

    /// Choose when arenas ask for huge pages. Affects arenas taken from now on.
    pub fn set_huge_pages(&self, choice: HugePages) {
        self.huge_allowed.store(choice == HugePages::Auto, Relaxed);
    }

    /// Figures over all heaps of the range.
    pub fn stats(&self) -> RangeStats {
        RangeStats {
            reserved_bytes: self.arenas() << ARENA_SHIFT,
            held_bytes: self.held.load(Relaxed),
            peak_bytes: self.peak.load(Relaxed),
            peak_at_ms: self.peak_at_ms.load(Relaxed),
            retained_bytes: self.with_state(|state| state.retained_slots) * SLOT_BYTES,
            returned_bytes: self.returned.load(Relaxed),
            limit_bytes: self.limit.load(Relaxed),
        }
    }

    /// Give all memory of free arenas back to the OS, at once. Returns the bytes given back.
    pub fn trim(&self) -> usize {
        self.with_state(|state| {
            let given_back = self.purge(state, 0);
            self.unmap_clean_runs(state);
            given_back
        })
    }

    /// Before a fork: take the lock, so that the child finds the tables whole.
    pub fn before_fork(&self) {
        self.lock.acquire();
    }

    /// After a fork, in the parent.
    pub fn after_fork_in_parent(&self) {
        self.lock.release();
    }

    /// After a fork, in the child: waiting threads did not come along.
    pub fn after_fork_in_child(&self) {
        self.lock.reset();
        // So did not whoever would have narrowed the limit again.
        self.widened.store(0, Relaxed);
    }

    // --- tables ---

    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Slots that are mapped.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.arenas() * SLOTS_PER_ARENA
    }

    /// Arenas that are mapped.
    #[inline]
    pub(crate) fn arenas(&self) -> usize {
        // Whoever was handed an address got to know of the tables' growth with it.
        self.mapped_arenas.load(Relaxed)
    }

    #[inline]
    pub(crate) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    #[inline]
    pub(crate) fn pool_table(&self) -> PoolPtr {
        self.pool_table
    }

    /// The slot that an address of this range lies in.
    #[inline]
    pub(crate) fn slot_of(&self, address: *const u8) -> usize {
        (address.addr() - self.base.addr()) >> SLOT_SHIFT
    }

    /// The descriptor of a slot below `slots()`.
    #[inline]
    pub(crate) fn pool(&self, slot: usize) -> PoolPtr {
        debug_assert!(slot < self.slots());
        // SAFETY: the table has an entry for each slot.
        unsafe { self.pool_table.add(slot) }
    }

    /// The slot that a descriptor belongs to.
    #[inline]
    pub(crate) fn slot_of_pool(&self, pool: PoolPtr) -> usize {
        (pool.addr() - self.pool_table.addr()) / size_of::<Pool>()
    }

    #[inline]
    pub(crate) fn slot_start(&self, slot: usize) -> *mut u8 {
        debug_assert!(slot < self.slots());
        // SAFETY: the slot lies in the mapping.
        unsafe { self.base.add(slot << SLOT_SHIFT) }
    }

    /// The descriptor of an arena below `arenas()`.
    #[inline]
    pub(crate) fn arena(&self, index: usize) -> *mut Arena {
        debug_assert!(index < self.arenas);
        // SAFETY: the table has an entry for each arena.
        unsafe { self.arena_table.add(index) }
    }

    #[inline]
    pub(crate) fn arena_start(&self, index: usize) -> *mut u8 {
        self.slot_start(index * SLOTS_PER_ARENA)
    }

    // --- heaps ---

    /// A number for a new heap, 1 and up; `None` if 4095 heaps are alive.
    pub(crate) fn register_heap(&self) -> Option<u16> {
        self.with_state(|state| {
            state.heaps[0] |= 1; // 0 means nobody
            let word = state.heaps.iter().position(|word| *word != u64::MAX)?;
            let bit = state.heaps[word].trailing_ones();
            state.heaps[word] |= 1 << bit;
            Some((word as u32 * 64 + bit) as u16)
        })
    }

    pub(crate) fn unregister_heap(&self, id: u16) {
        self.with_state(|state| state.heaps[usize::from(id) / 64] &= !(1 << (id % 64)));
    }

    // --- accounting ---

    /// Count `bytes` as held, if the limit allows. Small blocks may draw on the grace after a refusal.
    pub(crate) fn charge(&self, bytes: usize, small: bool) -> bool {
        let limit = self.limit.load(Relaxed).saturating_add(self.widened.load(Relaxed));
        let most = if small { limit.max(self.grace_end.load(Relaxed)) } else { limit };
        // Compare first, then add: a request far beyond the limit must not make those of other threads fail meanwhile.
        self.held.fetch_update(Relaxed, Relaxed, |held| held.checked_add(bytes).filter(|held| *held <= most)).is_ok()
    }

    /// After memory was charged and also found: keep the peak up to date.
    pub(crate) fn note_peak(&self) {
        let held = self.held.load(Relaxed);
        if held > self.peak.load(Relaxed) {
            self.peak.fetch_max(held, Relaxed);
            self.peak_at_ms.store(os::monotonic_ms(), Relaxed);
        }
    }

    /// Count `bytes` as held no longer.
    pub(crate) fn uncharge(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Relaxed) - bytes;
        let limit = self.limit.load(Relaxed);
        if self.grace_end.load(Relaxed) == 0 {
            return;
        }
        if held + 2 * grace_bytes(limit) < limit {
            self.grace_end.store(0, Relaxed);
        } else {
            self.grace_end.fetch_min(grace_end(limit, held), Relaxed);
        }
    }

    /// At the limit, after the heap gave back what it could: ask the handler whether to try again. Otherwise the refusal
    /// stands, and opens the grace.
    pub(crate) fn may_retry(&self, needed_bytes: usize) -> bool {
        let handler = self.with_state(|state| state.handler);
        // SAFETY: the owner set the function together with its context.
        let retry = handler.is_some_and(|h| unsafe { (h.at_limit)(h.context, needed_bytes) });
        if !retry {
            // One that is open already stays where it is.
            let _ = self.open_grace();
        }
        retry
    }

    /// Let small blocks draw on the grace without a refusal: for a [`LimitHandler`] that knows that nobody could handle it.
    /// False if they may already.
    pub fn open_grace(&self) -> bool {
        let end = grace_end(self.limit.load(Relaxed), self.held.load(Relaxed));
        self.grace_end.compare_exchange(0, end, Relaxed, Relaxed).is_ok()
    }

    /// Whether memory kept for reuse would carry the process past the limit.
    pub(crate) fn near_limit(&self, retained_bytes: usize, needed_bytes: usize) -> bool {
        let limit = self.limit.load(Relaxed).saturating_add(self.widened.load(Relaxed));
        limit != usize::MAX
            && self.held.load(Relaxed).saturating_add(retained_bytes).saturating_add(needed_bytes) > limit
    }

    /// Take note of what is held now, and say whether arenas should be huge pages.
    pub(crate) fn note_held(&self, state: &mut State) -> bool {
        let now = os::monotonic_ms();
        state.policy.note(self.held.load(Relaxed), now);
        let huge = self.huge_allowed.load(Relaxed) && state.policy.wants_huge(now);
        self.huge_wanted.store(huge, Relaxed);
        huge
    }

    /// Whether huge pages were wanted when arenas last changed hands.
    pub(crate) fn wants_huge(&self) -> bool {
        self.huge_wanted.load(Relaxed)
    }

    /// Bytes of free memory to keep for reuse; call after `note_held`.
    pub(crate) fn keep_bytes(&self, state: &State) -> usize {
        state.policy.keep_bytes(os::monotonic_ms())
    }

    /// Give back what free arenas hold beyond what the policy keeps now. Returns the bytes that a heap may keep besides.
    pub(crate) fn settle(&self) -> usize {
        self.with_state(|state| {
            self.note_held(state);
            let keep = self.keep_bytes(state);
            self.purge(state, keep);
            keep.saturating_sub(state.retained_slots * SLOT_BYTES)
        })
    }

    /// Bytes that a heap may keep although it is about to take fresh memory.
    pub(crate) fn keep_beside_now(&self) -> usize {
        self.with_state(|state| self.keep_beside_bytes().saturating_sub(state.retained_slots * SLOT_BYTES))
    }

    /// Bytes to keep although fresh memory is about to be taken: no more than leaves the peak where it is.
    pub(crate) fn keep_beside_bytes(&self) -> usize {
        self.peak.load(Relaxed).saturating_sub(self.held.load(Relaxed))
    }

    /// Whether free arenas hold memory.
    pub(crate) fn keeps_any(&self) -> bool {
        self.with_state(|state| state.retained_slots > 0)
    }

    /// Run `work` on the locked state.
    pub(crate) fn with_state<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: `lock` makes the access exclusive.
        self.lock.with(|| work(unsafe { &mut *self.state.get() }))
    }
}

/// Held bytes up to which small blocks may go after a refusal.
fn grace_end(limit: usize, held: usize) -> usize {
    limit.max(held).saturating_add(grace_bytes(limit))
}

fn grace_bytes(limit: usize) -> usize {
    GRACE_MAX_BYTES.min(limit / 16)
}
