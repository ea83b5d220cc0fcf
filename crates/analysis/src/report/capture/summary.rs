//! The summary of captures, of the same shape as the report at exit: three lines that answer the question, then the lines that
//! held memory at the peak and at the end, what grew, and what there is besides.

use heapkeeper_record::capture::Amount;
use heapkeeper_record::{ProfileStatus, Site};

use super::super::quantity::{GLUE, bytes, count, pause, percent, ratio, seconds, share_of_time, sparkline};
use super::super::sites::{Entry, entries, same_line};
use super::super::text::{Line, Role};
use super::super::{Page, answer, no_answer, table};
use super::groups::Group;
use super::{Asked, By, error_bytes, growth, samples, timeline, when};
use crate::capture::{End, Moment, Profile, add};

/// Lines whose sites are looked at: more than any table shows.
const MOST_LINES: usize = 16;
/// Steps of time in which the highest RSS is looked for.
const STEPS: usize = 1000;
/// Marks told.
const MARKS: usize = 6;

/// Adds the summary; of one moment where one is asked for.
pub(super) fn report(page: &mut Page, asked: &Asked<'_>, moment: Option<Moment>) {
    let profile = asked.profile;
    let groups = asked.groups(By::Line);
    let (at_peak, peak) = sites(asked, &groups, moment.unwrap_or(Moment::Peak));
    let (at_end, end) = sites(asked, &groups, Moment::End);
    let distance = profile.sample_bytes();
    let basis = ProfileStatus {
        sample_bytes: distance,
        samples: if distance == 0 { end.total.blocks } else { samples(&end.total, distance).round() as u64 },
        lost_samples: profile.processes.iter().fold(0u64, |sum, process| sum.saturating_add(process.lost)),
        live_bytes: end.live.bytes,
        peak_bytes: peak.live.bytes,
        peak_error_bytes: error_bytes(&peak.live, distance),
        ..ProfileStatus::default()
    };
    page.wrap(figures(asked, &basis, moment), 0);
    let at_peak = entries(&at_peak, distance);
    let at_end = entries(&at_end, distance);
    page.wrap(first_answer(asked, &basis, moment, &at_peak, &at_end), 0);
    let cut = profile.processes.iter().filter(|process| process.end == End::Cut).count();
    if cut > 0 {
        let text = match (cut, profile.processes.len()) {
            (_, 1) => "The capture ends without the program's exit: it was killed, or still runs.".to_owned(),
            (cut, all) => {
                format!("{cut} of {all} captures end without the program's exit: it was killed, or still runs.")
            }
        };
        page.wrap(Line::new().with(Role::Warning, text), 0);
    }

    let heading = match moment {
        None | Some(Moment::Peak) => "At the peak".to_owned(),
        Some(other) => when(other, asked.end()).replacen("at", "At", 1),
    };
    if at_peak.iter().any(Entry::is_seen) {
        table::at_peak(page, &heading, &basis, &at_peak, &asked.names);
    }
    if moment.is_none() {
        if at_peak.iter().chain(&at_end).any(Entry::is_seen) {
            table::at_exit(page, &basis, &at_end, &at_peak, &asked.names, asked.end());
        }
        growth::section(page, asked);
    }
    let oldest = profile.processes.iter().min_by_key(|process| process.header.python_version);
    table::footnote(page, &basis, oldest.map_or("", |process| process.header.python.as_str()));
    page.gap();
    course(page, asked);
    collector(page, profile);
    let several = if profile.processes.len() > 1 { "FILES" } else { "FILE" };
    let closer = format!(
        "Look closer: heapkeeper report {several} with --tree, --table, --timeline, --leaks or --temporary; heapkeeper lines {several}"
    );
    page.gap();
    page.wrap(Line::new().dim(closer), 0);
}

