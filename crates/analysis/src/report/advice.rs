//! One line of advice on the collector of cycles, where its figures call for it. Each rule, and its words, are here.
//!
//! | advice | where |
//! |---|---|
//! | nothing collects | collections are off, 100,000 objects or more came since the last, and the heap is within 10 % of its peak |
//! | freeze | full collections are costly, freed at most 1 % of what they looked at, and leave 10,000 objects or more that are not frozen |
//! | threshold | young collections are costly, and freed at most 1 % of what the first threshold lets pass |
//! | cycle | a type makes half or more of the trash of full collections, containers aside: 10,000 objects and 1,000 a second, or more |
//!
//! Costly: 100 ms or more in all that are 2 % or more of the run; for a full collection also one pause of 100 ms. The first
//! rule of the table that holds gives the line, except that of *freeze* and *threshold* the one that costs more does. Where
//! collections are verified, each is done twice, and what it costs says nothing.

use heapkeeper_record::{CollectorStatus, CycleType, GenerationStatus, PauseStatus, Status};

use super::collector::found;
use super::path::ShortNames;
use super::quantity::{bytes, count, counted, pause, percent, share_of_time};
use super::sites::place_of;

#[cfg(test)]
mod tests;

/// Objects that came while nothing collected.
const LEAST_UNSEEN: i64 = 100_000;
/// The share of its peak that a heap still holds if it has not shrunk.
const AT_PEAK: f64 = 0.9;
/// Seconds, in all or in one pause.
const LEAST_COST_S: f64 = 0.1;
/// Share of the run.
const LEAST_COST_SHARE: f64 = 0.02;
/// Freed objects, as a share of those looked at, that count as almost nothing.
const LITTLE: f64 = 0.01;
/// Objects that are worth a freeze, or a change to the program.
const LEAST_OBJECTS: u64 = 10_000;
/// Objects of a cycle's type for each second of the run.
const LEAST_OBJECTS_PER_SECOND: f64 = 1_000.0;
/// A type that makes less of the trash is not alone.
const MOST_OF_TRASH: f64 = 0.5;
/// What objects bring along into a cycle: it says nothing about whose cycle it is.
const CONTAINERS: [&str; 7] = ["dict", "list", "tuple", "set", "cell", "method", "builtin_function_or_method"];

/// What a program's owner may want to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Advice<'a> {
    /// Collections are switched off while objects pile up.
    Off { disabled: bool, unseen: u64, held_bytes: u64 },
    /// `gc.freeze()` after start-up.
    Freeze { cost: Cost, freed: u64, long_lived: u64 },
    /// A larger first threshold.
    Threshold { collections: u64, cost: Cost, freed: u64, threshold: i64 },
    /// A cycle to break.
    Cycle { cycle_type: &'a CycleType, share: f64 },
}

/// What collections cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// Seconds in all.
    total_s: f64,
    /// The longest pause, in seconds.
    longest_s: f64,
    /// Share of the run, 0 to 1, where it is known.
    share: Option<f64>,
}

/// The advice that these figures call for.
pub(super) fn advice(status: &Status) -> Option<Advice<'_>> {
    let collector = status.collector.as_ref()?;
    let passes = (collector.mode != "verify")
        .then(|| [freeze(collector, status.elapsed_s), threshold(collector, status.elapsed_s)]);
    let costliest = passes.into_iter().flatten().flatten().max_by(|one, other| one.cost_s().total_cmp(&other.cost_s()));
    off(collector, status).or(costliest).or_else(|| cycle(collector, status.elapsed_s))
}

fn off<'a>(collector: &CollectorStatus, status: &Status) -> Option<Advice<'a>> {
    let [unseen, ..] = collector.counts;
    let off = !collector.enabled || collector.thresholds[0] == 0;
    // On CPython's allocator nothing is known of the heap: both figures are 0.
    let grows = status.heap.held_bytes as f64 >= status.heap.peak_bytes as f64 * AT_PEAK;
    (off && grows && unseen >= LEAST_UNSEEN).then_some(Advice::Off {
        disabled: !collector.enabled,
        unseen: unseen.unsigned_abs(),
        held_bytes: status.heap.held_bytes,
    })
}

fn freeze<'a>(collector: &CollectorStatus, elapsed_s: f64) -> Option<Advice<'a>> {
    let full = &collector.generations[2];
    let cost = Cost::of([full.pauses.as_ref(), None], elapsed_s)?;
    // Where CPython collects, nobody counts what it looks at, but each collection has looked at the survivors.
    let examined = full.examined.unwrap_or(full.collections.saturating_mul(collector.long_lived));
    let costly = cost.is_high() || cost.longest_s >= LEAST_COST_S;
    let little = full.collected as f64 <= examined as f64 * LITTLE;
    // A freeze after the last full collection has taken its survivors along.
    let worth = collector.long_lived >= LEAST_OBJECTS && collector.frozen < collector.long_lived;
    (costly && little && worth).then_some(Advice::Freeze {
        cost,
        freed: full.collected,
        long_lived: collector.long_lived,
    })
}

