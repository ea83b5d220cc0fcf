//! The range: one reservation of address space that all heaps of a process carve their arenas from.
//!
//! ```text
//! tables:   | Range | arena table: 64 B an arena | pool table: 32 B a slot |
//! mapping:  | arena 0 | arena 1 | …      from base on, 2 MiB aligned
//! ```
//! "Is it ours?" is one compare with `base`; the descriptor of any address, interior ones too, is arithmetic.
//!
//! Invariants:
//! - every arena below `frontier` is in a free run, or owned by a heap; those above were never used
//! - `held` = bytes of slots and arena spans handed out, over all heaps; `held <= limit` (plus the grace for small blocks)
//! - `retained_slots` = dirty slots of free arenas
//!
//! Called by heaps on their slow paths only; everything that changes the tables of free arenas takes `lock`.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::arena::Arena;
use crate::lock::Lock;
use crate::os;
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

/// Beyond the limit, small blocks may take this much more once a request has been refused, so that whoever handles the
/// refusal can: **1 MiB**, or a sixteenth of the limit where that is less.
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
    /// Address space for arenas.
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

/// One reservation of address space, with the tables beside it.
pub struct Range {
    base: *mut u8,
    arenas: usize,
    arena_table: *mut Arena,
    pool_table: *mut Pool,
    mapping: *mut u8,
    mapping_bytes: usize,
    tables_bytes: usize,
    page_bytes: usize,

    pub(crate) held: AtomicUsize,
    peak: AtomicUsize,
    peak_at_ms: AtomicU64,
    pub(crate) returned: AtomicU64,
    limit: AtomicUsize,
    refused: AtomicBool,
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
}

// SAFETY: the tables of free arenas and `state` change under `lock` only; descriptors of owned arenas and their slots
// belong to the one heap that owns them; the rest is atomic or constant.
unsafe impl Sync for Range {}
// SAFETY: as above; nothing is bound to a thread.
unsafe impl Send for Range {}

