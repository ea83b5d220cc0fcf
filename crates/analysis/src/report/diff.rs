//! What changed between two records: the lines that grew, and the lines that shrank.
//!
//! Stacks are added up by the line a reader would name, as in the report at exit; below a line comes the way to the stack
//! that changed most. A line that is in one record only is new, or gone.

use std::cmp::Reverse;
use std::collections::HashMap;

use heapkeeper_record::{Frame, Site};

use super::path::ShortNames;
use super::quantity::{bytes, counted, percent, ratio};
use super::sites::headline;
use super::table::{self, Row};
use super::text::{Line, Role, left, right};
use super::{Page, Style};
use crate::stacks::{Stack, Stacks, Step};

#[cfg(test)]
mod tests;

/// Rows of a table.
const ROWS: usize = 8;
/// Frames below a row that makes a tenth of its table, and below a smaller one.
const LARGE_STEPS: usize = 4;
const SMALL_STEPS: usize = 1;
/// Below this share of its table a row is counted with the rest.
const LEAST_SHARE: f64 = 0.01;

/// Renders what changed from one record to another, ending in a newline.
pub fn render(before: &Stacks, after: &Stacks, style: Style) -> String {
    let mut page = Page::new(style);
    let frames = || [before, after].into_iter().flat_map(|side| &side.entries).flat_map(|stack| &stack.frames);
    let names = ShortNames::new(frames().map(|frame| frame.file.as_str()));
    let mut changes = changes([before, after]);
    changes.sort_by_key(|change| Reverse(change.size()));
    let (grown, others): (Vec<Change<'_>>, Vec<Change<'_>>) =
        changes.into_iter().partition(|change| change.bytes[1] > change.bytes[0]);
    let shrunk: Vec<Change<'_>> = others.into_iter().filter(|change| change.size() > 0).collect();

    page.keyed("Before", side(before));
    page.keyed("After", side(after));
    page.keyed("Change", summary([before.bytes(), after.bytes()], &grown, &shrunk, &names));
    changes_table(&mut page, "Grew", &grown, &names);
    changes_table(&mut page, "Shrank", &shrunk, &names);
    page.text()
}

/// What one line held in both records.
struct Change<'a> {
    /// The line; absent where no Python code was running.
    headline: Option<&'a Frame>,
    /// Before and after.
    bytes: [u64; 2],
    /// Each stack to the line, with its bytes before and after.
    stacks: Vec<(&'a Stack, [u64; 2])>,
}

impl Change<'_> {
    /// How far apart before and after are.
    fn size(&self) -> u64 {
        self.bytes[0].abs_diff(self.bytes[1])
    }

    /// The stack that went furthest the way the line went.
    fn furthest(&self) -> Option<&Stack> {
        let grew = self.bytes[1] > self.bytes[0];
        let far = |&[before, after]: &[u64; 2]| i128::from(after) - i128::from(before);
        let stacks = self.stacks.iter().max_by_key(|(_, bytes)| if grew { far(bytes) } else { -far(bytes) });
        stacks.map(|(stack, _)| *stack)
    }
}

/// Adds up the stacks of two records by line.
fn changes<'a>(sides: [&'a Stacks; 2]) -> Vec<Change<'a>> {
    type Path<'a> = (Vec<Step<'a>>, &'a str);
    let mut lines: HashMap<Option<Step<'a>>, usize> = HashMap::new();
    let mut paths: HashMap<Path<'a>, (usize, usize)> = HashMap::new();
    let mut changes: Vec<Change<'a>> = Vec::new();
    for (side, stacks) in sides.into_iter().enumerate() {
        for stack in &stacks.entries {
            let headline = headline(&stack.frames).map(|index| &stack.frames[index]);
            let change = *lines.entry(headline.map(Step::of)).or_insert_with(|| {
                changes.push(Change { headline, bytes: [0; 2], stacks: Vec::new() });
                changes.len() - 1
            });
            let of_line = &mut changes[change];
            let path = (stack.steps().collect(), stack.thread.as_str());
            let (_, number) = *paths.entry(path).or_insert_with(|| {
                of_line.stacks.push((stack, [0; 2]));
                (change, of_line.stacks.len() - 1)
            });
            for sum in [&mut of_line.bytes[side], &mut of_line.stacks[number].1[side]] {
                *sum = sum.saturating_add(stack.bytes);
            }
        }
    }
    changes
}

