//! Address space that grows where it is: claimed in one piece, mapped as far as it is needed.
//!
//! A process's limit on address space (`ulimit -v`, `RLIMIT_AS`) counts what is mapped, touched or not. A program that sets
//! that limit for itself must not find a terabyte of ours in its way. So a claim maps only its beginning, and the rest when
//! it is due, each time asking the kernel for exactly the addresses that follow. For that to succeed nobody else may be
//! there: claims lie one after the other in a part of the address space where the kernel puts nothing by itself. If
//! somebody is there all the same, the claim stays as long as it is.
//!
//! Where that part is not to be had (smaller address spaces, kernels before 4.17, emulators), a claim is an ordinary mapping
//! as a whole.
//!
//! [`Claim`] is one such stretch, [`Claims`] are those of a range: its arenas and the tables beside them, which grow together.
//!
//! Invariants: `[start, start + mapped_bytes)` is mapped, but for free arenas that are marked as unmapped; `mapped_bytes <= bytes`; all tables have entries for the arenas that
//! are mapped. Called under the range's lock.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::arena::Arena;
use crate::os::{self, Access};
use crate::pool::Pool;
use crate::size::{ARENA_BYTES, ARENA_SHIFT, SLOTS_PER_ARENA, round_up};

/// Where claims lie: 32 TiB to 80 TiB. On x86-64 and on AArch64 with 48 bits, Linux puts programs at 85 TiB or at the
/// bottom, and libraries, stacks and mappings below 128 TiB (256 TiB), top down.
const FIRST: usize = 32 << 40;
const LAST: usize = 80 << 40;

/// How far the first claim may lie behind `FIRST`: 16 TiB, in steps of an arena.
const SPREAD_ARENAS: u64 = (16 << 40) / ARENA_BYTES as u64;

/// The end of the last claim; 0 before the first.
static END: AtomicUsize = AtomicUsize::new(0);

/// Where the next claim begins, if the last one ended at `end`.
fn first_or(end: usize) -> usize {
    if end != 0 {
        return end;
    }
    // Two copies of this crate in one process begin at different places.
    let random = os::random() ^ ((&raw const END).addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    FIRST + (random % SPREAD_ARENAS) as usize * ARENA_BYTES
}

/// `bytes` bytes of address space, aligned to an arena, where nobody is. Each place is found once.
fn free_place(bytes: usize) -> Option<*mut u8> {
    let length = bytes.checked_next_multiple_of(ARENA_BYTES)?;
    let end =
        END.fetch_update(Relaxed, Relaxed, |end| first_or(end).checked_add(length).filter(|end| *end <= LAST)).ok()?;
    let start = core::ptr::without_provenance_mut(first_or(end));
    // The whole of it for a moment: so the kernel says whether anybody is there.
    let start = os::reserve_at(start, bytes, Access::None)?.as_ptr();
    // SAFETY: fresh, and nobody's.
    unsafe { os::release(start, bytes) };
    Some(start)
}

/// The range grows by so many arenas at least: **32**, 64 MiB.
pub(crate) const GROW_ARENAS: usize = 32;

/// Side tables that a range can have.
const MAX_SIDE_TABLES: usize = 16;

/// A claimed stretch of address space. Released by hand: nobody knows here who still refers to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    start: *mut u8,
    bytes: usize,
    mapped_bytes: usize,
    access: Access,
    /// It was mapped as a whole where it was taken, and stays so: it has no place to grow in again.
    is_whole: bool,
}

impl Claim {
    /// Claim `bytes` bytes, aligned to an arena, and map the first `mapped_bytes`. Both are whole OS pages. At `place`, which is
    /// one that [`free_place`] found, or anywhere.
    pub(crate) fn take(place: Option<*mut u8>, bytes: usize, mapped_bytes: usize, access: Access) -> Option<Claim> {
        let there = place.and_then(|start| {
            let mut claim = Claim { start, bytes, mapped_bytes: 0, access, is_whole: false };
            claim.grow(mapped_bytes).then_some(claim)
        });
        there.or_else(|| Claim::take_anywhere(bytes, access))
    }

