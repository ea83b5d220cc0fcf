//! Exact counts: what every site has allocated and freed, to the byte.
//!
//! ```text
//! Level            live bytes of all books together, their highest, and when states are kept
//! └ Counts         a book: one user at a time; an entry a site
//!     └ Count      allocated and freed, bytes and blocks; the state at the peak
//! ```
//! Each book has one user at a time and is read by anybody: words are atomic, and written by plain loads and stores.
//!
//! The state at the peak is kept as in `peak.rs`, with one difference. Where every allocation is counted, a growing heap
//! reaches a new peak with each of them, so that each would save its site's state. A new epoch begins only when the level is
//! 1/256 above the one before: the state by site is that of a moment within 0.4 % of the peak; the peak itself is exact.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use allocator_api2::alloc::{Allocator, Layout};

use crate::{Full, Pages, SiteId};

/// Sites that a book tells apart; others share one entry.
pub const MAX_COUNTED_SITES: usize = 1 << 20;

/// Bytes that the level may rise above the last saved one before the state is saved again, at least.
const LEAST_RISE_BYTES: u64 = 4096;

/// Live bytes, and the peak.
#[derive(Debug, Default)]
pub struct Level {
    /// Of the book whose user needs no lock.
    first_bytes: AtomicU64,
    /// Of all others.
    other_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    /// The level at which the current epoch began.
    saved_bytes: AtomicU64,
    /// When that was, by the clock of whoever counts.
    saved_at_ms: AtomicU64,
    epoch: AtomicU32,
}

impl Level {
    /// Nothing is live.
    pub const fn new() -> Level {
        Level {
            first_bytes: AtomicU64::new(0),
            other_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            saved_bytes: AtomicU64::new(0),
            saved_at_ms: AtomicU64::new(0),
            epoch: AtomicU32::new(1),
        }
    }

    /// Live bytes.
    #[inline(always)]
    pub fn live_bytes(&self) -> u64 {
        self.first_bytes.load(Relaxed).wrapping_add(self.other_bytes.load(Relaxed))
    }

    /// The highest number of live bytes so far.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Relaxed)
    }

    /// When the state at the peak was saved, by the clock of the caller.
    pub fn peak_at_ms(&self) -> u64 {
        self.saved_at_ms.load(Relaxed)
    }

    /// Start again from what is live now.
    pub fn reset_peak(&self, now_ms: u64) {
        let live = self.live_bytes();
        self.peak_bytes.store(live, Relaxed);
        self.save(live, now_ms);
    }

    /// Forget everything. Nobody counts meanwhile.
    pub fn clear(&self, now_ms: u64) {
        self.first_bytes.store(0, Relaxed);
        self.other_bytes.store(0, Relaxed);
        self.reset_peak(now_ms);
    }

    fn save(&self, live: u64, now_ms: u64) {
        self.saved_bytes.store(live, Relaxed);
        self.saved_at_ms.store(now_ms, Relaxed);
        self.epoch.store(self.epoch.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline(always)]
    fn rise(&self, is_first: bool, bytes: u64, now_ms: impl FnOnce() -> u64) {
        if is_first {
            self.first_bytes.store(self.first_bytes.load(Relaxed).wrapping_add(bytes), Relaxed);
        } else {
            self.other_bytes.fetch_add(bytes, Relaxed);
        }
        let live = self.live_bytes();
        // As signed numbers: blocks that one book allocated and another one frees may take a moment to add up.
        if live as i64 > self.peak_bytes.load(Relaxed) as i64 {
            self.peak_bytes.store(live, Relaxed);
            let saved = self.saved_bytes.load(Relaxed);
            if live > saved + (saved >> 8).max(LEAST_RISE_BYTES) {
                self.save(live, now_ms());
            }
        }
    }

    #[inline(always)]
    fn fall(&self, is_first: bool, bytes: u64) {
        if is_first {
            self.first_bytes.store(self.first_bytes.load(Relaxed).wrapping_sub(bytes), Relaxed);
        } else {
            self.other_bytes.fetch_sub(bytes, Relaxed);
        }
    }
}

