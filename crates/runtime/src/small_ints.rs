//! Small integers made once: CPython keeps −5 to 256 (`Include/internal/pycore_runtime_structs.h`, `_PY_NSMALLNEGINTS`,
//! `_PY_NSMALLPOSINTS`).

use core::fmt;
use core::ops::RangeInclusive;

use crate::gc::Gc;
use crate::heap::Heap;

/// One object for each integer of a range, made at the start; others are made when they are asked for.
///
/// ```
/// use heapkeeper::{Gc, Heap, SmallInts};
///
/// let heap = Heap::new();
/// let ints = SmallInts::new(&heap);
/// assert!(Gc::ptr_eq(&ints.get(256), &ints.get(256)));
/// assert!(!Gc::ptr_eq(&ints.get(257), &ints.get(257)));
/// ```
pub struct SmallInts {
    heap: Heap,
    first: i64,
    kept: Box<[Gc<i64>]>,
}

impl SmallInts {
    /// **−5 to 256**, as CPython.
    pub fn new(heap: &Heap) -> SmallInts {
        SmallInts::of(heap, -5..=256)
    }

    /// A range of one's own. An empty one keeps nothing.
    pub fn of(heap: &Heap, range: RangeInclusive<i64>) -> SmallInts {
        SmallInts { heap: heap.clone(), first: *range.start(), kept: range.map(|n| heap.alloc(n)).collect() }
    }

    /// The object for an integer.
    #[inline]
    pub fn get(&self, n: i64) -> Gc<i64> {
        match self.place(n).and_then(|place| self.kept.get(place)) {
            Some(kept) => kept.clone(),
            None => self.heap.alloc(n),
        }
    }

    /// Whether an integer has one object for all.
    pub fn is_kept(&self, n: i64) -> bool {
        self.place(n).is_some_and(|place| place < self.kept.len())
    }

    /// How far behind the first it is.
    fn place(&self, n: i64) -> Option<usize> {
        // The difference may be as large as 2⁶⁴ − 1.
        (n >= self.first).then(|| n.wrapping_sub(self.first) as u64 as usize)
    }
}

impl fmt::Debug for SmallInts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmallInts").field("first", &self.first).field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}
