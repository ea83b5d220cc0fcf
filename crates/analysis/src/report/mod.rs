//! The report at exit: where a program's memory went, on one screen.
//!
//! The first three lines answer the question (how much, when, from which line); the tables below say
//! by which way the program came to those lines; the rest is the state of the heap, and what the
//! collector of cycles did. Only what the record holds is claimed: a site that held 60 MiB at the peak and 60 MiB at exit is shown with both
//! figures, and the reader concludes.
//!
//! [`render`] is total: any [`Status`], however odd, gives text of lines no wider than asked for.

mod advice;
pub mod capture;
mod collector;
pub mod diff;
mod heap;
pub(crate) mod path;
mod picture;
pub(crate) mod quantity;
mod sites;
mod table;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use heapkeeper_record::{Frame, ProfileStatus, Site, Status};

use path::ShortNames;
use quantity::{bytes, percent, ratio, seconds};
use sites::{Entry, entries, same_line};
use text::{Line, Role, left};

/// How a report is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; below [`Style::LEAST_COLUMNS`] counts as that. **100** for a pipe.
    pub columns: usize,
    /// ANSI colours. **No** for a pipe: then the text holds no escape code. Bars and `±` stay: the text
    /// is UTF-8 either way.
    pub color: bool,
}

impl Style {
    /// Narrower than this no line can be laid out.
    pub const LEAST_COLUMNS: usize = 20;
    /// Wider than this a report is harder to read, not easier.
    const MOST_COLUMNS: usize = 160;
}

impl Default for Style {
    fn default() -> Self {
        Style { columns: 100, color: false }
    }
}

/// `1.5 GiB`, `2 GiB`, `512 MiB`: a size in words, for one who chose it.
pub fn size(size_bytes: u64) -> String {
    bytes(size_bytes).replace(quantity::GLUE, " ").replace(".0 ", " ")
}

/// Renders the report of one process, ending in a newline.
pub fn render(status: &Status, style: Style) -> String {
    let mut page = Page::new(style);
    page.wrap(header(status), 0);
    if let Some(note) = allocator_note(status) {
        page.wrap(note, 0);
    }
    page.wrap(summary(status), 0);
    if let Some(reason) = &status.allocator.numpy {
        let note = Line::new().with(Role::Warning, "The data of NumPy's arrays is outside our heap");
        page.wrap(note.plain(format!(": {}.", reason.trim_end_matches('.'))), 0);
    }
    let names = ShortNames::new(frames(status).map(|frame| frame.file.as_str()));
    match &status.profile {
        None if serves(status) => page.wrap(
            Line::new().dim("The profile is off; with --profile sample this report names the lines that allocated."),
            0,
        ),
        None => {}
        Some(profile) => sites_section(&mut page, profile, &status.python, &names),
    }
    let above = page.lines.len();
    heap::section(&mut page, status);
    collector::section(&mut page, status, &names);
    if page.lines.len() > above {
        page.lines.insert(above, String::new());
    }
    heap::classes(&mut page, status);
    collector::histogram(&mut page, status);
    page.text()
}

/// Every frame that a line of the report may name.
fn frames(status: &Status) -> impl Iterator<Item = &Frame> {
    let profile = status.profile.iter().flat_map(|profile| profile.at_peak.iter().chain(&profile.at_end));
    let cycles = status.collector.iter().flat_map(|collector| &collector.cycle_types);
    let sites = profile.chain(cycles.filter_map(|cycle_type| cycle_type.site.as_ref()));
    sites.flat_map(|site: &Site| &site.frames)
}

/// Columns of the keys in front of paragraphs.
const KEY_COLUMNS: usize = 11;

/// The lines written so far, and how to write more.
struct Page {
    lines: Vec<String>,
    columns: usize,
    color: bool,
}

impl Page {
    fn new(style: Style) -> Page {
        let columns = style.columns.clamp(Style::LEAST_COLUMNS, Style::MOST_COLUMNS);
        Page { lines: Vec::new(), columns, color: style.color }
    }

    /// All lines, ending in a newline.
    fn text(self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }

    /// Adds a line, cut to the page.
    fn line(&mut self, line: Line) {
        self.lines.push(line.cut(self.columns, self.color));
    }

    /// Adds a paragraph, wrapped to the page.
    fn wrap(&mut self, line: Line, indent: usize) {
        self.lines.push(line.wrap(self.columns.min(100), indent, self.color));
    }

    /// Adds a paragraph behind a key.
    fn keyed(&mut self, key: &str, line: Line) {
        // On a narrow page a hanging indent would leave no room for the text.
        let indent = if self.columns >= 60 { KEY_COLUMNS } else { 2 };
        self.wrap(Line::new().strong(left(key, KEY_COLUMNS)).and(line), indent);
    }

    /// Adds a blank line.
    fn gap(&mut self) {
        self.lines.push(String::new());
    }
}

