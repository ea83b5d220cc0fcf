//! What grew and was not freed: between two marks, or after the program warmed up.

use heapkeeper_record::Frame;
use heapkeeper_record::capture::Amount;

use super::super::Page;
use super::super::quantity::{bytes, margin, rate, ratio, seconds, sparkline};
use super::super::table::{Row, steps};
use super::super::text::Line;
use super::super::{named, part};
use super::columns::{Column, Item, draw};
use super::groups::Group;
use super::{Asked, By};
use crate::capture::{Bound, Process, Span};

const ROWS: usize = 20;
/// Rows in the summary.
const FEW_ROWS: usize = 3;
/// Frames below the first rows.
const STEPS: usize = 4;
const WITH_STEPS: usize = 5;
/// Lines with a smaller share of all growth are left out.
const LEAST_SHARE: f64 = 0.01;
/// Moments at which each line is looked at.
const MOMENTS: usize = 8;
/// Ticks in a span that are too few to say how a line grew.
const FEW_TICKS: usize = 4;

/// A line that grew.
struct Grown<'a> {
    group: Group<'a>,
    bytes: u64,
    error_bytes: u64,
    /// Live bytes at moments from the beginning to the end of the span.
    course: Vec<u64>,
}

/// What grew in a span, largest first.
pub(super) struct Growth<'a> {
    grown: Vec<Grown<'a>>,
    /// Of each site, the live amounts at the end of the span.
    last: Vec<Amount>,
    all_bytes: u64,
    spans: Vec<Span>,
}

impl<'a> Growth<'a> {
    pub(super) fn new(asked: &Asked<'a>, bounds: [Option<&Bound>; 2]) -> Growth<'a> {
        let spans = asked.profile.spans(bounds);
        let course = asked.profile.course(&spans, MOMENTS);
        let mut grown: Vec<Grown<'a>> = Vec::new();
        for group in asked.groups(By::Line) {
            let sums: Vec<Amount> = course.iter().map(|amounts| group.sum(amounts)).collect();
            let (Some(first), Some(last)) = (sums.first(), sums.last()) else { continue };
            let bytes = last.bytes.saturating_sub(first.bytes);
            // What is live at both ends is the same samples: the variance of the difference is that of what came.
            let came = Amount { bytes, blocks: 0, variance: (last.variance - first.variance).abs() };
            let error_bytes = asked.error_bytes(&came);
            if bytes > 0 && error_bytes <= bytes {
                let course = sums.iter().map(|sum| sum.bytes).collect();
                grown.push(Grown { group, bytes, error_bytes, course });
            }
        }
        grown.sort_by_key(|grown| std::cmp::Reverse(grown.bytes));
        let all_bytes = grown.iter().fold(0u64, |sum, grown| sum.saturating_add(grown.bytes));
        let last = course.into_iter().next_back().unwrap_or_default();
        Growth { grown, last, all_bytes, spans }
    }

    /// The longest time that the span took in a process.
    fn seconds(&self) -> f64 {
        self.spans.iter().map(|span| span.seconds).fold(0.0, f64::max)
    }

    /// Steps from tick to tick in the span, of the process that has most.
    fn ticks(&self) -> usize {
        self.spans.iter().map(|span| span.ticks[1] - span.ticks[0]).max().unwrap_or(0)
    }

    /// `from mark “warm” to exit`; nothing where processes differ in that.
    fn ends(&self) -> Option<String> {
        let mut names: Vec<String> = self.spans.iter().map(|span| span.names.join(" to ")).collect();
        names.dedup();
        (names.len() == 1).then(|| format!("from {}", names[0]))
    }

    /// `from mark “warm” to exit, 8.0 s`.
    fn span(&self) -> String {
        match self.ends() {
            Some(ends) => format!("{ends}, {}", seconds(self.seconds())),
            None => format!("over {} in each process", seconds(self.seconds())),
        }
    }

    fn items(&self, asked: &Asked<'_>, most: usize, with_steps: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for (index, grown) in self.grown.iter().take(most).enumerate() {
            let share = ratio(grown.bytes, self.all_bytes);
            if share < LEAST_SHARE {
                break;
            }
            let error = margin(grown.error_bytes, grown.bytes);
            let per_second = rate(grown.bytes, self.seconds()).unwrap_or_default();
            let live = grown.course.last().map_or(String::new(), |&live| bytes(live));
            let cells = vec![bytes(grown.bytes), error, per_second, live, sparkline(&grown.course)];
            items.push(Item { cells, row: Row::headline(Line::new(), grown.group.headline, &asked.names) });
            if index < with_steps {
                let largest = asked.largest(&grown.group, &self.last);
                let stacks = grown.group.sites.len();
                let below = largest.map_or(Vec::new(), |site| steps(&site, stacks, STEPS, &asked.names));
                items.extend(below.into_iter().map(|row| Item { cells: Vec::new(), row }));
            }
        }
        items
    }
}