/// `app.py · live at the peak: 412 MiB in 2.1 million blocks.`
fn side(stacks: &Stacks) -> Line {
    let line = if stacks.title.is_empty() { Line::new() } else { Line::new().plain(&stacks.title).plain(": ") };
    line.strong(bytes(stacks.bytes())).plain(format!(" in {}.", counted(stacks.blocks(), "block")))
}

/// `+97 MiB (+26 %). Most came from app.py:42 (load_rows): +144 MiB.`
fn summary([before, after]: [u64; 2], grown: &[Change<'_>], shrunk: &[Change<'_>], names: &ShortNames<'_>) -> Line {
    if grown.is_empty() && shrunk.is_empty() {
        return Line::new().strong("none.");
    }
    let mut line = Line::new().strong(signed([before, after]));
    let share = ratio(before.abs_diff(after), before);
    if share > 0.0 && after > 0 {
        line = line.plain(format!(" ({}{})", sign([before, after]), percent(share)));
    }
    let (most, verb) = if after < before { (shrunk.first(), "shrank") } else { (grown.first(), "grew") };
    match most {
        None => line.plain("."),
        Some(change) => {
            let place = match change.headline {
                None => Line::new().plain("What no Python code holds"),
                Some(frame) => {
                    let function = Line::new().strong(table::function(frame)).plain(")");
                    Line::new().with(Role::Place, names.place(frame)).plain(" (").and(function)
                }
            };
            line.plain(". ").and(place).plain(format!(" {verb} most: ")).strong(signed(change.bytes)).plain(".")
        }
    }
}

fn changes_table(page: &mut Page, heading: &str, changes: &[Change<'_>], names: &ShortNames<'_>) {
    let sum = |changes: &[Change<'_>]| {
        changes.iter().fold([0u64; 2], |[before, after], change| {
            [before.saturating_add(change.bytes[0]), after.saturating_add(change.bytes[1])]
        })
    };
    let total = sum(changes);
    let share = |change: &Change<'_>| ratio(change.size(), total[0].abs_diff(total[1]));
    // The largest come first.
    let shown = changes.iter().take(ROWS).take_while(|change| share(change) >= LEAST_SHARE).count();
    let (shown, rest) = changes.split_at(shown);
    if changes.is_empty() {
        return;
    }
    page.gap();
    page.line(Line::new().strong(heading).dim(format!("  {}", signed(total))));
    let mut rows = Vec::new();
    for change in shown {
        rows.push(Row::headline(figures(page, change.bytes, false), change.headline, names));
        let limit = if share(change) >= 0.1 { LARGE_STEPS } else { SMALL_STEPS };
        if let Some(stack) = change.furthest() {
            rows.extend(table::steps(&site(stack), change.stacks.len(), limit, names));
        }
    }
    if !rest.is_empty() {
        let lines = counted(rest.len() as u64, if shown.is_empty() { "line" } else { "other line" });
        rows.push(Row::note(Some(figures(page, sum(rest), true)), lines));
    }
    let columns = figures(page, [0, 0], true).width();
    table::print(page, rows, columns);
}

/// A stack as the tables of the report know it.
fn site(stack: &Stack) -> Site {
    Site {
        bytes: stack.bytes,
        blocks: stack.blocks,
        thread: stack.thread.clone(),
        frames: stack.frames.clone(),
        truncated: stack.truncated,
        ..Site::default()
    }
}

/// The change, and the figures it is between.
fn figures(page: &Page, change: [u64; 2], dim: bool) -> Line {
    let [before, after] = change;
    let line = Line::new().with(if dim { Role::Dim } else { Role::Strong }, right(&signed(change), 10));
    if page.columns < 60 {
        return line.plain("  ");
    }
    let before = if before == 0 { "new".to_owned() } else { bytes(before) };
    let after = if after == 0 { "gone".to_owned() } else { bytes(after) };
    line.dim(format!("{} → {}  ", right(&before, 11), left(&after, 8)))
}

/// `+144 MiB`, `−3.0 MiB`, `0 B`.
fn signed(change: [u64; 2]) -> String {
    format!("{}{}", sign(change), bytes(change[0].abs_diff(change[1])))
}

fn sign([before, after]: [u64; 2]) -> &'static str {
    match before.cmp(&after) {
        std::cmp::Ordering::Less => "+",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => "−",
    }
}