    fn take_anywhere(bytes: usize, access: Access) -> Option<Claim> {
        let mapping_bytes = bytes.checked_add(ARENA_BYTES)?;
        let mapping = os::reserve(mapping_bytes, access)?.as_ptr();
        let start = mapping.map_addr(|start| start.next_multiple_of(ARENA_BYTES));
        let before = start.addr() - mapping.addr();
        // SAFETY: the parts before and behind the aligned one are nobody's.
        unsafe {
            if before > 0 {
                os::release(mapping, before);
            }
            os::release(start.add(bytes), mapping_bytes - before - bytes);
        }
        Some(Claim { start, bytes, mapped_bytes: bytes, access, is_whole: true })
    }

    /// See to it that the first `bytes` bytes are mapped. False, and nothing done, if the kernel refuses.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            return false;
        }
        if bytes > self.mapped_bytes {
            let end = self.start.wrapping_add(self.mapped_bytes);
            if os::reserve_at(end, bytes - self.mapped_bytes, self.access).is_none() {
                return false;
            }
            self.mapped_bytes = bytes;
        }
        true
    }

    /// Map no more than the first `bytes` bytes of a claim that grows where it is.
    ///
    /// # Safety
    /// Nothing beyond was ever used.
    pub(crate) unsafe fn shrink(&mut self, bytes: usize) {
        if bytes < self.mapped_bytes && !self.is_whole {
            // SAFETY: by the caller's word.
            unsafe { os::release(self.start.wrapping_add(bytes), self.mapped_bytes - bytes) };
            self.mapped_bytes = bytes;
        }
    }

    /// The first byte.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    /// The bytes from `start` that are mapped.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.mapped_bytes
    }

    /// Give it back.
    ///
    /// # Safety
    /// Nothing refers to it any more, and no copy of the claim is used.
    pub(crate) unsafe fn release(self) {
        // SAFETY: by the caller's word.
        unsafe { os::release(self.start, self.mapped_bytes) };
    }
}

/// All address space of a range.
pub(crate) struct Claims {
    pub(crate) arenas: Claim,
    pub(crate) arena_table: Claim,
    pub(crate) pool_table: Claim,
    /// With their bytes for each slot.
    side_tables: [Option<(Claim, usize)>; MAX_SIDE_TABLES],
}

impl Claims {
    /// Claim room for `arenas` arenas and the range's tables. `None` if there is none.
    pub(crate) fn take(arenas: usize, page_bytes: usize) -> Option<Claims> {
        // One after the other, in one place.
        const BYTES_PER_ARENA: [usize; 3] = [size_of::<Arena>(), SLOTS_PER_ARENA * size_of::<Pool>(), ARENA_BYTES];
        let length = |bytes_per_arena: usize| (arenas * bytes_per_arena).next_multiple_of(ARENA_BYTES);
        let mut place = free_place(BYTES_PER_ARENA.map(length).iter().sum());
        let mut claim = |bytes_per_arena: usize, access| {
            let pages = |arenas: usize| round_up(arenas * bytes_per_arena, page_bytes);
            let here = place;
            place = here.map(|start| start.wrapping_add(length(bytes_per_arena)));
            Claim::take(here, pages(arenas)?, pages(GROW_ARENAS.min(arenas))?, access)
        };
        let arena_table = claim(size_of::<Arena>(), Access::Table)?;
        let Some(pool_table) = claim(SLOTS_PER_ARENA * size_of::<Pool>(), Access::Table) else {
            // SAFETY: nobody knows of it yet.
            unsafe { arena_table.release() };
            return None;
        };
        let Some(arenas) = claim(ARENA_BYTES, Access::None) else {
            // SAFETY: as above.
            unsafe {
                arena_table.release();
                pool_table.release();
            }
            return None;
        };
        let mut claims = Claims { arenas, arena_table, pool_table, side_tables: [None; MAX_SIDE_TABLES] };
        // Where only some of them have a place to grow in, the tables follow the arenas.
        if !claims.grow(claims.mapped_arenas(), page_bytes) {
            // SAFETY: as above.
            unsafe { claims.release() };
            return None;
        }
        Some(claims)
    }