impl Range {
    /// Reserve up to `max_bytes` of address space for arenas (1 TiB is a good choice: it costs nothing until used), less
    /// where the system refuses: halved until it agrees, at most half of what `ulimit -v` leaves, at most what `ulimit -d`
    /// leaves, and at most 32 TiB.
    ///
    /// The range lives until [`Range::release`].
    ///
    /// # Errors
    /// [`ReserveError::NoAddressSpace`] if not even 16 MiB can be had.
    pub fn reserve(max_bytes: usize) -> Result<&'static Range, ReserveError> {
        let mut bytes = max_bytes.clamp(MIN_RESERVE_BYTES, MAX_RESERVE_BYTES);
        if let Some(left) = os::address_space_left() {
            bytes = bytes.min(left / 2);
        }
        // More could never be written to; and the tables count as data as well, a 500th of the range.
        if let Some(left) = os::data_left() {
            bytes = bytes.min(left);
        }
        bytes &= !(ARENA_BYTES - 1);
        while bytes >= MIN_RESERVE_BYTES {
            if let Some(range) = Range::reserve_exactly(bytes) {
                return Ok(range);
            }
            bytes = (bytes / 2) & !(ARENA_BYTES - 1);
        }
        Err(ReserveError::NoAddressSpace)
    }

    fn reserve_exactly(bytes: usize) -> Option<&'static Range> {
        let page_bytes = os::page_bytes();
        let arenas = bytes >> ARENA_SHIFT;
        let header_bytes = round_up(size_of::<Range>(), page_bytes)?;
        let arena_table_bytes = round_up(arenas * size_of::<Arena>(), page_bytes)?;
        let pool_table_bytes = round_up(arenas * SLOTS_PER_ARENA * size_of::<Pool>(), page_bytes)?;
        let tables_bytes = header_bytes + arena_table_bytes + pool_table_bytes;
        let mapping_bytes = bytes.checked_add(ARENA_BYTES)?;

        let tables = os::reserve_table(tables_bytes)?.as_ptr();
        let Some(mapping) = os::reserve(mapping_bytes) else {
            // SAFETY: nothing refers to the tables yet.
            unsafe { os::release(tables, tables_bytes) };
            return None;
        };
        let mapping = mapping.as_ptr();
        let base = mapping.map_addr(|start| (start + ARENA_BYTES - 1) & !(ARENA_BYTES - 1));
        // Where the system hands out huge pages unasked, arenas below the threshold must not get them. A kernel without
        // huge pages refuses the advice, which is as good.
        // SAFETY: the arenas are the last part of the fresh mapping.
        unsafe { os::advise_huge(base, bytes, false) };
        let range = tables.cast::<Range>();
        // SAFETY: the header part is writable, zeroed, aligned to a page and large enough; fresh zeroed memory is a valid
        // table of `Arena`s (Untouched) and `Pool`s (Free).
        unsafe {
            range.write(Range {
                base,
                arenas,
                arena_table: tables.add(header_bytes).cast(),
                pool_table: tables.add(header_bytes + arena_table_bytes).cast(),
                mapping,
                mapping_bytes,
                tables_bytes,
                page_bytes,
                held: AtomicUsize::new(0),
                peak: AtomicUsize::new(0),
                peak_at_ms: AtomicU64::new(os::monotonic_ms()),
                returned: AtomicU64::new(0),
                limit: AtomicUsize::new(usize::MAX),
                refused: AtomicBool::new(false),
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
                }),
            });
            Some(&*range)
        }
    }

    /// Give the whole range back to the OS.
    ///
    /// # Safety
    /// No heap, block or reference of this range is used afterwards.
    pub unsafe fn release(&'static self) {
        let (mapping, mapping_bytes, tables_bytes) = (self.mapping, self.mapping_bytes, self.tables_bytes);
        let tables = (&raw const *self).cast_mut().cast::<u8>();
        // SAFETY: the caller vouches that nothing refers to either; the range itself lies at the start of the tables.
        unsafe {
            os::release(mapping, mapping_bytes);
            os::release(tables, tables_bytes);
        }
    }

    /// Whether `address` lies in an arena of this range, in use or not.
    #[inline]
    pub fn contains(&self, address: *const u8) -> bool {
        address.addr().wrapping_sub(self.base.addr()) < self.arenas << ARENA_SHIFT
    }

    /// First and past-the-end address of the arenas.
    pub fn bounds(&self) -> core::ops::Range<usize> {
        self.base.addr()..self.base.addr() + (self.arenas << ARENA_SHIFT)
    }

    /// Set the hard limit on held bytes over all heaps, `usize::MAX` for none, and who is asked before a request fails.
    pub fn set_limit(&self, limit_bytes: usize, handler: Option<LimitHandler>) {
        self.with_state(|state| state.handler = handler);
        self.limit.store(limit_bytes, Relaxed);
        self.refused.store(false, Relaxed);
    }

    /// Choose when arenas ask for huge pages. Affects arenas taken from now on.
    pub fn set_huge_pages(&self, choice: HugePages) {
        self.huge_allowed.store(choice == HugePages::Auto, Relaxed);
    }

    /// Figures over all heaps of the range.
    pub fn stats(&self) -> RangeStats {
        RangeStats {
            reserved_bytes: self.arenas << ARENA_SHIFT,
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
        self.with_state(|state| self.purge(state, 0))
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
    }

    // --- tables ---

    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.arenas * SLOTS_PER_ARENA
    }

    #[inline]
    pub(crate) fn arenas(&self) -> usize {
        self.arenas
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
        let limit = self.limit.load(Relaxed);
        let grace = if small && self.refused.load(Relaxed) { grace_bytes(limit) } else { 0 };
        let most = limit.saturating_add(grace);
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
        if limit != usize::MAX && self.refused.load(Relaxed) && held + 2 * grace_bytes(limit) < limit {
            self.refused.store(false, Relaxed);
        }
    }

    /// At the limit, after the heap gave back what it could: ask the handler whether to try again. Otherwise the refusal
    /// stands, and opens the grace.
    pub(crate) fn may_retry(&self, needed_bytes: usize) -> bool {
        let handler = self.with_state(|state| state.handler);
        // SAFETY: the owner set the function together with its context.
        let retry = handler.is_some_and(|h| unsafe { (h.at_limit)(h.context, needed_bytes) });
        if !retry {
            self.refused.store(true, Relaxed);
        }
        retry
    }

    /// Whether memory kept for reuse would carry the process past the limit.
    pub(crate) fn near_limit(&self, retained_bytes: usize, needed_bytes: usize) -> bool {
        let limit = self.limit.load(Relaxed);
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
        self.with_state(|state| {
            self.note_held(state);
            self.keep_beside_bytes(state).saturating_sub(state.retained_slots * SLOT_BYTES)
        })
    }

    /// Bytes to keep although fresh memory is about to be taken; call after `note_held`.
    pub(crate) fn keep_beside_bytes(&self, state: &State) -> usize {
        state.policy.keep_beside_bytes(self.held.load(Relaxed))
    }

    /// Run `work` on the locked state.
    pub(crate) fn with_state<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: `lock` makes the access exclusive.
        self.lock.with(|| work(unsafe { &mut *self.state.get() }))
    }
}

fn grace_bytes(limit: usize) -> usize {
    GRACE_MAX_BYTES.min(limit / 16)
}