fn columns() -> [Column; 5] {
    let [grew, error, rate, live] = ["grew", "", "a second", "now live"].map(Column::figure);
    [grew, error, rate, live, Column::picture("course")]
}

/// Adds the report.
pub(super) fn report(page: &mut Page, asked: &Asked<'_>, bounds: [Option<&Bound>; 2]) {
    let growth = Growth::new(asked, bounds);
    if growth.ticks() == 0 {
        let ends = growth.ends().unwrap_or("in the spans of all processes".to_owned());
        let text = format!("The capture has no two ticks {ends}: what grew in between is not known.");
        page.wrap(Line::new().strong(text), 0);
        explain(page, asked, &growth);
        return;
    }
    let Some(top) = growth.grown.first() else {
        page.wrap(Line::new().strong("Nothing grew ").plain(format!("{}.", growth.span())), 0);
        explain(page, asked, &growth);
        return;
    };
    let mut line = Line::new()
        .strong(bytes(growth.all_bytes))
        .plain(" more live at the end than at the beginning, ")
        .plain(growth.span());
    if let Some(rate) = rate(growth.all_bytes, growth.seconds()) {
        line = line.plain(", ").strong(rate);
    }
    page.wrap(line.plain("."), 0);
    if let Some(frame) = top.group.headline {
        page.wrap(sentence(asked, &growth, top, frame), 0);
    }
    page.gap();
    draw(page, &columns(), growth.items(asked, ROWS, WITH_STEPS));
    explain(page, asked, &growth);
}

fn sentence(asked: &Asked<'_>, growth: &Growth<'_>, top: &Grown<'_>, frame: &Frame) -> Line {
    let line = Line::new().strong(part(ratio(top.bytes, growth.all_bytes))).plain(" of it came from ");
    let line = named(line, frame, &asked.names);
    let steps = top.course.windows(2).filter(|pair| pair[1] > pair[0]).count();
    if growth.ticks() < FEW_TICKS {
        return line.plain(".");
    }
    line.plain(match steps {
        steps if steps + 1 == top.course.len() => ", which grew all the time.",
        1 => ", which grew in one step and not again.",
        _ => ".",
    })
}

/// How a span is chosen, and what a program that marks nothing can do.
fn explain(page: &mut Page, asked: &Asked<'_>, growth: &Growth<'_>) {
    page.gap();
    let marked = asked.profile.processes.iter().any(|process| !process.marks.is_empty());
    let mut text =
        "What was freed before the end of the span does not count as growth; lines that grew by less than their \
                    error are left out."
            .to_owned();
    if asked.profile.sample_bytes() == 0 {
        text = "What was freed before the end of the span does not count as growth.".to_owned();
    }
    if !marked {
        text += " Without marks the span begins after the first third; --from and --to take seconds, and \
                 heapkeeper.mark(\"after warm-up\") in the program names a moment.";
    } else if growth.grown.is_empty() {
        text += " --from and --to take marks or seconds.";
    }
    let sum = |of: fn(&Process) -> u64| {
        asked.profile.processes.iter().map(of).fold(0u64, |sum, bytes| sum.saturating_add(bytes))
    };
    let (peak_bytes, last_bytes) = (sum(|process| process.peak_bytes), sum(|process| process.last().live_bytes));
    if last_bytes < peak_bytes / 2 {
        text += &format!(
            " Of the peak's {}, {} were live at the last tick: what a program held until it ended is in --at peak.",
            bytes(peak_bytes),
            bytes(last_bytes)
        );
    }
    page.wrap(Line::new().dim(text), 0);
}

/// Adds what grew to the summary, in a few lines.
pub(super) fn section(page: &mut Page, asked: &Asked<'_>) {
    let growth = Growth::new(asked, [None, None]);
    if growth.grown.is_empty() {
        return;
    }
    page.gap();
    page.line(Line::new().strong("Grew").dim(format!("  {}, {}", bytes(growth.all_bytes), growth.span())));
    draw(page, &columns(), growth.items(asked, FEW_ROWS, 0));
}
