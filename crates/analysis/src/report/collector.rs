//! The collector of cycles: what its collections did, how long the program stood still for them, what was in the cycles.
//!
//! Nothing is said where there was no collection, except of a collector that is switched off while objects pile up.

use heapkeeper_record::{BackgroundStatus, CollectorStatus, CycleType, GenerationStatus, Status};

use super::Page;
use super::advice;
use super::path::ShortNames;
use super::picture::{self, Row};
use super::quantity::{GLUE, about, count, counted, pause, percent, ratio, share_of_time};
use super::sites::place_of;
use super::text::{Line, Role};

#[cfg(test)]
pub(super) mod tests;

/// Types named in a sentence.
const TYPES: usize = 3;
/// Types of a smaller share of what was in cycles are not.
const LEAST_SHARE: f64 = 0.05;
/// The histogram is drawn when a pause took 2²³ ns, 8.4 ms: shorter ones go unnoticed.
const NOTABLE_BUCKET: usize = 23;
/// Where its rows end, as buckets: 1.0, 8.4, 67, 537 ms, 4.3 s. The last row takes what is longer.
const ROW_ENDS: [usize; 5] = [20, 23, 26, 29, 32];

/// Adds the paragraph about collections, and one of advice where the figures call for it.
pub(super) fn section(page: &mut Page, status: &Status, names: &ShortNames<'_>) {
    let Some(collector) = &status.collector else { return };
    if collections(collector) > 0 {
        let line = who(collector).and(work(collector)).and(by(collector, names));
        page.keyed("Collector", line.and(pauses(collector, status.elapsed_s)));
    }
    if let Some(advice) = advice::advice(status) {
        page.keyed("Advice", Line::new().with(Role::Warning, advice.text(names)));
    }
}

/// Adds the histogram of pauses, where some were long.
pub(super) fn histogram(page: &mut Page, status: &Status) {
    let Some(collector) = &status.collector else { return };
    let [young_0, young_1, full] = collector.generations.each_ref().map(rows);
    let notable = |generation: &GenerationStatus| {
        generation.pauses.as_ref().is_some_and(|pauses| pauses.buckets.iter().skip(NOTABLE_BUCKET).any(|&n| n > 0))
    };
    if !collector.generations.iter().any(notable) {
        return;
    }
    let young: Vec<u64> = young_0.iter().zip(young_1).map(|(one, other)| one.saturating_add(other)).collect();
    let mut shown: Vec<Row> = (0..=ROW_ENDS.len())
        .map(|index| {
            let end = ROW_ENDS.get(index).or(ROW_ENDS.last()).copied().unwrap_or(0);
            let sign = if index < ROW_ENDS.len() { '<' } else { '≥' };
            let size = young[index].saturating_add(full[index]);
            Row {
                key: format!("{sign}{GLUE}{}", pause((1u64 << end) as f64 / 1e9)),
                size,
                figure: count(size),
                note: match (young[index], full[index]) {
                    (0, 0) => String::new(),
                    (_, 0) => "young".to_owned(),
                    (0, _) => "full".to_owned(),
                    (young, full) => format!("{} young, {} full", count(young), count(full)),
                },
            }
        })
        .collect();
    // Rows before the shortest pause and after the longest say nothing.
    while shown.last().is_some_and(|row| row.size == 0) {
        shown.pop();
    }
    let first = shown.iter().position(|row| row.size > 0).unwrap_or(0);
    picture::draw(page, "Pauses for collections", &shown[first..]);
}

/// The pauses of one generation by row of the histogram.
fn rows(generation: &GenerationStatus) -> [u64; ROW_ENDS.len() + 1] {
    let mut rows = [0u64; ROW_ENDS.len() + 1];
    for (bucket, &pauses) in generation.pauses.iter().flat_map(|pauses| pauses.buckets.iter().enumerate()) {
        let row = ROW_ENDS.iter().position(|&end| bucket < end).unwrap_or(ROW_ENDS.len());
        rows[row] = rows[row].saturating_add(pauses);
    }
    rows
}

fn collections(collector: &CollectorStatus) -> u64 {
    collector.generations.iter().fold(0, |sum, generation| sum.saturating_add(generation.collections))
}

/// Why it was not ours, or what the comparison found; nothing in the ordinary case.
fn who(collector: &CollectorStatus) -> Line {
    let mut line = Line::new();
    if let Some(verified) = collector.verified.as_ref().filter(|verified| verified.differences > 0) {
        let differences = counted(verified.differences, "difference");
        line = line.with(Role::Warning, format!("{differences} between heapkeeper's collections and CPython's. "));
    }
    match collector.reason.as_ref().filter(|_| collector.mode == "cpython") {
        None => line,
        Some(reason) => line.with(
            Role::Warning,
            format!("CPython's own was at work, not heapkeeper's: {}. ", reason.trim_end_matches('.')),
        ),
    }
}