/// A site's entry. All zero at first.
#[repr(C, align(64))]
#[derive(Debug)]
struct Count {
    allocated_bytes: AtomicU64,
    allocated_blocks: AtomicU64,
    freed_bytes: AtomicU64,
    freed_blocks: AtomicU64,
    /// Live when the epoch in `epoch` began.
    saved_bytes: AtomicU64,
    saved_blocks: AtomicU64,
    epoch: AtomicU32,
}

#[inline(always)]
fn add(to: &AtomicU64, amount: u64) {
    to.store(to.load(Relaxed).wrapping_add(amount), Relaxed);
}

impl Count {
    #[inline(always)]
    fn begin(&self, epoch: u32) {
        if self.epoch.load(Relaxed) != epoch {
            self.save(epoch);
        }
    }

    #[cold]
    fn save(&self, epoch: u32) {
        let (bytes, blocks) = self.live();
        self.saved_bytes.store(bytes, Relaxed);
        self.saved_blocks.store(blocks, Relaxed);
        self.epoch.store(epoch, Relaxed);
    }

    fn live(&self) -> (u64, u64) {
        let bytes = self.allocated_bytes.load(Relaxed).wrapping_sub(self.freed_bytes.load(Relaxed));
        let blocks = self.allocated_blocks.load(Relaxed).wrapping_sub(self.freed_blocks.load(Relaxed));
        (bytes, blocks)
    }
}

/// What a site has done in all books together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SiteCount {
    /// Live bytes.
    pub live_bytes: u64,
    /// Live blocks.
    pub live_blocks: u64,
    /// Live bytes when the state at the peak was saved.
    pub peak_bytes: u64,
    /// Live blocks then.
    pub peak_blocks: u64,
    /// Bytes allocated in all.
    pub total_bytes: u64,
    /// Blocks allocated in all.
    pub total_blocks: u64,
}

impl SiteCount {
    /// The sum of two.
    pub fn plus(self, other: SiteCount) -> SiteCount {
        SiteCount {
            live_bytes: self.live_bytes.wrapping_add(other.live_bytes),
            live_blocks: self.live_blocks.wrapping_add(other.live_blocks),
            peak_bytes: self.peak_bytes.wrapping_add(other.peak_bytes),
            peak_blocks: self.peak_blocks.wrapping_add(other.peak_blocks),
            total_bytes: self.total_bytes.wrapping_add(other.total_bytes),
            total_blocks: self.total_blocks.wrapping_add(other.total_blocks),
        }
    }
}

/// An entry of a book: a site, or the one for all that found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry(u32);

impl Entry {
    /// For sites that found no room.
    pub const OTHERS: Entry = Entry(0);

    /// The entry of a site.
    #[inline(always)]
    pub fn of(site: SiteId) -> Entry {
        let index = site.0 as usize + 1;
        if index < MAX_COUNTED_SITES { Entry(index as u32) } else { Entry::OTHERS }
    }

    /// The site; `None` for that of the others.
    pub fn site(self) -> Option<SiteId> {
        self.0.checked_sub(1).map(SiteId)
    }

    /// A number above 0 to remember it by.
    #[inline(always)]
    pub fn tag(self) -> u32 {
        self.0 + 1
    }

    /// The entry that gave this number.
    #[inline(always)]
    pub fn from_tag(tag: u32) -> Entry {
        Entry(tag - 1)
    }
}

/// A book: the counts of all sites, by one user.
#[derive(Debug)]
pub struct Counts {
    counts: NonNull<Count>,
    level: &'static Level,
    is_first: bool,
    allocated_bytes: AtomicU64,
    allocated_blocks: AtomicU64,
    freed_blocks: AtomicU64,
}

