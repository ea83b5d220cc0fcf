//! One process of a profile: its ticks, and the state of its sites at any of them.

use std::collections::HashMap;

use heapkeeper_record::capture::{Collection, Header, Mark, Tick, Value};

/// What one capture holds, but for its stacks.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Who wrote it.
    pub header: Header,
    /// The state of the process tick by tick, in the order of time.
    pub series: Vec<Point>,
    /// What the program marked.
    pub marks: Vec<Mark>,
    /// Collections of cycles.
    pub collections: Vec<Collection>,
    /// The highest live bytes, and when that was, milliseconds since the capture began.
    pub peak_bytes: u64,
    /// When the peak was.
    pub peak_at_ms: u64,
    /// The highest resident bytes, as far as anybody knows.
    pub peak_rss_bytes: u64,
    /// Samples or allocations that found no room in the tables.
    pub lost: u64,
    /// What its last tick is.
    pub end: End,
    /// When it began, milliseconds after the first process of the profile.
    pub offset_ms: u64,
    /// Figures of sites, tick after tick: those of tick `n` end at `series[n].values_end`.
    pub(super) values: Vec<Value>,
    /// Of each site in the capture's own numbers, the profile's.
    pub(super) sites: Vec<u32>,
}

/// How a capture ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// Nobody said: the process was killed, or still runs.
    #[default]
    Cut,
    /// Somebody stopped it, and the process went on.
    Stop,
    /// The process came to its end in an orderly way: what is live at the last tick was live at exit.
    Exit,
}

impl End {
    pub(super) fn of(tick: &Tick) -> End {
        match tick {
            Tick { last: true, .. } => End::Exit,
            Tick { stopped: true, .. } => End::Stop,
            _ => End::Cut,
        }
    }

    /// As reports name it: "live at exit", "from the start to the stop".
    pub fn name(self) -> &'static str {
        match self {
            End::Cut => "the end",
            End::Stop => "the stop",
            End::Exit => "exit",
        }
    }
}

/// A process at one tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Point {
    /// Milliseconds since the capture began.
    pub at_ms: u64,
    /// Resident bytes of the process.
    pub rss_bytes: u64,
    /// Bytes in pools and spans of our heap.
    pub heap_bytes: u64,
    /// Resident bytes outside our heap.
    pub outside_bytes: u64,
    /// Live bytes requested.
    pub live_bytes: u64,
    pub(super) values_end: usize,
}

impl Process {
    /// Makes two ticks one, all along, so that a capture of many hours fits into memory: of each site the later figures count.
    pub(super) fn coarsen(&mut self) {
        let mut values: Vec<Value> = Vec::with_capacity(self.values.len());
        let mut series = Vec::with_capacity(self.series.len().div_ceil(2));
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut start = 0;
        for pair in self.series.chunks(2) {
            let Some(point) = pair.last() else { continue };
            places.clear();
            for value in self.values.get(start..point.values_end).unwrap_or_default() {
                let place = *places.entry(value.site).or_insert(values.len());
                match values.get_mut(place) {
                    Some(known) => *known = *value,
                    None => values.push(*value),
                }
            }
            start = point.values_end;
            series.push(Point { values_end: values.len(), ..*point });
        }
        (self.values, self.series) = (values, series);
    }

    /// The last tick; all zeros where there is none.
    pub fn last(&self) -> Point {
        self.series.last().copied().unwrap_or_default()
    }

    /// The tick in force so many seconds after the first process of the profile began; all zeros before the first tick and
    /// after the last.
    pub fn at(&self, seconds: f64) -> Point {
        let at_ms = (seconds * 1000.0).round() as u64;
        let Some(at_ms) = at_ms.checked_sub(self.offset_ms).filter(|&at_ms| at_ms <= self.last().at_ms) else {
            return Point::default();
        };
        self.ticks_until(at_ms).checked_sub(1).map_or(Point::default(), |index| self.series[index])
    }

    /// Seconds from the beginning of the first process of the profile to a moment of this one.
    pub fn seconds_at(&self, at_ms: u64) -> f64 {
        self.offset_ms.saturating_add(at_ms) as f64 / 1000.0
    }

    /// The ticks up to a moment, counted.
    pub(super) fn ticks_until(&self, at_ms: u64) -> usize {
        self.series.partition_point(|point| point.at_ms <= at_ms)
    }

    /// The ticks up to the first that knows of a moment, that one included.
    pub(super) fn ticks_through(&self, at_ms: u64) -> usize {
        (self.series.partition_point(|point| point.at_ms < at_ms) + 1).min(self.series.len())
    }

    /// The figures of each site after each of these numbers of ticks, which must not fall but to 0: no figures.
    pub(super) fn states(&self, ticks: &[usize]) -> Vec<Vec<Value>> {
        let mut state = vec![Value::default(); self.sites.len()];
        let mut at = 0;
        let after = ticks.iter().map(|&ticks| {
            if ticks == 0 {
                return Vec::new();
            }
            let end = self.series.get(ticks - 1).map_or(at, |point| point.values_end);
            for value in self.values.get(at..end).unwrap_or_default() {
                if let Some(known) = state.get_mut(value.site as usize) {
                    *known = *value;
                }
            }
            at = at.max(end);
            state.clone()
        });
        after.collect()
    }

    /// The figures of each site after so many ticks.
    pub(super) fn state(&self, ticks: usize) -> Vec<Value> {
        self.states(&[ticks]).pop().unwrap_or_default()
    }
}
