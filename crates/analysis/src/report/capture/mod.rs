//! Reports of captures: the summary, and a view for each further question.
//!
//! | view | question |
//! |---|---|
//! | [`View::Summary`] | where did the memory go? |
//! | [`View::Tree`] | by which calls? |
//! | [`View::Table`] | line by line, or function by function? |
//! | [`View::Timeline`] | when? |
//! | [`View::Leaks`] | what grows? |
//! | [`View::Temporary`] | what is allocated only to be freed? |
//! | [`View::Lines`] | what does each line of this file cost? |
//!
//! [`render`] is total like the report at exit: any profile gives text of lines no wider than asked for.

mod columns;
mod groups;
mod growth;
mod lines;
mod summary;
mod table;
mod temporary;
mod timeline;
mod tree;

#[cfg(test)]
mod tests;

use heapkeeper_record::capture::Amount;
use serde::Deserialize;

use super::path::ShortNames;
use super::quantity::seconds;
use super::text::Line;
use super::{Page, Style};
use crate::capture::{Bound, End, Measure, Moment, Profile};
use crate::stacks::Stacks;

/// What to report.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Which of the reports.
    pub view: View,
    /// `peak`, `end` or seconds since the first process began; of which moment. **Peak and end in the summary, else the peak**.
    pub at: Option<String>,
    /// Only what this thread allocated.
    pub thread: Option<String>,
    /// What a row of the table is.
    pub by: By,
    /// By which figure the table is sorted.
    pub sort: Sort,
    /// Where growth begins to count: the name of a mark, or seconds. **The first mark, or the end of the first third**.
    pub from: Option<String>,
    /// Where it ends. **The last mark if there are several, or the end**.
    pub to: Option<String>,
    /// Source files, each by its name or the end of its path. **Those of the program that matter**.
    pub files: Vec<String>,
}

/// Which report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Peak, end, growth, timeline, collector.
    #[default]
    Summary,
    /// The call tree.
    Tree,
    /// Lines or functions.
    Table,
    /// Memory over time.
    Timeline,
    /// What grew and stayed.
    Leaks,
    /// What was allocated and freed.
    Temporary,
    /// Source files with figures.
    Lines,
}

/// What a row of the table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A line.
    #[default]
    Line,
    /// A function.
    Function,
}

/// By which figure the table is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Live bytes.
    #[default]
    Bytes,
    /// Live blocks.
    Blocks,
    /// Bytes allocated in all.
    Total,
}

/// Why a query has no answer. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// No thread of that name allocated.
    NoThread {
        /// What was asked for.
        name: String,
        /// What there is.
        threads: Vec<String>,
    },
    /// Neither a mark's name nor a number.
    NoMark {
        /// What was asked for.
        name: String,
        /// What there is.
        marks: Vec<String>,
    },
    /// Neither `peak`, `end` nor a number.
    NoMoment {
        /// What was asked for.
        text: String,
    },
    /// Nothing was allocated in such a file.
    NoFile {
        /// What was asked for.
        name: String,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: &[String], none: &str| match names {
            [] => none.to_owned(),
            names => names.join(", "),
        };
        let text = match self {
            Problem::NoThread { name, threads } => {
                format!("no thread {name:?} allocated anything; threads: {}", list(threads, "none"))
            }
            Problem::NoMark { name, marks } => {
                format!("{name:?} is neither a mark nor a number of seconds; marks: {}", list(marks, "none"))
            }
            Problem::NoMoment { text } => format!("{text:?} is neither peak, end nor a number of seconds"),
            Problem::NoFile { name } => format!("nothing was allocated in a file {name:?}"),
        };
        write!(f, "{}", super::text::clean(&text))
    }
}

impl std::error::Error for Problem {}

/// Renders a report of captures, ending in a newline.
///
/// # Errors
///
/// Where the query names what is not there.
pub fn render(profile: &mut Profile, query: &Query, style: Style) -> Result<String, Problem> {
    let moment = query.at.as_deref().map(|text| moment(profile, text)).transpose()?;
    let from = query.from.as_deref().map(|text| bound(profile, text)).transpose()?;
    let to = query.to.as_deref().map(|text| bound(profile, text)).transpose()?;
    let bounds = [from.as_ref(), to.as_ref()];
    let thread = query.thread.as_deref();
    check_thread(&[profile], thread)?;
    let mut page = Page::new(style);
    page.wrap(header(profile, thread), 0);
    if query.view == View::Lines {
        lines::report(&mut page, profile, &query.files, thread)?;
        return Ok(page.text());
    }
    let view =
        Asked { profile, names: ShortNames::new(profile.frames.iter().map(|frame| frame.file.as_str())), thread };
    match query.view {
        View::Summary => summary::report(&mut page, &view, moment),
        View::Tree => tree::report(&mut page, &view, moment.unwrap_or_default()),
        View::Table => table::report(&mut page, &view, moment.unwrap_or_default(), query.by, query.sort),
        View::Timeline => timeline::report(&mut page, &view),
        View::Leaks => growth::report(&mut page, &view, bounds),
        View::Temporary => temporary::report(&mut page, &view, moment.unwrap_or(Moment::End)),
        View::Lines => {}
    }
    Ok(page.text())
}

