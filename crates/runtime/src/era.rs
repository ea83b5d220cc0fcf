//! An object's generation, told by when it was born. So a collection promotes all survivors at once, whatever their number,
//! and touches none of them.
//!
//! ```text
//! era       0 ………………… middle_from ………………… now        a collection begins a new one
//! born in   generation 2   generation 1      generation 0
//! ```
//! Headers have 12 bits for it. When these are used up the heap is walked, and three eras are enough for all that is alive.

use heapkeeper_gc::Generation;

use crate::header::{FROZEN, Word};

/// An era that is past for good.
pub(crate) const OLD: u16 = 0;

/// The last one that headers have room for. Debug builds have fewer, so that their tests come to the end.
const LAST: u16 = if cfg!(debug_assertions) { 9 } else { 4095 };

#[derive(Debug, Clone, Copy)]
pub(crate) struct Era {
    now: u16,
    middle_from: u16,
}

impl Era {
    /// Of a new heap.
    pub(crate) const FIRST: Era = Era { now: 1, middle_from: 1 };
    /// Of a heap that was walked.
    pub(crate) const AGAIN: Era = Era { now: 2, middle_from: 1 };

    /// That of objects made now.
    #[inline(always)]
    pub(crate) const fn now(self) -> u16 {
        self.now
    }

    /// The generation of a tracked object.
    #[inline(always)]
    pub(crate) fn generation(self, word: Word) -> Generation {
        // What is frozen was born in the oldest.
        if word.born() == self.now {
            Generation::Young
        } else if word.born() >= self.middle_from {
            Generation::Middle
        } else if word.has(FROZEN) {
            Generation::Permanent
        } else {
            Generation::Old
        }
    }

    /// One that makes objects be of this generation.
    pub(crate) const fn of(self, generation: Generation) -> u16 {
        match generation {
            Generation::Young => self.now,
            Generation::Middle => self.middle_from,
            Generation::Old | Generation::Permanent => OLD,
        }
    }

    /// Whether there is no other after it.
    pub(crate) const fn is_last(self) -> bool {
        self.now == LAST
    }

    /// All objects of generations up to `oldest` are in the next one.
    pub(crate) fn promote(&mut self, oldest: Generation) {
        self.now += 1;
        if oldest != Generation::Young {
            self.middle_from = self.now;
        }
    }
}