/// The sites of the lines that hold most at a moment, largest first, and the sums of all.
fn sites(asked: &Asked<'_>, groups: &[Group<'_>], moment: Moment) -> (Vec<Site>, Sums) {
    let figures = asked.profile.figures(moment);
    let live: Vec<Amount> = figures.iter().map(|figures| figures.live).collect();
    let mut sums = Sums::default();
    for &site in groups.iter().flat_map(|group| &group.sites) {
        add(&mut sums.live, &figures[site].live);
        add(&mut sums.total, &figures[site].total);
    }
    let mut largest: Vec<(u64, &Group<'_>)> = groups.iter().map(|group| (group.sum(&live).bytes, group)).collect();
    largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    largest.truncate(MOST_LINES);
    let numbers = largest.iter().flat_map(|(_, group)| &group.sites).copied().filter(|&site| live[site].bytes > 0);
    let share = |site: usize| ratio(live[site].bytes, sums.live.bytes);
    (numbers.map(|site| asked.site(site, &live[site], share(site))).collect(), sums)
}

#[derive(Default)]
struct Sums {
    live: Amount,
    total: Amount,
}

/// `Peak 412 MiB live at 8.1 s, 96 MiB at exit; RSS at most 446 MiB; 31 MiB outside our heap.`
fn figures(asked: &Asked<'_>, basis: &ProfileStatus, moment: Option<Moment>) -> Line {
    let profile = asked.profile;
    let sum = |of: &dyn Fn(&crate::capture::Process) -> u64| {
        profile.processes.iter().fold(0u64, |sum, process| sum.saturating_add(of(process)))
    };
    let (peak_bytes, live_bytes) = if asked.thread.is_some() || !matches!(moment, None | Some(Moment::Peak)) {
        (basis.peak_bytes, basis.live_bytes)
    } else {
        (sum(&|process| process.peak_bytes), sum(&|process| process.last().live_bytes))
    };
    let line = match moment {
        Some(moment @ (Moment::End | Moment::Seconds(_))) => {
            Line::new().strong(bytes(peak_bytes)).plain(format!(" live {}", when(moment, asked.end())))
        }
        None | Some(Moment::Peak) => peak(asked, peak_bytes),
    };
    let line = match moment {
        Some(Moment::End) => line,
        _ => line.plain(", ").strong(bytes(live_bytes)).plain(format!(" at {}", asked.end())),
    };
    // Of several processes the sum at one moment, as far as ticks know it, not the sum of what each had at most.
    let rss = match profile.processes.as_slice() {
        [only] => only.peak_rss_bytes,
        _ => timeline::course(profile, STEPS).iter().map(|point| point.rss_bytes).max().unwrap_or(0),
    };
    line.plain("; RSS at most ")
        .strong(bytes(rss))
        .plain("; ")
        .strong(bytes(sum(&|process| process.last().outside_bytes)))
        .plain(" outside our heap.")
}

/// `Peak 412 MiB live at 8.1 s`. What one thread held at the peak of all is not its own: `40 MiB live at the peak of all at 8.1 s`.
fn peak(asked: &Asked<'_>, peak_bytes: u64) -> Line {
    let size = bytes(peak_bytes);
    match (asked.profile.processes.as_slice(), asked.thread) {
        ([only], thread) => {
            let at = seconds(only.peak_at_ms as f64 / 1000.0);
            match thread {
                None => Line::new().plain("Peak ").strong(size).plain(format!(" live at {at}")),
                Some(_) => Line::new().strong(size).plain(format!(" live at the peak of all at {at}")),
            }
        }
        (_, None) => Line::new().plain("Peak ").strong(size).plain(" live, each process at its own"),
        (_, Some(_)) => Line::new().strong(size).plain(" live at the peak of each process"),
    }
}

/// The answer in one line, or why there is none.
fn first_answer(
    asked: &Asked<'_>,
    basis: &ProfileStatus,
    moment: Option<Moment>,
    at_peak: &[Entry<'_>],
    at_end: &[Entry<'_>],
) -> Line {
    let Some(top) = at_peak.first().filter(|top| top.is_sure()) else {
        return match basis.sample_bytes {
            0 => Line::new().plain("Nothing was live then that was allocated while it was watched."),
            _ => no_answer(basis),
        };
    };
    let whole = match moment {
        None | Some(Moment::Peak) => "the peak".to_owned(),
        Some(other) => format!("what was live {}", when(other, asked.end())),
    };
    let line = answer(top, &whole, &asked.names);
    let still = at_end.iter().find(|entry| same_line(entry.headline, top.headline)).filter(|entry| entry.bytes > 0);
    match still.filter(|_| moment != Some(Moment::End)) {
        Some(entry) => line.plain("; still ").strong(bytes(entry.bytes)).plain(format!(" at {}.", asked.end())),
        None => line.plain("."),
    }
}

/// RSS over time in one line, and the program's marks.
fn course(page: &mut Page, asked: &Asked<'_>) {
    let profile = asked.profile;
    let cells = (page.columns.saturating_sub(50)).clamp(8, 40);
    let course = timeline::course(profile, cells);
    let rss: Vec<u64> = course.iter().map(|point| point.rss_bytes).collect();
    if rss.iter().any(|&rss| rss > 0) {
        page.keyed("RSS", Line::new().with(Role::Low, sparkline(&rss)));
    }
    let mut marks: Vec<(f64, &str)> = profile
        .processes
        .iter()
        .flat_map(|process| process.marks.iter().map(|mark| (process.seconds_at(mark.at_ms), mark.name.as_str())))
        .collect();
    marks.sort_by(|one, other| one.0.total_cmp(&other.0));
    if marks.is_empty() {
        return;
    }
    let told: Vec<String> =
        marks.iter().take(MARKS).map(|(at, name)| format!("{name}{GLUE}{}", seconds(*at))).collect();
    let more = marks.len().saturating_sub(MARKS);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    page.keyed("Marks", Line::new().plain(format!("{}{more}.", told.join(", "))));
}

/// Collections of cycles, where there were any.
fn collector(page: &mut Page, profile: &Profile) {
    let all: Vec<_> = profile.processes.iter().flat_map(|process| &process.collections).collect();
    if all.is_empty() {
        return;
    }
    let by_generation = [0, 1, 2].map(|generation| {
        let of = all.iter().filter(|collection| collection.generation.min(2) == generation);
        count(of.fold(0u64, |sum, collection| sum.saturating_add(collection.count)))
    });
    let sum = |of: &dyn Fn(&heapkeeper_record::capture::Collection) -> u64| {
        all.iter().fold(0u64, |sum, collection| sum.saturating_add(of(collection)))
    };
    let longest = all.iter().map(|collection| collection.longest_us).max().unwrap_or(0);
    let total_s = sum(&|collection| collection.pause_us) as f64 / 1e6;
    let share = share_of_time(total_s, profile.seconds()).filter(|_| profile.processes.len() == 1);
    let share = share.map_or(String::new(), |share| format!(" ({} of the run)", percent(share)));
    let mut line = Line::new()
        .strong(by_generation.join(&format!("{GLUE}/ ")))
        .plain(format!(" collections of generation 0{GLUE}/{GLUE}1{GLUE}/{GLUE}2 freed "))
        .plain(format!("{} objects. Pauses: longest ", count(sum(&|collection| collection.collected))))
        .strong(pause(longest as f64 / 1e6))
        .plain(format!(", all {}{share}.", pause(total_s)));
    let left = sum(&|collection| collection.uncollectable);
    if left > 0 {
        line = line.with(Role::Warning, format!(" {} objects could not be freed: see gc.garbage.", count(left)));
    }
    page.keyed("Collector", line);
}
