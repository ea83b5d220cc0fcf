//! How much free memory is kept for reuse, and when arenas are huge pages: both follow what was recently held.
//!
//! Programs build and drop in turns: what one turn gave back, the next one takes. Giving memory back and faulting it in
//! again costs 1–2 µs an OS page, a sizeable share of the time in which such a program fills that page with objects. So
//! free arenas are kept, within bounds that hold however long the program then sits still:
//!
//! - `kept <= max(recent peak / 4, 1 MiB)` while that peak is below 16 MiB: small processes do not pay;
//! - `kept <= 64 MiB` above, the most that glibc's malloc lets its trim threshold grow to (mallopt(3));
//! - `kept <= max(that, the span of arenas freed last, up to 64 MiB)` for 20 ms: one large buffer that comes and goes;
//! - `held + kept <= peak`, that of the whole life, whenever fresh memory is taken: keeping memory never raises the peak.
//!
//! The recent peak falls towards what is held, to half in 20 ms.

/// Held bytes from which a heap is large: **16 MiB**.
const LARGE_BYTES: usize = 16 << 20;

/// How long a heap that was large gets huge pages: **4 s**.
const HUGE_FOR_MS: u64 = 4000;

/// How long to do without huge pages after the kernel had none: **250 ms**, doubled each time, to **32 s** at most.
const REFUSED_MIN_MS: u64 = 250;
const REFUSED_MAX_MS: u64 = 32_000;

/// What a small heap may keep: a **quarter** of the recent peak.
const SMALL_SHARE: usize = 4;

/// What any heap may keep: **1 MiB**.
const KEEP_MIN_BYTES: usize = 1 << 20;

/// How long the span of arenas freed last may be kept for its like: **20 ms**.
const SPAN_FOR_MS: u64 = 20;

/// What a large heap may keep: **64 MiB**.
const LARGE_KEEP_BYTES: usize = 64 << 20;

/// The recent peak loses a quarter of its excess in this time.
const DECAY_STEP_MS: u64 = 8;

/// What the recent past says.
pub(crate) struct Policy {
    recent_peak_bytes: usize,
    decayed_at_ms: u64,
    huge_until_ms: u64,
    span_bytes: usize,
    span_until_ms: u64,
    refused_until_ms: u64,
    refused_for_ms: u64,
}

impl Policy {
    pub const fn new() -> Policy {
        Policy {
            recent_peak_bytes: 0,
            decayed_at_ms: 0,
            huge_until_ms: 0,
            span_bytes: 0,
            span_until_ms: 0,
            refused_until_ms: 0,
            refused_for_ms: 0,
        }
    }

    /// Take note of what is held now.
    pub fn note(&mut self, held_bytes: usize, now_ms: u64) {
        let steps = now_ms.saturating_sub(self.decayed_at_ms) / DECAY_STEP_MS;
        if steps > 0 {
            self.decayed_at_ms = now_ms;
            for _ in 0..steps.min(64) {
                self.recent_peak_bytes -= self.recent_peak_bytes.saturating_sub(held_bytes) / 4;
            }
        }
        self.recent_peak_bytes = self.recent_peak_bytes.max(held_bytes);
        if held_bytes >= LARGE_BYTES {
            self.huge_until_ms = now_ms + HUGE_FOR_MS;
        }
    }

    /// Take note of a span of arenas that is freed now.
    pub fn note_span(&mut self, span_bytes: usize, now_ms: u64) {
        self.span_bytes = span_bytes;
        self.span_until_ms = now_ms + SPAN_FOR_MS;
    }

    /// Bytes that may be kept for reuse.
    pub fn keep_bytes(&self, now_ms: u64) -> usize {
        if self.recent_peak_bytes >= LARGE_BYTES {
            return LARGE_KEEP_BYTES;
        }
        let span_bytes = if now_ms < self.span_until_ms { self.span_bytes.min(LARGE_KEEP_BYTES) } else { 0 };
        (self.recent_peak_bytes / SMALL_SHARE).max(KEEP_MIN_BYTES).max(span_bytes)
    }

    /// Whether arenas taken now gain from huge pages.
    pub fn wants_huge(&self, now_ms: u64) -> bool {
        now_ms < self.huge_until_ms && now_ms >= self.refused_until_ms
    }

    /// Take note of whether the kernel had a huge page for an arena that asked for one. Where memory is fragmented, each
    /// attempt may cost it milliseconds of compaction in vain (`compact_fail` in /proc/vmstat), so it is left in peace.
    pub fn note_huge(&mut self, had: bool, now_ms: u64) {
        if had {
            self.refused_for_ms = 0;
        } else {
            self.refused_for_ms = (self.refused_for_ms * 2).clamp(REFUSED_MIN_MS, REFUSED_MAX_MS);
            self.refused_until_ms = now_ms + self.refused_for_ms;
        }
    }
}
