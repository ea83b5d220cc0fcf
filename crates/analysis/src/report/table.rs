//! The two tables of lines: at the peak, and still live at exit.
//!
//! One row is one grep-able line: bytes, confidence, share, function, `file:line`, source. Rows are cut,
//! never wrapped, so that columns stay columns; what makes room first is the bar, then the source, which
//! moves below its row.

use heapkeeper_record::{Frame, ProfileStatus, Site};
use unicode_width::UnicodeWidthStr;

use super::Page;
use super::path::{Owner, ShortNames, owner};
use super::quantity::{bar, bytes, count, counted, margin, percent, ratio};
use super::sites::{Entry, Step, same_line, story};
use super::text::{Line, Role, clean, cut_end, cut_start, left, right};

/// Rows of the table at the peak, and of the one at exit.
const PEAK_ROWS: usize = 8;
const EXIT_ROWS: usize = 5;
/// Frames below a row that holds at least a tenth of the whole, and below a smaller one.
const LARGE_STEPS: usize = 4;
const SMALL_STEPS: usize = 1;
/// Below this share a row is counted with the rest.
const LEAST_SHARE: f64 = 0.01;
/// Cells of a bar.
const BAR_COLUMNS: usize = 8;

/// The table of the lines that held most at the peak, each with the way there. `heading` says when that was.
pub(super) fn at_peak(
    page: &mut Page,
    heading: &str,
    profile: &ProfileStatus,
    entries: &[Entry<'_>],
    names: &ShortNames<'_>,
) {
    let shown = worth_showing(entries, PEAK_ROWS);
    if shown.is_empty() {
        return;
    }
    let rows = shown.iter().flat_map(|entry| {
        let limit = if entry.share >= 0.1 { LARGE_STEPS } else { SMALL_STEPS };
        let mut rows = vec![headline(page, entry, names)];
        rows.extend(steps(entry.largest, entry.stacks, limit, names));
        rows
    });
    let rows = rows.collect();
    page.gap();
    let basis = match profile.sample_bytes {
        0 => ", counted to the byte".to_owned(),
        distance => {
            let error = margin(profile.peak_error_bytes, profile.peak_bytes);
            format!(" {error}, sampled every {} on average", bytes(distance))
        }
    };
    page.line(Line::new().strong(heading).dim(format!("  {}{basis}", bytes(profile.peak_bytes))));
    print(page, rows, figure_columns(page));
    rest(page, profile.peak_bytes, &shown);
}

/// The table of the lines that hold most at exit; ways already shown at the peak are not repeated.
pub(super) fn at_exit(
    page: &mut Page,
    profile: &ProfileStatus,
    entries: &[Entry<'_>],
    at_peak: &[Entry<'_>],
    names: &ShortNames<'_>,
    when: &str,
) {
    page.gap();
    if entries.is_empty() {
        let what = if profile.sample_bytes == 0 { "counted" } else { "sampled" };
        let text = format!(" none of the {what} blocks was live any more.");
        page.wrap(Line::new().strong(format!("At {when}")).plain(text), 0);
        return;
    }
    let shown = worth_showing(entries, EXIT_ROWS);
    if shown.is_empty() {
        let little = format!("  {}, no line with enough of it to name", bytes(profile.live_bytes));
        page.wrap(Line::new().strong(format!("Still live at {when}")).dim(little), 0);
        return;
    }
    let told = worth_showing(at_peak, PEAK_ROWS);
    let rows = shown.iter().flat_map(|entry| {
        let known = told.iter().any(|other| same_line(other.headline, entry.headline));
        let mut rows = vec![headline(page, entry, names)];
        if !known {
            rows.extend(steps(entry.largest, entry.stacks, LARGE_STEPS, names));
        }
        rows
    });
    let rows = rows.collect();
    page.line(Line::new().strong(format!("Still live at {when}")).dim(format!("  {}", bytes(profile.live_bytes))));
    print(page, rows, figure_columns(page));
    rest(page, profile.live_bytes, &shown);
}

/// What the figures rest on.
///
/// `python` is the version's name: before 3.13 nobody is told of objects that CPython takes from its free lists.
pub(super) fn footnote(page: &mut Page, profile: &ProfileStatus, python: &str) {
    if profile.sample_bytes == 0 {
        let mut text = format!("{} counted.", counted(profile.samples, "allocation"));
        if minor_version(python).is_some_and(|minor| minor < 13) {
            text += " A float, list, dict or tuple that CPython had kept for reuse counts for the line that allocated it first: \
                     before CPython 3.13 an allocator is not told.";
        }
        page.gap();
        page.wrap(Line::new().dim(text), 0);
        if profile.lost_samples > 0 {
            let lost = counted(profile.lost_samples, "allocation");
            page.wrap(Line::new().with(Role::Warning, format!("{lost} without a line: there were too many sites.")), 0);
        }
        return;
    }
    let samples = counted(profile.samples, "sample");
    let mut text = format!("{samples} in all; ± bounds the 95 % confidence interval");
    let finer = profile.sample_bytes / 8;
    if ratio(profile.peak_error_bytes, profile.peak_bytes) > 0.1 && finer >= 1024 {
        text += &format!(", which --sample-bytes {}K would narrow", finer / 1024);
    }
    page.gap();
    page.wrap(Line::new().dim(text + "."), 0);
    if profile.lost_samples > 0 {
        let lost = counted(profile.lost_samples, "sample");
        page.wrap(Line::new().with(Role::Warning, format!("{lost} lost: the figures are too low.")), 0);
    }
}

/// The minor version in `CPython 3.12.1`.
fn minor_version(python: &str) -> Option<u32> {
    python.split('.').nth(1)?.parse().ok()
}

/// A function's name as it is shown.
pub(super) fn function(frame: &Frame) -> &str {
    match frame.function.as_str() {
        "" => "?",
        name => name,
    }
}

/// The entries that are no noise.
fn worth_showing<'e, 'a>(entries: &'e [Entry<'a>], rows: usize) -> Vec<&'e Entry<'a>> {
    entries.iter().take(rows).filter(|entry| entry.share >= LEAST_SHARE && entry.is_seen()).collect()
}

/// One line of a table before its columns are known.
pub(super) struct Row {
    /// Figures, as wide as the table's figures are; absent for the frames below a headline.
    pub(super) figures: Option<Line>,
    /// `in ` or `by ` before a frame, empty for a headline.
    pub(super) prefix: &'static str,
    pub(super) function: String,
    pub(super) place: String,
    pub(super) source: String,
    pub(super) dim: bool,
}

impl Row {
    /// The row of a line.
    pub(super) fn headline(figures: Line, frame: Option<&Frame>, names: &ShortNames<'_>) -> Row {
        let (function, place, source) = match frame {
            None => ("(no Python frame)".to_owned(), String::new(), String::new()),
            Some(frame) => describe(frame, names),
        };
        Row { figures: Some(figures), prefix: "", function, place, source, dim: false }
    }

    /// A row that says something else.
    pub(super) fn note(figures: Option<Line>, text: String) -> Row {
        Row { figures, prefix: "", function: text, place: String::new(), source: String::new(), dim: true }
    }
}

fn headline(page: &Page, entry: &Entry<'_>, names: &ShortNames<'_>) -> Row {
    Row::headline(figures(page, entry.bytes, entry.error_bytes, entry.share, false), entry.headline, names)
}

fn describe(frame: &Frame, names: &ShortNames<'_>) -> (String, String, String) {
    let source = frame.source.as_deref().unwrap_or_default().trim();
    (clean(function(frame)), clean(&names.place(frame)), clean(source))
}

/// The frames below the headline of `stacks` sites of which this is the largest, and what sets them apart.
pub(super) fn steps(largest: &Site, stacks: usize, limit: usize, names: &ShortNames<'_>) -> Vec<Row> {
    let below = |prefix, frame: &Frame, times: usize| {
        let (mut function, place, source) = describe(frame, names);
        if times > 1 {
            function = format!("{function} ×{times}");
        }
        let dim = owner(&frame.file) != Owner::Program;
        Row { figures: None, prefix, function, place, source, dim }
    };
    let note = |text| Row::note(None, text);
    let brief = limit == SMALL_STEPS;
    let mut rows: Vec<Row> = story(largest, limit)
        .into_iter()
        .filter(|step| !(brief && matches!(step, Step::More { .. })))
        .map(|step| match step {
            Step::Inside(frame) => below("in ", frame, 1),
            Step::By { frame, times } => below("by ", frame, times),
            Step::Library(frames) => note(format!("by {}", counted(frames as u64, "library frame"))),
            Step::More { callers: 0, .. } => note("… deeper callers were not kept".to_owned()),
            Step::More { callers, deeper } => {
                let kept = if deeper { ", deeper ones were not kept" } else { "" };
                note(format!("… {}{kept}", counted(callers as u64, "more caller")))
            }
        })
        .collect();
    if !brief {
        let thread = largest.thread.as_str();
        let is_main = thread == "MainThread" || thread.starts_with("MainThread (pid ");
        if !thread.is_empty() && !is_main {
            rows.push(note(format!("in thread {}", clean(thread))));
        }
        if stacks > 1 {
            let others = count(stacks as u64 - 1);
            let ways = if stacks == 2 { "way" } else { "ways" };
            rows.push(note(format!("… and {others} other {ways} to this line")));
        }
    }
    rows
}

/// What the rows shown leave out of the whole.
fn rest(page: &mut Page, total_bytes: u64, shown: &[&Entry<'_>]) {
    let listed = shown.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.bytes));
    let rest = total_bytes.saturating_sub(listed);
    let share = ratio(rest, total_bytes);
    if share < 0.005 {
        return;
    }
    let row = Row::note(Some(figures(page, rest, 0, share, true)), "everything else".to_owned());
    print(page, vec![row], figure_columns(page));
}

/// Lays rows out in the page's columns, of which their figures take the first `figures`.
pub(super) fn print(page: &mut Page, rows: Vec<Row>, figures: usize) {
    let narrow = page.columns < 50;
    let blank = " ".repeat(if narrow { 4 } else { figures });
    let room = page.columns.saturating_sub(blank.len());
    let widest = |own: bool, width: &dyn Fn(&Row) -> usize| {
        let rows = rows.iter().filter(|row| !row.place.is_empty());
        rows.filter(|row| !own || !row.dim).map(width).max().unwrap_or(0)
    };
    // The program's own frames decide how wide a column may be; a long name in a library gives way to the source.
    let fit = |width: &dyn Fn(&Row) -> usize| {
        let most = widest(true, width).max(room / 4).min(room / 3);
        widest(false, width).min(most).max(6)
    };
    let function_width = |row: &Row| row.prefix.len() + row.function.width();
    let place_width = |row: &Row| row.place.width();
    let mut function_columns = fit(&function_width);
    let mut place_columns = fit(&place_width);
    let source_columns = room.saturating_sub(function_columns + place_columns + 4);
    // A source line cut to a few characters says nothing: it gets a line of its own, and the names its room.
    let source_beside = source_columns >= 20;
    if !source_beside {
        let room = room.saturating_sub(2);
        let own_function = widest(true, &function_width).max(6);
        place_columns = widest(true, &place_width).min(room.saturating_sub(own_function)).max(place_columns);
        function_columns = own_function.min(room.saturating_sub(place_columns)).max(function_columns);
    }

    for row in &rows {
        let mut line = match &row.figures {
            None => Line::new().plain(&blank),
            Some(figures) if narrow => {
                page.line(figures.clone());
                Line::new().plain(&blank)
            }
            Some(figures) => figures.clone(),
        };
        let (function_role, place_role) = match (row.dim, &row.figures) {
            (true, _) => (Role::Dim, Role::Dim),
            (false, Some(_)) => (Role::Strong, Role::Place),
            (false, None) => (Role::Plain, Role::Place),
        };
        if row.place.is_empty() {
            page.line(
                line.with(if row.figures.is_some() && !row.dim { Role::Plain } else { Role::Dim }, &row.function),
            );
            continue;
        }
        let name = cut_start(&row.function, function_columns - row.prefix.len());
        let place = cut_start(&row.place, place_columns);
        line = line
            .dim(row.prefix)
            .with(function_role, left(&name, function_columns - row.prefix.len()))
            .plain("  ")
            .with(place_role, left(&place, place_columns));
        let source_role = if row.figures.is_some() { Role::Plain } else { Role::Dim };
        if source_beside {
            page.line(line.plain("  ").with(source_role, cut_end(&row.source, source_columns)));
            continue;
        }
        page.line(line);
        if row.figures.is_some() && !row.source.is_empty() {
            page.line(Line::new().plain(&blank).with(source_role, &row.source));
        }
    }
}

/// Columns of bytes, confidence, share and bar.
fn figure_columns(page: &Page) -> usize {
    // Bars are for the eye; in a pipe the source line needs the room more.
    let bars = if page.color && page.columns >= 110 { BAR_COLUMNS + 2 } else { 0 };
    bars + if page.columns >= 60 { 25 } else { 18 }
}

/// Bytes, confidence, share and bar.
fn figures(page: &Page, size: u64, error: u64, share: f64, dim: bool) -> Line {
    let columns = figure_columns(page);
    let role = if dim { Role::Dim } else { Role::Strong };
    let mut line = Line::new().with(role, right(&bytes(size), 10));
    if columns > 20 {
        line = line.dim(right(&margin(error, size), 7));
    }
    line = line.with(if dim { Role::Dim } else { Role::Plain }, right(&percent(share), 6)).plain("  ");
    if columns > 25 {
        let heat = match share {
            share if dim || share < 0.15 => Role::Low,
            share if share < 0.4 => Role::Middle,
            _ => Role::High,
        };
        let heat = if dim { Role::Dim } else { heat };
        line = line.with(heat, left(&bar(share, BAR_COLUMNS), BAR_COLUMNS)).plain("  ");
    }
    line
}
