//! The collector: puts walking, counting, marking and disposal together, by generations.
//!
//! A **full** collection's candidates are all tracked objects of the heap, found by its walker. A **young** one's are those
//! that the model suspects, and what these lead to within the same generations; they are sorted by address, and the passes
//! are the same.
//!
//! Invariants, outside a collection: every counter of the scratch is 0; `collecting` is false.

use heapkeeper_heap::{Heap, Range};

use crate::count::{Counted, LISTED, count_suspects};
use crate::grain::Grain;
use crate::mark::{Marked, mark_list};
use crate::model::{Generation, MIN_OBJECT_BYTES, ObjectModel, Outcome};
use crate::pace::Pace;
use crate::scratch::{Scratch, Tables};
use crate::search::Search;
use crate::space::Outside;
use crate::telemetry::Telemetry;

/// The state of collection of one heap. Its object model owns it: see [`ObjectModel::collector`].
#[derive(Debug)]
pub struct Collector {
    pub(crate) tables: Tables,
    pub(crate) scratch: Scratch,
    collecting: bool,
    pace: Pace,
    telemetry: Telemetry,
}

// SAFETY: the pointers lead to the tables, which the collector owns; nothing is bound to a thread.
unsafe impl Send for Collector {}

/// What the passes found.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    counted: Counted,
    marked: Marked,
    /// Entries of the list that are trash; they come first.
    trash: usize,
    /// Entries of the list used.
    listed: usize,
}

impl Collector {
    /// A collector for heaps of `range`. `None` if there is no address space for its scratch (3/8 of the range).
    pub fn new(range: &'static Range) -> Option<Collector> {
        let tables = Tables::reserve_all(range)?;
        let scratch = tables.scratch();
        Some(Collector { tables, scratch, collecting: false, pace: Pace::default(), telemetry: Telemetry::default() })
    }

    /// Back to how it was when it was made: for the next heap of the range, once the last one is gone. False if a
    /// collection never ended.
    pub fn renew(&mut self) -> bool {
        (self.pace, self.telemetry) = (Pace::default(), Telemetry::default());
        !self.collecting
    }

    /// Note a new tracked object. Whether it is time to call [`collect_if_due`](Collector::collect_if_due).
    #[inline(always)]
    #[must_use]
    pub fn made(&mut self) -> bool {
        self.pace.made()
    }

    /// Note that a tracked object of this generation is about to be freed or untracked: the collection that is running, if
    /// one is, must not touch it any more. Constant time.
    #[inline(always)]
    pub fn forget(&mut self, address: *const u8, generation: Generation) {
        self.pace.freed(generation);
        if self.collecting {
            self.scratch.counters.put(address, 0);
        }
    }

    /// As [`forget`](Collector::forget), of an object of generation 0, where it is known that no collection is running.
    #[inline(always)]
    pub fn forget_young(&mut self) {
        debug_assert!(!self.collecting);
        self.pace.freed_young();
    }

    /// Whether a collection is running.
    pub fn is_collecting(&self) -> bool {
        self.collecting
    }

    /// Thresholds and counts.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Thresholds and switches, to change them.
    pub fn pace_mut(&mut self) -> &mut Pace {
        &mut self.pace
    }

    /// What collections did so far.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Whether the invariants hold for a heap: outside a collection, no block has a counter.
    pub fn is_valid(&self, heap: &Heap) -> bool {
        let mut valid = !self.collecting;
        let counters = self.tables.scratch().counters;
        heap.visit_live(|block| valid &= counters.of(block.address) == 0);
        valid
    }

    /// Run the collection that is due, if one is: `None` if not, or if one is running.
    pub fn collect_if_due<M: ObjectModel>(model: &mut M) -> Option<Outcome> {
        let collector = model.collector();
        if collector.collecting {
            return None;
        }
        let oldest = collector.pace.due(model.heap().held_bytes())?;
        Some(Self::collect(model, oldest))
    }

    /// Collect the generations up to `oldest`. Inside a collection it does nothing, and finds nothing.
    pub fn collect<M: ObjectModel>(model: &mut M, oldest: Generation) -> Outcome {
        let oldest = oldest.min(Generation::Old);
        if core::mem::replace(&mut model.collector_mut().collecting, true) {
            return Outcome::default();
        }
        let started_ns = model.now_ns();
        model.started(oldest);
        let collector = model.collector_mut();
        collector.scratch = collector.tables.scratch();
        collector.pace.begin(oldest);
        let found = if !model.may_find_trash(oldest) {
            let collector = model.collector_mut();
            collector.telemetry.generations[oldest.index()].unneeded += 1;
            let candidates = collector.pace.alive()[..=oldest.index()].iter().sum();
            Found { counted: Counted { candidates, ..Counted::default() }, ..Found::default() }
        } else if oldest == Generation::Old {
            find_in_heap(model)
        } else {
            find_in_list(model, oldest)
        };
        Self::phase(model, |times| &mut times.walk_ns, |model| model.promote(oldest));
        model.collector_mut().pace.promoted(oldest, found.trash);
        let outcome =
            Self::phase(model, |times| &mut times.dispose_ns, |model| crate::dispose::dispose(model, found.trash));
        let held_bytes = model.heap().held_bytes();
        let now_ns = model.now_ns();
        let collector = model.collector_mut();
        // Disposal marks within the trash, and thus stacks no more than that.
        collector
            .tables
            .give_back(found.marked.deepest.max(found.counted.stack_entries).max(found.trash), found.listed);
        if oldest == Generation::Old {
            collector.pace.fully_collected(held_bytes);
        }
        collector.note(oldest, &found, outcome);
        collector.telemetry.pauses.record(now_ns.saturating_sub(started_ns));
        collector.collecting = false;
        model.finished(oldest, outcome);
        outcome
    }