/// What all sites of a book have done together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Live blocks; may wrap as [`Counts::get`] says.
    pub live_blocks: u64,
    /// Bytes allocated in all.
    pub total_bytes: u64,
    /// Blocks allocated in all.
    pub total_blocks: u64,
}

// SAFETY: plain memory; who counts when is the caller's business, and words are atomic.
unsafe impl Send for Counts {}
// SAFETY: as above.
unsafe impl Sync for Counts {}

impl Counts {
    /// An empty book. The first book is used by one thread at a time without any lock of its own and may be changed
    /// fastest; there is one such book to a level. Address space for all sites, memory as they come; never given back.
    ///
    /// # Errors
    /// [`Full`] where the OS gives no address space.
    pub fn new(level: &'static Level, is_first: bool) -> Result<Counts, Full> {
        let layout = Layout::array::<Count>(MAX_COUNTED_SITES).map_err(|_| Full)?;
        let counts = Pages.allocate(layout).map_err(|_| Full)?.cast::<Count>();
        Ok(Counts {
            counts,
            level,
            is_first,
            allocated_bytes: AtomicU64::new(0),
            allocated_blocks: AtomicU64::new(0),
            freed_blocks: AtomicU64::new(0),
        })
    }

    /// A site has allocated a block.
    #[inline(always)]
    pub fn allocated(&self, entry: Entry, bytes: u64, now_ms: impl FnOnce() -> u64) {
        let count = self.count(entry);
        count.begin(self.level.epoch.load(Relaxed));
        add(&count.allocated_bytes, bytes);
        add(&count.allocated_blocks, 1);
        add(&self.allocated_bytes, bytes);
        add(&self.allocated_blocks, 1);
        self.level.rise(self.is_first, bytes, now_ms);
    }

    /// A block of a site was freed.
    #[inline(always)]
    pub fn freed(&self, entry: Entry, bytes: u64) {
        let count = self.count(entry);
        count.begin(self.level.epoch.load(Relaxed));
        add(&count.freed_bytes, bytes);
        add(&count.freed_blocks, 1);
        add(&self.freed_blocks, 1);
        self.level.fall(self.is_first, bytes);
    }

    /// What an entry says. Blocks that another book has freed may make this one's live figures wrap: sums over all books
    /// are right.
    pub fn get(&self, entry: Entry) -> SiteCount {
        let count = self.count(entry);
        let (live_bytes, live_blocks) = count.live();
        let changed = count.epoch.load(Relaxed) == self.level.epoch.load(Relaxed);
        let saved = (count.saved_bytes.load(Relaxed), count.saved_blocks.load(Relaxed));
        let (peak_bytes, peak_blocks) = if changed { saved } else { (live_bytes, live_blocks) };
        SiteCount {
            live_bytes,
            live_blocks,
            peak_bytes,
            peak_blocks,
            total_bytes: count.allocated_bytes.load(Relaxed),
            total_blocks: count.allocated_blocks.load(Relaxed),
        }
    }

    /// What all sites have done together, in constant time.
    pub fn totals(&self) -> Totals {
        let total_blocks = self.allocated_blocks.load(Relaxed);
        Totals {
            live_blocks: total_blocks.wrapping_sub(self.freed_blocks.load(Relaxed)),
            total_bytes: self.allocated_bytes.load(Relaxed),
            total_blocks,
        }
    }

    /// Bytes of the entries of so many sites.
    pub fn memory_bytes(&self, sites: usize) -> usize {
        (sites + 1).min(MAX_COUNTED_SITES) * size_of::<Count>()
    }

    /// Set the first `entries` entries, and that of the others, back to zero. Nobody counts meanwhile.
    pub fn clear(&mut self, entries: usize) {
        let entries = entries.saturating_add(1).min(MAX_COUNTED_SITES);
        // SAFETY: so many entries there are, and zero is a valid one.
        unsafe { self.counts.write_bytes(0, entries) };
        for total in [&self.allocated_bytes, &self.allocated_blocks, &self.freed_blocks] {
            total.store(0, Relaxed);
        }
    }

