//! Everything known of this process, as the record that reports, `heapkeeper.status()` and `--json` show.

use std::ffi::CStr;
use std::sync::OnceLock;

use heapkeeper_heap::{HeapStats, SizeClass, monotonic_ms};
use heapkeeper_record::{AllocatorStatus, ClassStatus, CollectorStatus, HeapStatus, ProcessStatus, Status};
use pyo3_ffi as ffi;

use crate::{collect, hosts, numpy, process, profile};

/// Sites listed at the peak and at the end.
const TOP_SITES: usize = 20;

/// When the heap was installed, by `monotonic_ms`.
static INSTALLED_AT_MS: OnceLock<u64> = OnceLock::new();

/// Start the clock of reports.
pub fn installed_now() {
    INSTALLED_AT_MS.get_or_init(monotonic_ms);
}

fn seconds_since_install(at_ms: u64) -> f64 {
    let start = INSTALLED_AT_MS.get().copied().unwrap_or(at_ms);
    at_ms.saturating_sub(start) as f64 / 1000.0
}

/// The record now. The GIL is held.
pub fn status(program: String, [reason, collector_reason]: [Option<String>; 2]) -> Status {
    numpy::look();
    // First the sites: to resolve them allocates, which should not show in the figures twice.
    let profile =
        (profile::is_on() || profile::exact::is_on()).then(|| profile::status(TOP_SITES, seconds_since_install));
    let (heap, process) = (heap_status(), process_status());
    Status {
        program,
        python: python_version(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        elapsed_s: seconds_since_install(monotonic_ms()),
        allocator: AllocatorStatus {
            name: if hosts::range().is_some() { "heapkeeper" } else { "cpython" }.to_owned(),
            reason,
            numpy: numpy::reason(),
        },
        heap,
        process,
        profile,
        collector: collector_status(collector_reason),
    }
}

/// The collector of this interpreter; `None` where the Python package knows as much as we do. The GIL is held.
pub fn collector_status(reason: Option<String>) -> Option<CollectorStatus> {
    hosts::range().map(|_| collect::status(reason))
}

pub fn python_version() -> String {
    // SAFETY: returns a static string: "3.12.1 (main, …".
    let text = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy().into_owned();
    format!("CPython {}", text.split_whitespace().next().unwrap_or(""))
}

fn process_status() -> ProcessStatus {
    let resident = process::resident();
    let ours = hosts::range().map_or(0, |range| process::resident_in(&range.bounds()));
    ProcessStatus {
        rss_bytes: resident.rss_bytes,
        peak_rss_bytes: resident.peak_rss_bytes,
        outside_bytes: resident.rss_bytes.saturating_sub(ours),
    }
}

fn heap_status() -> HeapStatus {
    let Some(range) = hosts::range() else {
        return HeapStatus::default();
    };
    let totals = range.stats();
    // SAFETY: the GIL is held.
    let heaps = unsafe { hosts::stats() };
    let sum = |of: fn(&HeapStats) -> usize| heaps.iter().map(|heap| of(heap) as u64).sum::<u64>();
    let held_bytes = totals.held_bytes as u64;
    // Heaps of other interpreters are theirs to walk; what they hold is known, and counts as live.
    let separate_bytes = held_bytes.saturating_sub(sum(|heap| heap.held_bytes));
    let live_bytes = sum(|heap| heap.live_bytes) + separate_bytes;
    HeapStatus {
        live_bytes,
        live_blocks: sum(|heap| heap.live_blocks),
        held_bytes,
        peak_bytes: totals.peak_bytes as u64,
        peak_at_s: seconds_since_install(totals.peak_at_ms),
        retained_bytes: totals.retained_bytes as u64 + sum(|heap| heap.retained_bytes),
        resident_bytes: process::resident_in(&range.bounds()),
        returned_bytes: totals.returned_bytes,
        reserved_bytes: totals.reserved_bytes as u64,
        allocated_bytes: heaps.iter().map(|heap| heap.requested_bytes).sum(),
        limit_bytes: (totals.limit_bytes != usize::MAX).then_some(totals.limit_bytes as u64),
        arenas: sum(|heap| heap.arenas),
        huge_arenas: sum(|heap| heap.huge_arenas),
        pools: sum(|heap| heap.pools),
        spans: sum(|heap| heap.spans),
        span_bytes: sum(|heap| heap.span_bytes),
        fragmentation: if held_bytes == 0 {
            0.0
        } else {
            held_bytes.saturating_sub(live_bytes) as f64 / held_bytes as f64
        },
        interpreters: hosts::interpreters() as u64,
        classes: classes(&heaps),
    }
}

fn classes(heaps: &[HeapStats]) -> Vec<ClassStatus> {
    (0..heapkeeper_heap::CLASSES)
        .map(|index| {
            let sum = |of: fn(&heapkeeper_heap::ClassStats) -> usize| {
                heaps.iter().map(|heap| of(&heap.classes[index]) as u64).sum::<u64>()
            };
            ClassStatus {
                block_bytes: SizeClass::from_index(index).map_or(0, SizeClass::block_bytes) as u64,
                pools: sum(|class| class.pools),
                live_blocks: sum(|class| class.live_blocks),
                capacity_blocks: sum(|class| class.capacity_blocks),
            }
        })
        .filter(|class| class.pools > 0)
        .collect()
}
