//! Tables of several figures a row, with headings.

use unicode_width::UnicodeWidthStr;

use super::super::Page;
use super::super::table::{Row, print};
use super::super::text::{Line, Role, left, right};

/// One column of figures.
pub(super) struct Column {
    pub(super) heading: &'static str,
    /// Begins at the left edge: pictures do, figures do not.
    pub(super) is_picture: bool,
}

impl Column {
    pub(super) const fn figure(heading: &'static str) -> Column {
        Column { heading, is_picture: false }
    }

    pub(super) const fn picture(heading: &'static str) -> Column {
        Column { heading, is_picture: true }
    }
}

/// A row's figures, and how the row goes on; the frames below it have no figures.
pub(super) struct Item {
    pub(super) cells: Vec<String>,
    pub(super) row: Row,
}

/// Lays out rows under headings. On a narrow page the last columns are left out, so that names have two fifths of it.
pub(super) fn draw(page: &mut Page, columns: &[Column], items: Vec<Item>) {
    let width = |index: usize| {
        let cells = items.iter().filter_map(|item| item.cells.get(index)).map(|cell| cell.width());
        cells.max().unwrap_or(0).max(columns[index].heading.width()) + 2
    };
    let mut widths: Vec<usize> = Vec::new();
    for index in 0..columns.len() {
        let width = width(index);
        if !widths.is_empty() && widths.iter().sum::<usize>() + width > page.columns * 3 / 5 {
            break;
        }
        widths.push(width);
    }
    let cell = |index: usize, text: &str| {
        let width = widths[index];
        if columns[index].is_picture { left(&format!("  {text}"), width) } else { right(text, width) }
    };
    let headings = (0..widths.len()).map(|index| cell(index, columns[index].heading)).collect::<String>();
    page.line(Line::new().dim(headings));
    let rows = items.into_iter().map(|Item { cells, mut row }| {
        if !cells.is_empty() {
            let mut line = Line::new();
            for (index, text) in cells.iter().enumerate().take(widths.len()) {
                let role = match (row.dim, index) {
                    (true, _) => Role::Dim,
                    (false, 0) => Role::Strong,
                    (false, _) => Role::Plain,
                };
                line = line.with(role, cell(index, text));
            }
            row.figures = Some(line.plain("  "));
        }
        row
    });
    let rows = rows.collect();
    print(page, rows, widths.iter().sum::<usize>() + 2);
}
