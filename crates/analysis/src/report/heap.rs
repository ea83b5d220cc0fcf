//! The state of the heap and of the process: what the tiers hold, and a picture of the size classes.

use heapkeeper_record::{ClassStatus, HeapStatus, Status};

use super::quantity::{bar, bytes, count, counted, percent, rate, ratio};
use super::text::{Line, Role, left, right};
use super::{Page, serves};

/// Size classes drawn; the others share one row.
const CLASS_ROWS: usize = 6;
/// Cells of the longest bar.
const BAR_COLUMNS: usize = 24;
/// Columns of the keys in front of each paragraph.
const KEY_COLUMNS: usize = 11;

/// Adds the paragraphs about the heap, then the picture of its classes.
pub(super) fn section(page: &mut Page, status: &Status) {
    if !serves(status) {
        return;
    }
    page.gap();
    for (key, text) in paragraphs(status) {
        // On a narrow page a hanging indent would leave no room for the text.
        let indent = if page.columns >= 60 { KEY_COLUMNS } else { 2 };
        let hot = key == "Limit" && limit_share(&status.heap) >= 0.9;
        let role = if hot { Role::Warning } else { Role::Plain };
        page.wrap(Line::new().strong(left(key, KEY_COLUMNS)).with(role, text), indent);
    }
    classes(page, &status.heap);
}

fn paragraphs(status: &Status) -> Vec<(&'static str, String)> {
    let (heap, process) = (&status.heap, &status.process);
    let mut paragraphs = vec![
        ("Heap", tiers(heap)),
        (
            "Process",
            format!(
                "RSS {} at exit, {} at most. At exit {} of it are our heap, {} lie outside: the interpreter, C libraries, stacks.",
                bytes(process.rss_bytes),
                bytes(process.peak_rss_bytes),
                bytes(heap.resident_bytes),
                bytes(process.outside_bytes),
            ),
        ),
    ];
    let per_second = rate(heap.allocated_bytes, status.elapsed_s);
    let per_second = per_second.map_or(String::new(), |rate| format!(", {rate} on average"));
    paragraphs.push(("Allocated", format!("{} in all{per_second}.", bytes(heap.allocated_bytes))));
    if let Some(limit) = heap.limit_bytes {
        let share = percent(limit_share(heap));
        paragraphs.push(("Limit", format!("{}; the peak reached {share} of it.", bytes(limit))));
    }
    paragraphs
}

fn tiers(heap: &HeapStatus) -> String {
    let mut parts = vec![counted(heap.arenas, "arena")];
    if heap.huge_arenas > 0 {
        parts[0] += &format!(" ({} asking for huge pages)", count(heap.huge_arenas));
    }
    parts.push(counted(heap.pools, "pool"));
    parts.push(counted(heap.live_blocks.saturating_sub(heap.spans), "block"));
    if heap.spans > 0 {
        parts.push(format!("{} of {}", counted(heap.spans, "span"), bytes(heap.span_bytes)));
    }
    let mut text = format!(
        "{}; {} unused inside pools; {} kept for reuse.",
        parts.join(", "),
        percent(heap.fragmentation),
        bytes(heap.retained_bytes),
    );
    if heap.interpreters > 1 {
        text += &format!(" {} with a heap each.", counted(heap.interpreters, "interpreter"));
    }
    text
}

fn limit_share(heap: &HeapStatus) -> f64 {
    heap.limit_bytes.map_or(0.0, |limit| ratio(heap.peak_bytes, limit))
}

/// Bytes by size class at exit: the largest few by size, the others together, the spans.
fn classes(page: &mut Page, heap: &HeapStatus) {
    let class_bytes = |class: &ClassStatus| class.live_blocks.saturating_mul(class.block_bytes);
    let mut largest: Vec<&ClassStatus> = heap.classes.iter().filter(|class| class.live_blocks > 0).collect();
    largest.sort_by_key(|class| std::cmp::Reverse(class_bytes(class)));
    let others = largest.split_off(largest.len().min(CLASS_ROWS));
    largest.sort_by_key(|class| class.block_bytes);

    let mut rows: Vec<(String, u64, String)> = Vec::new();
    for class in largest {
        let full = percent(ratio(class.live_blocks, class.capacity_blocks));
        let note = format!("{}, pools {full} full", counted(class.live_blocks, "block"));
        rows.push((bytes(class.block_bytes), class_bytes(class), note));
    }
    if !others.is_empty() {
        let sum = |value: &dyn Fn(&ClassStatus) -> u64| {
            others.iter().fold(0u64, |sum, class| sum.saturating_add(value(class)))
        };
        let blocks = counted(sum(&|class| class.live_blocks), "block");
        rows.push(("others".to_owned(), sum(&class_bytes), format!("{blocks} of {}", sizes(others.len()))));
    }
    if heap.spans > 0 {
        rows.push((
            "spans".to_owned(),
            heap.span_bytes,
            format!("{}, each with OS pages of its own", counted(heap.spans, "span")),
        ));
    }
    let Some(longest) = rows.iter().map(|row| row.1).max() else { return };

    page.gap();
    page.line(Line::new().strong("Blocks by size at exit"));
    let bars = if page.columns >= 60 { BAR_COLUMNS } else { 4 };
    for (size, held, note) in rows {
        page.line(
            Line::new()
                .plain(right(&size, 10))
                .plain("  ")
                .with(Role::Low, left(&bar(ratio(held, longest), bars), bars))
                .strong(right(&bytes(held), 10))
                .dim(format!("  {note}")),
        );
    }
}

fn sizes(number: usize) -> String {
    if number == 1 { "one more size".to_owned() } else { format!("{number} more sizes") }
}