    fn note(&mut self, oldest: Generation, found: &Found, outcome: Outcome) {
        let stats = &mut self.telemetry.generations[oldest.index()];
        stats.collections += 1;
        stats.candidates += found.counted.candidates as u64;
        stats.collected += outcome.collected as u64;
        stats.uncollectable += outcome.uncollectable as u64;
        stats.resurrected += outcome.resurrected as u64;
        stats.assumed_reachable += found.counted.assumed as u64;
        stats.repeated_sweeps += found.marked.repeated_sweeps as u64;
    }

    /// Do `work`, and add its time to the phase that `of` names.
    fn phase<M: ObjectModel, R>(
        model: &mut M,
        of: impl FnOnce(&mut crate::telemetry::PhaseTimes) -> &mut u64,
        work: impl FnOnce(&mut M) -> R,
    ) -> R {
        let started_ns = model.now_ns();
        let result = work(model);
        let spent_ns = model.now_ns().saturating_sub(started_ns);
        *of(&mut model.collector_mut().telemetry.phases) += spent_ns;
        result
    }

    /// Move every tracked object to the permanent generation, out of collection's sight. False, and nothing done, inside a
    /// collection. Takes time in proportion to the heap.
    pub fn freeze<M: ObjectModel>(model: &mut M) -> bool {
        let done = Self::move_all(model, |generation| generation != Generation::Permanent, Generation::Permanent);
        if done {
            model.collector_mut().pace.frozen();
        }
        done
    }

    /// Move all frozen objects to generation 2. False, and nothing done, inside a collection.
    pub fn unfreeze<M: ObjectModel>(model: &mut M) -> bool {
        let done = Self::move_all(model, |generation| generation == Generation::Permanent, Generation::Old);
        if done {
            model.collector_mut().pace.unfrozen();
        }
        done
    }

    fn move_all<M: ObjectModel>(model: &mut M, which: impl Fn(Generation) -> bool, to: Generation) -> bool {
        if model.collector().collecting {
            return false;
        }
        let list = model.collector().tables.scratch().list;
        let mut length = 0;
        model.heap().visit_live(|block| {
            if block.block_bytes >= MIN_OBJECT_BYTES
                && let Some(object) = model.object(block.address)
                && model.generation(object).is_some_and(&which)
            {
                list.set(length, block.address);
                length += 1;
            }
        });
        for i in 0..length {
            // SAFETY: found alive just now; changing generations runs no program code.
            model.set_generation(unsafe { M::at(list.get(i)) }, to);
        }
        model.collector_mut().tables.give_back(0, length);
        true
    }
}

/// The passes of a full collection. Afterwards the list starts with the trash, whose counters are [`LISTED`]; all others are
/// 0.
fn find_in_heap<M: ObjectModel>(model: &mut M) -> Found {
    let held_bytes = model.heap().held_bytes();
    model.collector_mut().tables.expect(held_bytes);
    let scratch = model.collector().scratch.with_grain(grain(model.heap()));
    let mut search = Search::new(&scratch, held_bytes, Outside::NONE);
    Collector::phase(
        model,
        |times| &mut times.count_ns,
        |model| {
            let mut counting = search.counting(scratch.counters);
            model.heap().visit_runs(|run| {
                if run.block_bytes() >= MIN_OBJECT_BYTES {
                    counting.add(model, run);
                }
            });
            counting.end(model);
        },
    );
    Collector::phase(model, |times| &mut times.mark_ns, |model| search.mark_all(model));
    let scratch = model.collector().scratch;
    Collector::phase(
        model,
        |times| &mut times.walk_ns,
        |model| {
            let list = scratch.list;
            let mut trash = 0;
            search.for_each_unreached(|address| {
                list.set(trash, address);
                trash += 1;
            });
            model.collector_mut().tables.clear_bits();
            model.collector_mut().tables.clear_counters();
            (0..trash).for_each(|i| scratch.counters.put(list.get(i), LISTED));
            Found { counted: search.counted(), marked: search.marked(), trash, listed: trash }
        },
    )
}

/// Objects are blocks, and begin where these do.
fn grain(heap: &Heap) -> Grain {
    Grain::for_objects_apart(heap.stats().smallest_live_block(MIN_OBJECT_BYTES).unwrap_or(usize::MAX))
}

/// The passes of a young collection. Afterwards as for a full one.
fn find_in_list<M: ObjectModel>(model: &mut M, oldest: Generation) -> Found {
    let scratch = model.collector().scratch;
    let stack = scratch.stack_for(model.heap().held_bytes());
    let counted = Collector::phase(model, |times| &mut times.count_ns, |model| count_suspects(model, &scratch, oldest));
    let listed = counted.candidates;
    let marked = Collector::phase(model, |times| &mut times.mark_ns, |model| mark_list(model, &scratch, stack, listed));
    let trash = Collector::phase(model, |times| &mut times.walk_ns, |_| keep_trash(&scratch, listed));
    Found { counted, marked, trash, listed }
}

/// Of the first `length` entries of the list keep the unreachable, and make the counters of the others 0. Returns how many
/// are kept.
pub(crate) fn keep_trash(scratch: &Scratch, length: usize) -> usize {
    scratch.list.retain(length, |address| {
        let is_trash = scratch.counters.of(address) == LISTED;
        if !is_trash {
            scratch.counters.put(address, 0);
        }
        is_trash
    })
}
