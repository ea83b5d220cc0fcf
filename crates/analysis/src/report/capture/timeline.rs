//! Memory over time: what is live, what the heap holds besides, and what lies outside it, up to the RSS.

use super::super::Page;
use super::super::quantity::{bytes, ratio, seconds};
use super::super::text::{Line, Role, cut_end, left, right};
use super::Asked;
use crate::capture::{Point, Process, Profile};

/// Rows of the chart.
const ROWS: usize = 14;
/// Columns of the figures beside it.
const LABEL_COLUMNS: usize = 10;
/// Where the peak is, beside the letters of marks.
const PEAK: char = '▲';
/// Marks that get a letter.
const MARKS: usize = 26;

/// Adds the chart, the marks in it, and figures at the marks, the peak and the end.
pub(super) fn report(page: &mut Page, asked: &Asked<'_>) {
    let profile = asked.profile;
    let cells = page.columns.saturating_sub(LABEL_COLUMNS + 3).clamp(8, 120);
    if profile.processes.iter().all(|process| process.series.is_empty()) {
        page.wrap(Line::new().plain("Nothing to show: the capture ends before its first second."), 0);
        return;
    }
    match asked.thread {
        None => {
            let points = course(profile, cells);
            chart(page, &layers(&points));
            axis(page, profile, cells);
            legend(page);
        }
        Some(thread) => {
            let live = live_of(asked, cells);
            chart(page, &live.iter().map(|&live| vec![(Role::Low, '█', live)]).collect::<Vec<_>>());
            axis(page, profile, cells);
            let text = format!("{blank}  live, allocated by {thread}", blank = " ".repeat(LABEL_COLUMNS));
            page.line(Line::new().plain(text));
        }
    }
    moments(page, profile);
}

/// The state of all processes together in this many equal steps of time: of each step what was highest.
pub(super) fn course(profile: &Profile, cells: usize) -> Vec<Point> {
    let mut course = vec![Point::default(); cells];
    let end_ms = (profile.seconds() * 1000.0) as u64;
    for process in &profile.processes {
        let ended_ms = process.offset_ms.saturating_add(process.last().at_ms);
        let mut next = 0;
        let mut last: Option<Point> = None;
        for (cell, sum) in course.iter_mut().enumerate() {
            // Of u128, as a damaged capture may have any time in it.
            let bound = |cell: usize| (u128::from(end_ms) * cell as u128 / cells.max(1) as u128) as u64;
            let (from_ms, to_ms) = (bound(cell), if cell + 1 == cells { u64::MAX } else { bound(cell + 1) });
            let mut most: Option<Point> = None;
            while let Some(point) =
                process.series.get(next).filter(|point| process.offset_ms.saturating_add(point.at_ms) < to_ms)
            {
                most = Some(highest(most.unwrap_or_default(), *point));
                last = Some(*point);
                next += 1;
            }
            // Between two ticks the state is that of the first; after the last one there is none.
            if let Some(point) = most.or(last.filter(|_| from_ms <= ended_ms)) {
                sum.rss_bytes = sum.rss_bytes.saturating_add(point.rss_bytes);
                sum.heap_bytes = sum.heap_bytes.saturating_add(point.heap_bytes);
                sum.outside_bytes = sum.outside_bytes.saturating_add(point.outside_bytes);
                sum.live_bytes = sum.live_bytes.saturating_add(point.live_bytes);
            }
        }
    }
    course
}

fn highest(one: Point, other: Point) -> Point {
    if one.rss_bytes > other.rss_bytes { one } else { other }
}

/// Live bytes of what is asked for, in equal steps of time.
fn live_of(asked: &Asked<'_>, cells: usize) -> Vec<u64> {
    let course = asked.profile.history(cells);
    let sites: Vec<usize> = asked.groups(super::By::Line).into_iter().flat_map(|group| group.sites).collect();
    let sum = |amounts: &Vec<heapkeeper_record::capture::Amount>| {
        sites.iter().fold(0u64, |sum, &site| sum.saturating_add(amounts[site].bytes))
    };
    course.iter().map(sum).collect()
}

/// From the bottom: outside our heap, live in it, and what else is resident.
fn layers(points: &[Point]) -> Vec<Vec<(Role, char, u64)>> {
    let layers = points.iter().map(|point| {
        let inside = point.rss_bytes.saturating_sub(point.outside_bytes);
        let live = point.live_bytes.min(inside);
        vec![
            (Role::Dim, '▒', point.outside_bytes.min(point.rss_bytes)),
            (Role::Low, '█', live),
            (Role::Middle, '░', inside - live),
        ]
    });
    layers.collect()
}

