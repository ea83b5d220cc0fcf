//! What was allocated only to be freed again: work for the allocator that a program may be able to spare.

use heapkeeper_record::capture::Amount;

use super::super::Page;
use super::super::quantity::{bytes, count, percent, ratio};
use super::super::table::{Row, steps};
use super::super::text::Line;
use super::super::{named, part};
use super::columns::{Column, Item, draw};
use super::{Asked, By, when};
use crate::capture::{Figures, Measure, Moment};

const ROWS: usize = 20;
/// Frames below the first rows.
const STEPS: usize = 3;
const WITH_STEPS: usize = 3;
const LEAST_SHARE: f64 = 0.005;

/// Adds the report.
pub(super) fn report(page: &mut Page, asked: &Asked<'_>, moment: Moment) {
    let figures = asked.profile.figures(moment);
    let freed: Vec<Amount> = figures.iter().map(|figures| figures.amount(Measure::Temporary)).collect();
    let groups = asked.groups(By::Line);
    let mut rows: Vec<_> = groups.iter().map(|group| (group.sum(&freed), group)).collect();
    rows.sort_by_key(|(freed, _)| std::cmp::Reverse(freed.bytes));
    let all = rows.iter().fold(0u64, |sum, (freed, _)| sum.saturating_add(freed.bytes));
    let allocated = groups.iter().flat_map(|group| &group.sites);
    let allocated = allocated.fold(0u64, |sum, &site| sum.saturating_add(figures[site].total.bytes));

    let Some((most, top)) = rows.first().filter(|(freed, _)| freed.bytes > 0) else {
        page.wrap(Line::new().plain("Nothing was allocated and freed again."), 0);
        return;
    };
    page.wrap(
        Line::new()
            .strong(bytes(all))
            .plain(format!(
                " were allocated and freed again, {} of all that was allocated",
                percent(ratio(all, allocated))
            ))
            .plain(if moment == Moment::End { ".".to_owned() } else { format!(" {}.", when(moment, asked.end())) }),
        0,
    );
    if let Some(frame) = top.headline {
        let line = Line::new().strong(part(ratio(most.bytes, all))).plain(" of it came from ");
        page.wrap(named(line, frame, &asked.names).plain("."), 0);
    }
    page.gap();
    let mut items = Vec::new();
    for (index, (amount, group)) in rows.iter().take(ROWS).enumerate() {
        let share = ratio(amount.bytes, all);
        if amount.bytes == 0 || share < LEAST_SHARE {
            break;
        }
        let mean = amount.bytes.checked_div(amount.blocks).map_or(String::new(), bytes);
        let mut cells = vec![bytes(amount.bytes), percent(share), count(amount.blocks), mean];
        cells.extend(lifetimes(group.sites.iter().map(|&site| &figures[site])));
        items.push(Item { cells, row: Row::headline(Line::new(), group.headline, &asked.names) });
        if index < WITH_STEPS {
            let largest = asked.largest(group, &freed);
            let below = largest.map_or(Vec::new(), |site| steps(&site, group.sites.len(), STEPS, &asked.names));
            items.extend(below.into_iter().map(|row| Item { cells: Vec::new(), row }));
        }
    }
    let columns = ["freed", "share", "blocks", "each", "soon", "young", "old"].map(Column::figure);
    draw(page, &columns, items);
    page.gap();
    let note =
        "soon: freed before any collection of cycles saw it; young: a young collection did; old: a full one did.";
    page.wrap(Line::new().dim(note), 0);
}

/// Shares of freed blocks by how long they lived.
fn lifetimes<'a>(figures: impl Iterator<Item = &'a Figures>) -> [String; 3] {
    let sums = figures.fold([0u64; 3], |[soon, young, old], figures| {
        [
            soon.saturating_add(figures.freed_soon),
            young.saturating_add(figures.freed_young),
            old.saturating_add(figures.freed_old),
        ]
    });
    let all = sums.iter().fold(0u64, |all, sum| all.saturating_add(*sum));
    sums.map(|sum| if all == 0 { String::new() } else { percent(ratio(sum, all)) })
}