/// Stacks with their weights, at a moment as a query names it.
///
/// # Errors
///
/// Where it names none.
pub fn stacks(profile: &Profile, at: Option<&str>, thread: Option<&str>, measure: Measure) -> Result<Stacks, Problem> {
    let moment = at.map(|text| moment(profile, text)).transpose()?;
    Ok(profile.stacks(moment.unwrap_or_default(), measure, thread))
}

/// Checks that a thread allocated in one of these profiles.
///
/// # Errors
///
/// Where it did not.
pub fn check_thread(profiles: &[&Profile], thread: Option<&str>) -> Result<(), Problem> {
    let Some(name) = thread.filter(|name| !profiles.iter().any(|profile| profile.has_thread(name))) else {
        return Ok(());
    };
    let mut threads: Vec<String> = profiles.iter().flat_map(|profile| profile.threads()).cloned().collect();
    threads.sort();
    threads.dedup();
    Err(Problem::NoThread { name: name.to_owned(), threads })
}

/// What every view needs.
struct Asked<'a> {
    profile: &'a Profile,
    names: ShortNames<'a>,
    thread: Option<&'a str>,
}

impl Asked<'_> {
    /// Half-width of the 95 % confidence interval of an amount.
    fn error_bytes(&self, amount: &Amount) -> u64 {
        error_bytes(amount, self.profile.sample_bytes())
    }

    /// What the end of all captures is: `exit`, `the stop`, or less.
    fn end(&self) -> &'static str {
        end(self.profile)
    }
}

fn end(profile: &Profile) -> &'static str {
    let mut ends = profile.processes.iter().map(|process| process.end);
    let first = ends.next().unwrap_or_default();
    if ends.all(|end| end == first) { first } else { End::Cut }.name()
}

/// Samples behind an amount, where `sample_bytes` is the mean distance between them: each small one has a variance of its
/// square.
fn samples(amount: &Amount, sample_bytes: u64) -> f64 {
    let distance = sample_bytes as f64;
    if sample_bytes == 0 { 0.0 } else { (amount.variance / (distance * distance)).max(0.0) }
}

/// Half-width of the 95 % confidence interval: that of a Poisson count, as in [`super::sites`].
fn error_bytes(amount: &Amount, sample_bytes: u64) -> u64 {
    match sample_bytes {
        0 => 0,
        distance => (distance as f64 * (2.0 * (samples(amount, distance) + 1.0).sqrt() + 1.9)) as u64,
    }
}

/// A moment as a query names it. For seconds it is that of the tick before: reports name what they are of.
fn moment(profile: &Profile, text: &str) -> Result<Moment, Problem> {
    match (text, text.parse::<f64>()) {
        ("peak", _) => Ok(Moment::Peak),
        ("end", _) => Ok(Moment::End),
        (_, Ok(seconds)) if seconds.is_finite() && seconds >= 0.0 => Ok(Moment::Seconds(profile.known_at(seconds))),
        _ => Err(Problem::NoMoment { text: text.to_owned() }),
    }
}

fn bound(profile: &Profile, text: &str) -> Result<Bound, Problem> {
    if profile.has_mark(text) {
        return Ok(Bound::Mark(text.to_owned()));
    }
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Bound::Seconds(seconds)),
        _ => {
            let marks = profile.processes.iter().flat_map(|process| &process.marks).map(|mark| mark.name.clone());
            let mut marks: Vec<String> = marks.collect();
            marks.dedup();
            Err(Problem::NoMark { name: text.to_owned(), marks })
        }
    }
}

/// `at the peak`.
fn when(moment: Moment, end: &str) -> String {
    match moment {
        Moment::Peak => "at the peak".to_owned(),
        Moment::End => format!("at {end}"),
        Moment::Seconds(at) => format!("at {}", seconds(at)),
    }
}

/// `heapkeeper · app.py · CPython 3.12.1 · 12.0 s · pid 4711`.
fn header(profile: &Profile, thread: Option<&str>) -> Line {
    let mut line = Line::new().strong("heapkeeper").dim(" · ").strong(profile.program());
    let mut parts: Vec<String> = Vec::new();
    for process in &profile.processes {
        if !process.header.python.is_empty() && !parts.contains(&process.header.python) {
            parts.push(process.header.python.clone());
        }
    }
    parts.push(seconds(profile.seconds()));
    parts.push(match profile.processes.as_slice() {
        [only] => format!("pid {}", only.header.pid),
        several => format!("{} processes", several.len()),
    });
    parts.extend(thread.map(|name| format!("thread {name}")));
    for part in parts {
        line = line.dim(" · ").plain(part);
    }
    line
}