fn threshold<'a>(collector: &CollectorStatus, elapsed_s: f64) -> Option<Advice<'a>> {
    let [youngest, young, _] = &collector.generations;
    let cost = Cost::of([youngest.pauses.as_ref(), young.pauses.as_ref()], elapsed_s)?;
    let sum = |of: fn(&GenerationStatus) -> u64| of(youngest).saturating_add(of(young));
    let collections = sum(|generation| generation.collections);
    let freed = sum(|generation| generation.collected);
    let threshold = collector.thresholds[0];
    let little = freed as f64 <= collections as f64 * threshold as f64 * LITTLE;
    (cost.is_high() && little && threshold > 0).then_some(Advice::Threshold { collections, cost, freed, threshold })
}

fn cycle(collector: &CollectorStatus, elapsed_s: f64) -> Option<Advice<'_>> {
    let is_container = |each: &&CycleType| CONTAINERS.contains(&each.type_name.as_str());
    let cycle_type = collector.cycle_types.iter().find(|each| !is_container(each))?;
    let sum = |types: &mut dyn Iterator<Item = &CycleType>| types.fold(0.0, |sum, each| sum + each.objects as f64);
    let containers = sum(&mut collector.cycle_types.iter().filter(is_container));
    // The list names only the most frequent types: what else was freed belongs to others.
    let all = sum(&mut collector.cycle_types.iter()).max(collector.generations[2].collected as f64);
    let objects = cycle_type.objects as f64;
    let many = objects >= LEAST_OBJECTS as f64 && objects >= elapsed_s.max(0.0) * LEAST_OBJECTS_PER_SECOND;
    let most = objects >= (all - containers) * MOST_OF_TRASH;
    (many && most).then_some(Advice::Cycle { cycle_type, share: objects / all })
}

impl Cost {
    /// Of the collections of one or two generations; `None` where nobody measured any.
    fn of(pauses: [Option<&PauseStatus>; 2], elapsed_s: f64) -> Option<Cost> {
        let measured = || pauses.iter().flatten();
        measured().next()?;
        let total_s = measured().map(|pauses| pauses.total_s).sum();
        let longest_s = measured().map(|pauses| pauses.longest_s).fold(0.0, f64::max);
        Some(Cost { total_s, longest_s, share: share_of_time(total_s, elapsed_s) })
    }

    fn is_high(&self) -> bool {
        self.total_s >= LEAST_COST_S && self.share.is_some_and(|share| share >= LEAST_COST_SHARE)
    }

    /// `1.2 s, 10 % of the run`
    fn text(&self) -> String {
        let share = self.share.map_or(String::new(), |share| format!(", {} of the run", percent(share)));
        format!("{}{share}", pause(self.total_s))
    }
}

impl Advice<'_> {
    fn cost_s(&self) -> f64 {
        match self {
            Advice::Freeze { cost, .. } | Advice::Threshold { cost, .. } => cost.total_s,
            _ => 0.0,
        }
    }

    /// The line.
    pub(super) fn text(&self, names: &ShortNames<'_>) -> String {
        match self {
            Advice::Off { disabled, unseen, held_bytes } => {
                let how = if *disabled { "gc.disable()" } else { "a first threshold of 0" };
                let heap =
                    if *held_bytes == 0 { String::new() } else { format!(", the heap at {}", bytes(*held_bytes)) };
                format!(
                    "Nothing collects ({how}), and {} objects came since the last collection{heap}. If it should not \
                     grow: gc.collect() at a quiet moment tells how many are in cycles.",
                    count(*unseen),
                )
            }
            Advice::Freeze { cost, freed, long_lived } => format!(
                "gc.freeze() after start-up. Full collections took {}, the longest {}, and freed {}; {} live on, and \
                 each looks at them again.",
                cost.text(),
                pause(cost.longest_s),
                objects(*freed),
                objects(*long_lived),
            ),
            Advice::Threshold { collections, cost, freed, threshold } => format!(
                "gc.set_threshold({}) in place of {threshold}. {} young collections took {} and freed {}.",
                threshold.saturating_mul(10),
                count(*collections),
                cost.text(),
                objects(*freed),
            ),
            Advice::Cycle { cycle_type, share } => {
                let place = cycle_type.site.as_ref().and_then(|site| place_of(site, names));
                let place = place.map_or(String::new(), |place| format!(", made at {place}"));
                format!(
                    "Break the cycle of {}{place}: {} of them, {} of what full collections freed. With a weak reference in \
                     it they go at once.",
                    cycle_type.type_name,
                    found(cycle_type),
                    percent(*share),
                )
            }
        }
    }
}

/// `1 object`, `20,114 objects`, `nothing`.
fn objects(number: u64) -> String {
    match number {
        0 => "nothing".to_owned(),
        number => counted(number, "object"),
    }
}