    /// Map what `arenas` arenas need. False, and nothing done, if the kernel refuses any of it.
    pub(crate) fn grow(&mut self, arenas: usize, page_bytes: usize) -> bool {
        let before = self.mapped_arenas();
        let done = self.each(page_bytes, |claim, pages| claim.grow(pages(arenas)));
        if !done {
            self.each(page_bytes, |claim, pages| {
                // SAFETY: nobody was told of what lies beyond.
                unsafe { claim.shrink(pages(before)) };
                true
            });
        }
        done
    }

    /// Do `work` with each claim, and with what tells how many bytes of it so many arenas need; until it says false.
    fn each(&mut self, page_bytes: usize, mut work: impl FnMut(&mut Claim, &dyn Fn(usize) -> usize) -> bool) -> bool {
        let side_tables = self.side_tables.iter_mut().flatten();
        let claims = [
            (&mut self.arenas, ARENA_BYTES),
            (&mut self.arena_table, size_of::<Arena>()),
            (&mut self.pool_table, SLOTS_PER_ARENA * size_of::<Pool>()),
        ];
        claims
            .into_iter()
            .chain(side_tables.map(|(claim, bytes_per_slot)| (claim, SLOTS_PER_ARENA * *bytes_per_slot)))
            .all(|(claim, bytes)| work(claim, &|arenas| (arenas * bytes).next_multiple_of(page_bytes)))
    }

    /// Whether addresses that are given back in between can be had again: where the kernel puts nothing by itself.
    pub(crate) fn keep_their_place(&self) -> bool {
        !self.arenas.is_whole
    }

    /// Arenas that are mapped, but for free ones whose addresses were given back.
    pub(crate) fn mapped_arenas(&self) -> usize {
        self.arenas.mapped_bytes() >> ARENA_SHIFT
    }

    /// Give all of it back.
    ///
    /// # Safety
    /// Nothing refers to any of it any more.
    pub(crate) unsafe fn release(self) {
        // SAFETY: by the caller's word.
        unsafe {
            self.arenas.release();
            self.pool_table.release();
            self.arena_table.release();
        }
    }
    /// Claim a table with `bytes_per_slot` bytes for each slot of `arenas` arenas. Where it starts; `None` if there is no room.
    pub(crate) fn add_side_table(
        &mut self,
        arenas: usize,
        bytes_per_slot: usize,
        page_bytes: usize,
    ) -> Option<*mut u8> {
        let mapped = self.mapped_arenas();
        let place = self.side_tables.iter_mut().find(|place| place.is_none())?;
        let bytes = |arenas: usize| round_up((arenas * SLOTS_PER_ARENA).checked_mul(bytes_per_slot)?, page_bytes);
        let whole = bytes(arenas)?;
        let claim = Claim::take(free_place(whole), whole, bytes(mapped)?, Access::Table)?;
        *place = Some((claim, bytes_per_slot));
        Some(claim.start())
    }

    /// Give the side table at `start` back.
    ///
    /// # Safety
    /// Nobody uses it afterwards.
    pub(crate) unsafe fn remove_side_table(&mut self, start: *mut u8) {
        let mut places = self.side_tables.iter_mut();
        let place = places.find(|place| place.is_some_and(|(claim, _)| claim.start() == start));
        if let Some((claim, _)) = place.and_then(Option::take) {
            // SAFETY: by the caller's word.
            unsafe { claim.release() };
        }
    }
}