/// `1,204 / 109 / 9 collections of generation 0 / 1 / 2 freed 15 / 3 / 5,114 objects.`
fn work(collector: &CollectorStatus) -> Line {
    let three = |of: fn(&GenerationStatus) -> u64| {
        collector.generations.each_ref().map(|generation| count(of(generation))).join(&format!("{GLUE}/ "))
    };
    let freed = if collector.generations.iter().all(|generation| generation.collected == 0) {
        "nothing".to_owned()
    } else {
        format!("{} objects", three(|generation| generation.collected))
    };
    let line = Line::new()
        .strong(three(|generation| generation.collections))
        .plain(format!(" collections of generation 0{GLUE}/{GLUE}1{GLUE}/{GLUE}2 freed {freed}."));
    let left = collector.generations.iter().fold(0u64, |sum, generation| sum.saturating_add(generation.uncollectable));
    match left {
        0 => line,
        left => line.with(Role::Warning, format!(" {} could not be freed: see gc.garbage.", counted(left, "object"))),
    }
}

/// Whose collections these are; of ours, what they found.
fn by(collector: &CollectorStatus, names: &ShortNames<'_>) -> Line {
    let line = Line::new();
    match (collector.mode.as_str(), &collector.verified) {
        ("heapkeeper" | "background", _) => {
            match (collector.generations[2].examined.unwrap_or(0), types(collector, names)) {
                (0, None) => line.plain(" The full ones are heapkeeper's."),
                (0, Some(types)) => line.plain(" heapkeeper's full ones found mostly ").and(types).plain("."),
                (looked, None) => line.plain(format!(" heapkeeper's full ones looked at {}.", count(looked))),
                (looked, Some(types)) => line
                    .plain(format!(" heapkeeper's full ones looked at {} and found mostly ", count(looked)))
                    .and(types)
                    .plain("."),
            }
            .and(beside(collector))
        }
        ("verify", Some(verified)) if verified.differences == 0 => {
            let compared = counted(verified.collections, "full one");
            line.plain(format!(" {compared} compared with heapkeeper's, without a difference."))
        }
        // What stands in front has said so already.
        _ if collector.reason.is_some() || collector.verified.is_some() => line,
        _ => line.plain(" All are CPython's."),
    }
}

/// `A child process searched for 4 of them, 210 ms in all while the program ran on.` Nothing in the other modes.
fn beside(collector: &CollectorStatus) -> Line {
    let line = Line::new();
    match &collector.background {
        None => line,
        Some(BackgroundStatus { started: 0, .. }) => line.plain(" No child process searched for any of them."),
        Some(BackgroundStatus { started, finished: 0, .. }) => line.plain(format!(
            " A child process began to search for {} of them, and was not done in time.",
            count(*started)
        )),
        Some(BackgroundStatus { finished, search_s, .. }) => line.plain(format!(
            " A child process searched for {} of them, {} in all while the program ran on.",
            count(*finished),
            pause(*search_s)
        )),
    }
}

/// `Pauses: p50 66 µs, p99 2.1 ms, longest 38 ms, all 340 ms (3 % of the run).` Nothing where nobody measured them.
fn pauses(collector: &CollectorStatus, elapsed_s: f64) -> Line {
    let Some(pauses) = collector.pauses.as_ref().filter(|pauses| pauses.count > 0) else {
        return Line::new();
    };
    let share = share_of_time(pauses.total_s, elapsed_s);
    let share = share.map_or(String::new(), |share| format!(" ({} of the run)", percent(share)));
    Line::new()
        .plain(format!(" Pauses: p50{GLUE}{}, p99{GLUE}{}, longest ", pause(pauses.p50_s), pause(pauses.p99_s)))
        .strong(pause(pauses.longest_s))
        .plain(format!(", all {}{share}.", pause(pauses.total_s)))
}

/// `8,900`, `about 150,000`: how many objects of a type were found in cycles.
pub(super) fn found(cycle_type: &CycleType) -> String {
    if cycle_type.is_estimate { about(cycle_type.objects) } else { count(cycle_type.objects) }
}

/// `9,100 dict, 8,900 Node (app.py:80)`: the types found most often in cycles.
fn types(collector: &CollectorStatus, names: &ShortNames<'_>) -> Option<Line> {
    let all = collector.cycle_types.iter().fold(0u64, |sum, each| sum.saturating_add(each.objects));
    let is_large = |each: &&CycleType| each.objects > 0 && ratio(each.objects, all) >= LEAST_SHARE;
    collector.cycle_types.iter().filter(is_large).take(TYPES).fold(None, |before: Option<Line>, cycle_type| {
        let line = before.map_or_else(Line::new, |line| line.plain(", "));
        let line = line.plain(format!("{}{GLUE}{}", found(cycle_type), cycle_type.type_name));
        Some(match cycle_type.site.as_ref().and_then(|site| place_of(site, names)) {
            Some(place) => line.plain(" (").with(Role::Place, place).plain(")"),
            None => line,
        })
    })
}
