//! What the process holds, from the kernel, and what `malloc` has given out.

use std::fs;

/// Resident bytes now, counted page by page (the cheaper counters are behind by some pages a processor).
pub fn resident_bytes() -> u64 {
    field_bytes("/proc/self/smaps_rollup", "Rss:")
}

/// The highest number of resident bytes since the start of the process, or since [`restart_peak`].
pub fn peak_bytes() -> u64 {
    field_bytes("/proc/self/status", "VmHWM:")
}

/// Let the peak start again from what is resident now.
pub fn restart_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("the kernel lets a process restart its own peak");
}

/// Bytes that `malloc` has given out and not got back, with its headers.
pub fn malloc_bytes() -> u64 {
    // SAFETY: it has no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

fn field_bytes(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).expect("Linux has it");
    let line = text.lines().find(|line| line.starts_with(field)).expect("the kernel writes this field");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of KiB");
    kib * 1024
}
