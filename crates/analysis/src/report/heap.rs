//! The state of the heap and of the process: what the tiers hold, and a picture of the size classes.

use heapkeeper_record::{ClassStatus, HeapStatus, Status};

use super::picture::{self, Row};
use super::quantity::{bytes, count, counted, percent, rate, ratio};
use super::text::{Line, Role};
use super::{Page, serves};

/// Size classes drawn; the others share one row.
const CLASS_ROWS: usize = 6;

/// Adds the paragraphs about the heap.
pub(super) fn section(page: &mut Page, status: &Status) {
    if !serves(status) {
        return;
    }
    for (key, text) in paragraphs(status) {
        let hot = key == "Limit" && limit_share(&status.heap) >= 0.9;
        let role = if hot { Role::Warning } else { Role::Plain };
        page.keyed(key, Line::new().with(role, text));
    }
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
pub(super) fn classes(page: &mut Page, status: &Status) {
    let heap = &status.heap;
    if !serves(status) {
        return;
    }
    let class_bytes = |class: &ClassStatus| class.live_blocks.saturating_mul(class.block_bytes);
    let mut largest: Vec<&ClassStatus> = heap.classes.iter().filter(|class| class.live_blocks > 0).collect();
    largest.sort_by_key(|class| std::cmp::Reverse(class_bytes(class)));
    let others = largest.split_off(largest.len().min(CLASS_ROWS));
    largest.sort_by_key(|class| class.block_bytes);

    let mut rows: Vec<Row> = Vec::new();
    let mut row = |key: String, held: u64, note: String| rows.push(Row { key, size: held, figure: bytes(held), note });
    for class in largest {
        let full = percent(ratio(class.live_blocks, class.capacity_blocks));
        let note = format!("{}, pools {full} full", counted(class.live_blocks, "block"));
        row(bytes(class.block_bytes), class_bytes(class), note);
    }
    if !others.is_empty() {
        let sum = |value: &dyn Fn(&ClassStatus) -> u64| {
            others.iter().fold(0u64, |sum, class| sum.saturating_add(value(class)))
        };
        let blocks = counted(sum(&|class| class.live_blocks), "block");
        row("others".to_owned(), sum(&class_bytes), format!("{blocks} of {}", sizes(others.len())));
    }
    if heap.spans > 0 {
        let note = format!("{}, each with OS pages of its own", counted(heap.spans, "span"));
        row("spans".to_owned(), heap.span_bytes, note);
    }
    picture::draw(page, "Blocks by size at exit", &rows);
}

fn sizes(number: usize) -> String {
    if number == 1 { "one more size".to_owned() } else { format!("{number} more sizes") }
}