/// Draws columns of layers, the highest as tall as the chart.
fn chart(page: &mut Page, columns: &[Vec<(Role, char, u64)>]) {
    let sum = |layers: &[(Role, char, u64)]| layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.2));
    let most = columns.iter().map(|layers| sum(layers)).max().unwrap_or(0).max(1);
    page.gap();
    for row in (0..ROWS).rev() {
        let height = |part: f64| (most as f64 * part / ROWS as f64) as u64;
        let label = if (row + 1) % 3 == ROWS % 3 { bytes(height(row as f64 + 1.0)) } else { String::new() };
        let mut line =
            Line::new().dim(right(&label, LABEL_COLUMNS)).dim(if label.is_empty() { " │" } else { " ┤" });
        let middle = height(row as f64 + 0.5);
        for layers in columns {
            let mut below = 0u64;
            let found = layers.iter().find(|layer| {
                below = below.saturating_add(layer.2);
                below > middle
            });
            let (role, sign) = found.map_or((Role::Plain, ' '), |layer| (layer.0, layer.1));
            line = line.with(role, sign.to_string());
        }
        page.line(line.merged());
    }
}

/// The time below the chart, the peak and the letters of the marks.
fn axis(page: &mut Page, profile: &Profile, cells: usize) {
    let blank = " ".repeat(LABEL_COLUMNS + 1);
    page.line(Line::new().dim(format!("{blank}└{}", "─".repeat(cells))));
    let end_s = profile.seconds();
    let mut letters = vec![' '; cells];
    let peak = match profile.processes.as_slice() {
        [only] => Some((PEAK, only.seconds_at(only.peak_at_ms))),
        _ => None,
    };
    for (letter, at_s) in peak.into_iter().chain(marks(profile).into_iter().map(|(letter, at_s, _)| (letter, at_s))) {
        let share = if end_s > 0.0 { at_s / end_s } else { 0.0 };
        letters[((share * cells as f64) as usize).min(cells.saturating_sub(1))] = letter;
    }
    let letters: String = letters.into_iter().collect();
    if !letters.trim().is_empty() {
        page.line(Line::new().plain(&blank).plain(" ").with(Role::Place, letters));
    }
    let (middle, end) = (seconds(end_s / 2.0), seconds(end_s));
    let half = cells / 2;
    let times =
        format!("{}{}{}", left("0", half), left(&middle, cells.saturating_sub(half + end.chars().count())), end);
    page.line(Line::new().plain(&blank).plain(" ").dim(times));
}

fn legend(page: &mut Page) {
    page.gap();
    page.wrap(
        Line::new()
            .plain(" ".repeat(LABEL_COLUMNS + 2))
            .with(Role::Low, "█")
            .plain(" live   ")
            .with(Role::Middle, "░")
            .plain(" held by our heap, not live   ")
            .with(Role::Dim, "▒")
            .plain(" outside our heap   together: RSS"),
        LABEL_COLUMNS + 2,
    );
}

/// Letter, time and name of each mark, in the order of time.
fn marks(profile: &Profile) -> Vec<(char, f64, String)> {
    let of = |process: &Process| -> Vec<(f64, String)> {
        let several = profile.processes.len() > 1;
        let name = |name: &str| if several { format!("{name} (pid {})", process.header.pid) } else { name.to_owned() };
        process.marks.iter().map(|mark| (process.seconds_at(mark.at_ms), name(&mark.name))).collect()
    };
    let mut marks: Vec<(f64, String)> = profile.processes.iter().flat_map(of).collect();
    marks.sort_by(|one, other| one.0.total_cmp(&other.0));
    let letters = 'a'..='z';
    letters.zip(marks).take(MARKS).map(|(letter, (at_s, name))| (letter, at_s, name)).collect()
}

/// Figures of all processes at the marks, the peak and the end.
fn moments(page: &mut Page, profile: &Profile) {
    let mut rows: Vec<(f64, String, Option<u64>)> =
        marks(profile).into_iter().map(|(letter, at_s, name)| (at_s, format!("{letter}  {name}"), None)).collect();
    if let [only] = profile.processes.as_slice() {
        rows.push((only.seconds_at(only.peak_at_ms), format!("{PEAK}  the peak"), Some(only.peak_bytes)));
    }
    rows.push((profile.seconds(), format!("   {}", super::end(profile)), None));
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    page.gap();
    let figures = |cells: [String; 5]| cells.map(|cell| right(&cell, LABEL_COLUMNS)).concat();
    page.line(Line::new().dim(figures(["at", "RSS", "heap", "live", "outside"].map(str::to_owned))));
    for (at_s, name, peak) in rows {
        let at = |of: &dyn Fn(Point) -> u64| {
            let points = profile.processes.iter().map(|process| of(process.at(at_s)));
            points.fold(0u64, u64::saturating_add)
        };
        let live = peak.unwrap_or_else(|| at(&|point| point.live_bytes));
        // The peak may lie between two ticks: then nobody knows what else there was.
        let is_known = ratio(at(&|point| point.live_bytes), live) > 0.95 || live == 0;
        let known = |of: &dyn Fn(Point) -> u64| if is_known { bytes(at(of)) } else { String::new() };
        let [rss, heap] = [known(&|point| point.rss_bytes), known(&|point| point.heap_bytes)];
        let outside = known(&|point| point.outside_bytes);
        let name = cut_end(&name, page.columns.saturating_sub(5 * LABEL_COLUMNS + 2).max(8));
        page.line(
            Line::new().plain(figures([seconds(at_s), rss, heap, bytes(live), outside])).plain("  ").strong(name),
        );
    }
}
