//! The process as the kernel sees it: resident memory in all, and in our range. Linux's /proc.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

/// Resident memory of this process, in bytes; zeros where /proc cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resident {
    /// Now.
    pub rss_bytes: u64,
    /// The most so far.
    pub peak_rss_bytes: u64,
}

/// Resident memory now and at its peak, as /proc/self/status has it.
pub fn resident() -> Resident {
    let mut text = String::new();
    let read = File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut text));
    if read.is_err() {
        return Resident::default();
    }
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, kib_to_bytes);
    let rss_bytes = field("VmRSS:");
    // The kernel's counters of the two are batched by thread, and may disagree for a moment.
    Resident { rss_bytes, peak_rss_bytes: field("VmHWM:").max(rss_bytes) }
}

/// Resident bytes of the mappings that lie in `range`, as /proc/self/smaps has them.
pub fn resident_in(range: &Range<usize>) -> u64 {
    let Ok(file) = File::open("/proc/self/smaps") else {
        return 0;
    };
    let mut bytes = 0;
    let mut inside = false;
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        if let Some(mapping) = mapping_bounds(&line) {
            inside = range.start <= mapping.start && mapping.end <= range.end;
        } else if inside && let Some(rest) = line.strip_prefix("Rss:") {
            bytes += kib_to_bytes(rest);
        }
    }
    bytes
}

/// `7f00-7fff rw-p …` → its bounds. The reservation is aligned inside a larger mapping, whose ends lie outside.
fn mapping_bounds(line: &str) -> Option<Range<usize>> {
    let (addresses, _) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// ` 123 kB` → bytes.
fn kib_to_bytes(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