    #[inline(always)]
    fn count(&self, entry: Entry) -> &Count {
        debug_assert!((entry.0 as usize) < MAX_COUNTED_SITES);
        // SAFETY: an entry's number is below the number of counts.
        unsafe { self.counts.add(entry.0 as usize).as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(number: u32) -> Entry {
        Entry::of(SiteId(number))
    }

    #[test]
    fn counts_to_the_byte_and_sums_over_books() {
        static LEVEL: Level = Level::new();
        let level = &LEVEL;
        let (first, second) = (Counts::new(level, true).unwrap(), Counts::new(level, false).unwrap());
        first.allocated(site(3), 100, || 1);
        first.allocated(site(3), 50, || 2);
        second.allocated(site(3), 7, || 3);
        second.freed(site(3), 100);
        let sum = first.get(site(3)).plus(second.get(site(3)));
        assert_eq!((sum.live_bytes, sum.live_blocks), (57, 2));
        assert_eq!((sum.total_bytes, sum.total_blocks), (157, 3));
        assert_eq!((level.live_bytes(), level.peak_bytes()), (57, 157));
        assert_eq!(first.get(site(4)), SiteCount::default());
    }

    /// Against a naive twin: the state by site is one that was there at a level within 1/256 of the peak.
    #[test]
    fn the_state_at_the_peak_is_a_state_near_the_peak() {
        static LEVEL: Level = Level::new();
        let level = &LEVEL;
        let counts = Counts::new(level, true).unwrap();
        let mut random = 88_172_645_463_325_252u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut live: Vec<(u32, u64)> = Vec::new();
        let mut total = 0u64;
        let mut states: Vec<(u64, [u64; 8])> = Vec::new();
        let mut by_site = [0u64; 8];
        for step in 0..20_000u64 {
            let grows = (step / 3_000) % 2 == 0;
            if live.is_empty() || next(10) < if grows { 7 } else { 3 } {
                let (of, bytes) = (next(8) as u32, 1 + next(500));
                counts.allocated(site(of), bytes, || step);
                live.push((of, bytes));
                by_site[of as usize] += bytes;
                total += bytes;
            } else {
                let (of, bytes) = live.swap_remove(next(live.len() as u64) as usize);
                counts.freed(site(of), bytes);
                by_site[of as usize] -= bytes;
                total -= bytes;
            }
            assert_eq!(level.live_bytes(), total);
            states.push((total, by_site));
        }
        let peak = states.iter().map(|(total, _)| *total).max().unwrap();
        assert_eq!(level.peak_bytes(), peak);
        let at_peak: [u64; 8] = std::array::from_fn(|of| counts.get(site(of as u32)).peak_bytes);
        let saved: u64 = at_peak.iter().sum();
        assert!(saved <= peak && peak - saved <= (peak >> 8).max(LEAST_RISE_BYTES) + 500, "{saved} of {peak}");
        assert!(states.iter().any(|(_, state)| *state == at_peak));
    }

    #[test]
    fn a_peak_that_starts_again_knows_what_is_live() {
        static LEVEL: Level = Level::new();
        let level = &LEVEL;
        let counts = Counts::new(level, true).unwrap();
        counts.allocated(site(0), 1 << 20, || 0);
        counts.freed(site(0), 1 << 20);
        counts.allocated(site(1), 10, || 0);
        level.reset_peak(5);
        assert_eq!((level.peak_bytes(), counts.get(site(0)).peak_bytes, counts.get(site(1)).peak_bytes), (10, 0, 10));
    }

    #[test]
    fn sites_without_room_share_an_entry() {
        assert_eq!(site(MAX_COUNTED_SITES as u32), Entry::OTHERS);
        assert_eq!(Entry::from_tag(site(9).tag()).site(), Some(SiteId(9)));
        assert_eq!(Entry::OTHERS.site(), None);
    }
}
