//! Side tables: so many bytes for each slot of the range, for whoever keeps data beside blocks (mark bits, counts, sites).
//! Address space until touched; `clear` gives the memory back.

use core::ptr::NonNull;

use crate::os;
use crate::range::Range;
use crate::size::SLOT_BYTES;

/// A table beside a range with a fixed number of bytes for each slot of 16 KiB. Fresh entries read as zeros.
#[derive(Debug)]
pub struct SideTable {
    table: NonNull<u8>,
    range: &'static Range,
    bytes_per_slot: usize,
}

// SAFETY: the table is plain memory; who writes which part when is its user's business, as for any raw memory.
unsafe impl Send for SideTable {}

impl core::fmt::Debug for Range {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Range").field("bounds", &self.bounds()).finish_non_exhaustive()
    }
}

impl SideTable {
    /// A table with `bytes_per_slot` bytes for each 16 KiB of `range`; it grows with the range. `None` if there is no address
    /// space, or the range has 16 side tables.
    pub fn reserve(range: &'static Range, bytes_per_slot: usize) -> Option<SideTable> {
        let table = NonNull::new(range.add_side_table(bytes_per_slot)?)?;
        Some(SideTable { table, range, bytes_per_slot })
    }

    /// The bytes that belong to the slot of `address`, and the offset of `address` in that slot. `None` outside the range.
    #[inline]
    pub fn entry(&self, address: *const u8) -> Option<(*mut u8, usize)> {
        if !self.range.contains(address) {
            return None;
        }
        let slot = self.range.slot_of(address);
        // SAFETY: the table has `bytes_per_slot` bytes for each slot.
        let entry = unsafe { self.table.as_ptr().add(slot * self.bytes_per_slot) };
        Some((entry, address.addr() & (SLOT_BYTES - 1)))
    }

    /// The first slot's bytes; those of the others follow, as far as the range is mapped.
    pub fn start(&self) -> *mut u8 {
        self.table.as_ptr()
    }

    /// Bytes for each slot.
    pub fn bytes_per_slot(&self) -> usize {
        self.bytes_per_slot
    }

    /// Ask the kernel for huge pages behind the table, as far as it reaches now, or for none: for one that will be used all
    /// over, at random, or here and there. Where the kernel has none, nothing changes.
    pub fn prefer_huge_pages(&mut self, wanted: bool) {
        // SAFETY: the table is ours.
        unsafe { os::advise_huge(self.table.as_ptr(), self.range.slots() * self.bytes_per_slot, wanted) };
    }

    /// Zero the whole table and give its memory back.
    pub fn clear(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { self.clear_shared() };
    }

    /// As [`SideTable::clear`].
    ///
    /// # Safety
    /// Nobody else uses the table meanwhile.
    pub(crate) unsafe fn clear_shared(&self) {
        // SAFETY: the table is ours, and zeros are its initial state.
        unsafe { os::decommit(self.table.as_ptr(), self.range.slots() * self.bytes_per_slot) };
    }
}

impl Drop for SideTable {
    fn drop(&mut self) {
        // SAFETY: the table is ours; entries handed out are documented to end with it.
        unsafe { self.range.remove_side_table(self.table.as_ptr()) };
    }
}
