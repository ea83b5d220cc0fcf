//! Numbers as people read them: bytes, counts, shares, times.
//!
//! Every function is total: what cannot be said (NaN, a negative time) becomes `?`, never a panic. A
//! number and its unit are joined by [`GLUE`], so that no line breaks between them.

use bytesize::ByteSize;

#[cfg(test)]
mod tests;

/// A no-break space, which painting turns into a plain one: `grep "12 MiB"` must find it.
pub(super) const GLUE: char = '\u{a0}';

/// `412 MiB`, `9.6 MiB`, `96 B`: 1024-based, one decimal below ten.
pub(super) fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}{GLUE}B");
    }
    let size = ByteSize::b(bytes).display().iec();
    let fine = format!("{size:.1}");
    let text = if fine.find('.') == Some(1) { fine } else { format!("{size:.0}") };
    text.replace(' ', "\u{a0}")
}

/// `3,012` below a million, then `2.1 million`.
pub(super) fn count(count: u64) -> String {
    match count {
        0..1_000_000 => {
            let digits = count.to_string();
            let split = digits.len().saturating_sub(3);
            match digits.split_at(split) {
                ("", small) => small.to_owned(),
                (thousands, rest) => format!("{thousands},{rest}"),
            }
        }
        1_000_000..1_000_000_000 => format!("{:.1}{GLUE}million", count as f64 / 1e6),
        _ => format!("{:.1}{GLUE}billion", count as f64 / 1e9),
    }
}

/// `about 21,000`: an estimate, by its first two digits.
pub(super) fn about(estimate: u64) -> String {
    let unit = 10u64.pow(estimate.checked_ilog10().unwrap_or(0).saturating_sub(1));
    let rounded = (estimate / unit).saturating_add(u64::from(estimate % unit >= unit.div_ceil(2))).saturating_mul(unit);
    format!("about{GLUE}{}", count(rounded))
}

/// `1 pool`, `3,012 pools`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{}{GLUE}{noun}{ending}", count(number))
}

/// `51 %`; what is there but rounds to nothing is `<1 %`.
pub(super) fn percent(share: f64) -> String {
    if !share.is_finite() || share < 0.0 {
        return "?".to_owned();
    }
    if share > 0.0 && share < 0.005 {
        return format!("<1{GLUE}%");
    }
    // Shares are at most 1; a ratio beyond any meaning is cut rather than printed in full.
    format!("{:.0}{GLUE}%", (share * 100.0).min(9_999.0))
}

/// The ratio of two byte figures, 0 where there is nothing to compare with.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How far an estimate may be off: `±12 %`. Beyond its own size nothing more can be said: `>100 %`. Nothing where it is exact.
pub(super) fn margin(error_bytes: u64, bytes: u64) -> String {
    match ratio(error_bytes, bytes) {
        0.0 => String::new(),
        // Seen through a sample or two: its size is open, only that it is there is sure.
        wide if wide > 1.0 => format!(">100{GLUE}%"),
        error => format!("±{}", percent(error)),
    }
}

/// `340 ms`, `8.1 s`, `12 min 5 s`, `3 h 12 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 0.9995 {
        return format!("{:.0}{GLUE}ms", seconds * 1e3);
    }
    if seconds < 99.95 {
        return format!("{seconds:.1}{GLUE}s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours == 0 {
        format!("{minutes}{GLUE}min{GLUE}{rest}{GLUE}s")
    } else {
        format!("{}{GLUE}h{GLUE}{minutes}{GLUE}min", count(hours))
    }
}

/// A short time, `34 µs`, `2.1 ms`, `340 ms`, and [`seconds`] from there.
pub(super) fn pause(time_s: f64) -> String {
    if !time_s.is_finite() || !(0.0..0.9995).contains(&time_s) {
        return seconds(time_s);
    }
    let (figure, unit) = if time_s < 999.5e-6 { (time_s * 1e6, "µs") } else { (time_s * 1e3, "ms") };
    match figure {
        0.0 => format!("0{GLUE}ms"),
        figure if figure < 0.95 => format!("<1{GLUE}{unit}"),
        figure if figure < 9.95 => format!("{figure:.1}{GLUE}{unit}"),
        figure => format!("{figure:.0}{GLUE}{unit}"),
    }
}

/// The share of a run that some time in it is; nothing where the run is too short to divide by, or shorter than the part.
pub(super) fn share_of_time(part_s: f64, run_s: f64) -> Option<f64> {
    let share = part_s / run_s;
    (run_s >= 0.01 && (0.0..=1.0).contains(&share)).then_some(share)
}

/// Bytes a second; nothing where the time is too short to divide by.
pub(super) fn rate(total_bytes: u64, elapsed_s: f64) -> Option<String> {
    if !elapsed_s.is_finite() || elapsed_s < 0.01 {
        return None;
    }
    Some(format!("{}/s", bytes((total_bytes as f64 / elapsed_s) as u64)))
}

/// A horizontal bar of at most `columns` cells, in steps of an eighth of a cell. What is there but too
/// small to draw still gets the thinnest mark.
pub(super) fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if !share.is_finite() || share <= 0.0 {
        return String::new();
    }
    let eighths = (share.min(1.0) * columns as f64 * 8.0).round().max(1.0) as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Values over time in a cell each, the highest as the full one. What is there but too small to draw still gets the lowest mark.
pub(super) fn sparkline(values: &[u64]) -> String {
    const CELLS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or(0);
    let cell = |value: u64| match value {
        0 => 0,
        value => ((ratio(value, most) * 8.0).round() as usize).clamp(1, 8),
    };
    values.iter().map(|&value| CELLS[cell(value)]).collect()
}