/// Whether the program's allocations come from our heap.
fn serves(status: &Status) -> bool {
    status.allocator.name != "cpython"
}

fn header(status: &Status) -> Line {
    let program = match status.program.as_str() {
        "" => "interactive session",
        program => program,
    };
    let mut line = Line::new().strong("heapkeeper").dim(" · ").strong(program);
    for part in [&status.python, &seconds(status.elapsed_s)] {
        if !part.is_empty() {
            line = line.dim(" · ").plain(part);
        }
    }
    line.dim(format!(" · pid {}", status.pid))
}

/// Says that the program ran on CPython's allocator, and why.
fn allocator_note(status: &Status) -> Option<Line> {
    if serves(status) {
        return None;
    }
    let line = Line::new().with(Role::Warning, "CPython's own allocator served this program");
    Some(match &status.allocator.reason {
        Some(reason) => line.plain(format!(": {}", reason.trim_end_matches('.'))).plain("."),
        None => line.plain("."),
    })
}

/// The figures everybody asks for first.
fn summary(status: &Status) -> Line {
    let (heap, process) = (&status.heap, &status.process);
    if !serves(status) {
        return Line::new()
            .plain("The process holds ")
            .strong(bytes(process.rss_bytes))
            .plain(" (RSS), ")
            .strong(bytes(process.peak_rss_bytes))
            .plain(" at its peak.");
    }
    Line::new()
        .plain("Peak ")
        .strong(bytes(heap.peak_bytes))
        .plain(format!(" at {}, ", seconds(heap.peak_at_s)))
        .strong(bytes(heap.held_bytes))
        .plain(" at exit; ")
        .strong(bytes(process.outside_bytes))
        .plain(" outside our heap; ")
        .strong(if heap.returned_bytes == 0 { "nothing".to_owned() } else { bytes(heap.returned_bytes) })
        .plain(" given back to the OS.")
}

/// The answer in one line, then the tables.
fn sites_section(page: &mut Page, profile: &ProfileStatus, python: &str, names: &ShortNames<'_>) {
    let at_peak = entries(&profile.at_peak, profile.sample_bytes);
    let at_end = entries(&profile.at_end, profile.sample_bytes);
    match at_peak.first() {
        Some(top) if top.is_sure() => page.wrap(answer(top, "the peak", names).and(still(top, &at_end)), 0),
        _ => page.wrap(no_answer(profile), 0),
    }
    if !at_peak.iter().chain(&at_end).any(Entry::is_seen) {
        return;
    }
    table::at_peak(page, "At the peak", profile, &at_peak, names);
    table::at_exit(page, profile, &at_end, &at_peak, names, "exit");
    table::footnote(page, profile, python);
}

/// Why no line is named: the program is small, or its memory is spread thin.
fn no_answer(profile: &ProfileStatus) -> Line {
    if profile.sample_bytes == 0 {
        return Line::new().plain("Nothing that Python code allocated was live.");
    }
    let finer = match profile.sample_bytes / 32 / 1024 {
        0 => String::new(),
        kib => format!(" --sample-bytes {kib}K looks closer."),
    };
    let distance = bytes(profile.sample_bytes);
    Line::new().plain(if ratio(profile.peak_error_bytes, profile.peak_bytes) < 0.5 && profile.peak_bytes > 0 {
        format!("No line stands out: the peak is spread over many, with few samples each.{finer}")
    } else {
        format!("Too little memory to name a line: one sample is taken every {distance} on average.{finer}")
    })
}

/// `Half of the peak came from app.py:42 (load_rows)`.
fn answer(top: &Entry<'_>, whole: &str, names: &ShortNames<'_>) -> Line {
    let line = Line::new().strong(part(top.share)).plain(format!(" of {whole} came from "));
    match top.headline {
        None => line.strong("outside any Python code"),
        Some(frame) => named(line, frame, names),
    }
}

/// `app.py:42 (load_rows)`.
fn named(line: Line, frame: &Frame, names: &ShortNames<'_>) -> Line {
    line.with(Role::Place, names.place(frame)).plain(" (").strong(table::function(frame)).plain(")")
}

/// A share as a sentence begins with it.
fn part(share: f64) -> String {
    match share {
        share if share >= 0.95 => "Nearly all".to_owned(),
        share if (0.47..=0.53).contains(&share) => "Half".to_owned(),
        share if (0.31..=0.355).contains(&share) => "A third".to_owned(),
        share => percent(share),
    }
}

/// `; still 61 MiB at exit.`
fn still(top: &Entry<'_>, at_end: &[Entry<'_>]) -> Line {
    match at_end.iter().find(|entry| same_line(entry.headline, top.headline)) {
        Some(entry) if entry.bytes > 0 => Line::new().plain("; still ").strong(bytes(entry.bytes)).plain(" at exit."),
        _ => Line::new().plain("."),
    }
}
