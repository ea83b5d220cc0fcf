//! The flat table: every line, or every function, that matters, with all its figures.

use heapkeeper_record::Frame;
use heapkeeper_record::capture::Amount;

use super::super::Page;
use super::super::quantity::{bytes, count, margin, percent, ratio};
use super::super::table::Row;
use super::super::text::Line;
use super::columns::{Column, Item, draw};
use super::{Asked, By, Sort, when};
use crate::capture::Moment;

const ROWS: usize = 40;
/// Rows of a smaller share, of what the table is sorted by, are counted with the rest.
const LEAST_SHARE: f64 = 0.001;

/// What a row is of.
struct Sums<'a> {
    live: Amount,
    total: Amount,
    headline: Option<&'a Frame>,
}

/// Adds the table.
pub(super) fn report(page: &mut Page, asked: &Asked<'_>, moment: Moment, by: By, sort: Sort) {
    let figures = asked.profile.figures(moment);
    let live: Vec<Amount> = figures.iter().map(|figures| figures.live).collect();
    let total: Vec<Amount> = figures.iter().map(|figures| figures.total).collect();
    let mut rows: Vec<Sums<'_>> = asked
        .groups(by)
        .iter()
        .map(|group| Sums { live: group.sum(&live), total: group.sum(&total), headline: group.headline })
        .collect();
    let key = |row: &Sums<'_>| match sort {
        Sort::Bytes => row.live.bytes,
        Sort::Blocks => row.live.blocks,
        Sort::Total => row.total.bytes,
    };
    rows.sort_by_key(|row| std::cmp::Reverse(key(row)));
    let sum = |of: &dyn Fn(&Sums<'_>) -> u64| rows.iter().fold(0u64, |sum, row| sum.saturating_add(of(row)));
    let [all_bytes, all_blocks, all_total, all] =
        [sum(&|row| row.live.bytes), sum(&|row| row.live.blocks), sum(&|row| row.total.bytes), sum(&key)];
    let shown = rows.iter().take(ROWS).take_while(|row| key(row) > 0 && ratio(key(row), all) >= LEAST_SHARE).count();

    let what = if by == By::Line { "Lines" } else { "Functions" };
    let sorted = match sort {
        Sort::Bytes => "live bytes",
        Sort::Blocks => "live blocks",
        Sort::Total => "bytes allocated in all",
    };
    let when = when(moment, asked.end());
    page.gap();
    page.line(
        Line::new().strong(format!("{what} {when}")).dim(format!("  {} live, sorted by {sorted}", bytes(all_bytes))),
    );
    if shown == 0 {
        page.wrap(Line::new().plain("Nothing to show: nothing was live then."), 0);
        return;
    }
    let cells = |live: &Amount, total: &Amount, error: u64| {
        let error = margin(error, live.bytes);
        vec![bytes(live.bytes), percent(ratio(live.bytes, all_bytes)), error, count(live.blocks), bytes(total.bytes)]
    };
    let mut items: Vec<Item> = rows[..shown]
        .iter()
        .map(|Sums { live, total, headline }| {
            let frame = headline.map(|frame| if by == By::Line { frame.clone() } else { without_line(frame) });
            let row = Row::headline(Line::new(), frame.as_ref(), &asked.names);
            Item { cells: cells(live, total, asked.error_bytes(live)), row }
        })
        .collect();
    let rest = rows[shown..].iter().fold([0u64; 3], |[live, blocks, total], row| {
        [
            live.saturating_add(row.live.bytes),
            blocks.saturating_add(row.live.blocks),
            total.saturating_add(row.total.bytes),
        ]
    });
    if shown < rows.len()
        && ratio(rest[0], all_bytes).max(ratio(rest[1], all_blocks)).max(ratio(rest[2], all_total)) > 0.0
    {
        let [live, blocks, total] = rest;
        let live = Amount { bytes: live, blocks, variance: 0.0 };
        let total = Amount { bytes: total, ..Amount::default() };
        let text = format!("{} more", count((rows.len() - shown) as u64));
        items.push(Item { cells: cells(&live, &total, 0), row: Row::note(Some(Line::new()), text) });
    }
    let columns = ["live", "share", "", "blocks", "allocated"].map(Column::figure);
    draw(page, &columns, items);
}

/// A function's frame names the function, not a line.
fn without_line(frame: &Frame) -> Frame {
    Frame { line: 0, source: None, ..frame.clone() }
}
