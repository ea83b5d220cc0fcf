//! Pictures of the report: a row for each part, with a bar that says how large it is beside the others.

use super::Page;
use super::quantity::{bar, ratio};
use super::text::{Line, Role, left, right};

/// Cells of the longest bar.
const BAR_COLUMNS: usize = 24;

/// One row.
pub(super) struct Row {
    /// What it is of, in at most 10 columns.
    pub(super) key: String,
    /// What the bar's length stands for.
    pub(super) size: u64,
    /// The same as people read it, in at most 10 columns.
    pub(super) figure: String,
    /// What else is to say.
    pub(super) note: String,
}

/// Adds the picture of these rows under a heading; nothing where there are none.
pub(super) fn draw(page: &mut Page, heading: &str, rows: &[Row]) {
    let Some(largest) = rows.iter().map(|row| row.size).max() else { return };
    page.gap();
    page.line(Line::new().strong(heading));
    let bars = if page.columns >= 60 { BAR_COLUMNS } else { 4 };
    for row in rows {
        page.line(
            Line::new()
                .plain(right(&row.key, 10))
                .plain("  ")
                .with(Role::Low, left(&bar(ratio(row.size, largest), bars), bars))
                .strong(right(&row.figure, 10))
                .dim(format!("  {}", row.note)),
        );
    }
}
