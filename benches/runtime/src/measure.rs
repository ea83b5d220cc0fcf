//! What one run finds out, and how it is written: one line of JSON.

use std::fmt::Write;
use std::time::Instant;

use crate::memory;

/// A timed part of a repetition.
pub struct Phase {
    pub name: &'static str,
    pub objects: u64,
    pub ns: u64,
}

/// One repetition of a workload.
#[derive(Default)]
pub struct Repetition {
    pub phases: Vec<Phase>,
    pub checksum: u64,
    /// Resident bytes that an object of the workload costs, where it keeps many alive.
    pub bytes_per_object: Option<f64>,
    /// Bytes that a collection added while it ran, and that the objects it looked at take.
    pub scratch_bytes: Option<(u64, u64)>,
    /// The highest peak that was seen before a restart.
    pub peak_bytes: u64,
}

impl Repetition {
    /// Time `work`, which makes or frees `objects`.
    pub fn phase<T>(&mut self, name: &'static str, objects: u64, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.phases.push(Phase { name, objects, ns: began.elapsed().as_nanos() as u64 });
        result
    }

    /// Time `work`, which says how many objects it made.
    pub fn counted_phase(&mut self, name: &'static str, work: impl FnOnce() -> u64) {
        let objects = self.phase(name, 0, work);
        self.phases.last_mut().expect("the phase was just timed").objects = objects;
    }

    /// What was read back from the objects: equal on all crates.
    pub fn check(&mut self, sum: u64) {
        self.checksum = self.checksum.rotate_left(7) ^ sum;
    }

    /// Like `phase`, and how much memory the work adds to `live_bytes` while it runs.
    pub fn phase_with_scratch(&mut self, name: &'static str, objects: u64, live_bytes: u64, work: impl FnOnce()) {
        self.peak_bytes = self.peak_bytes.max(memory::peak_bytes());
        memory::restart_peak();
        let before = memory::resident_bytes();
        self.phase(name, objects, work);
        self.scratch_bytes = Some((memory::peak_bytes().saturating_sub(before), live_bytes));
    }
}

/// Everything of a run.
pub struct Run {
    pub rival: String,
    pub workload: String,
    pub objects: u64,
    pub repetitions: Vec<Repetition>,
    pub baseline_bytes: u64,
    pub peak_bytes: u64,
    /// Bytes still held after the first and after the last repetition: what grows between them has leaked.
    pub held_bytes: (u64, u64),
}

impl Run {
    /// The line of JSON. Names need no escapes.
    pub fn json(&self) -> String {
        let mut line = format!(
            "{{\"crate\": \"{}\", \"workload\": \"{}\", \"objects\": {}, \"checksum\": \"{:016x}\", \"phases\": {{",
            self.rival, self.workload, self.objects, self.repetitions[0].checksum,
        );
        for (i, phase) in self.repetitions[0].phases.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let times: Vec<_> = self.repetitions.iter().map(|repetition| per_object(&repetition.phases[i])).collect();
            write!(line, "{separator}\"{}\": [{}]", phase.name, times.join(", ")).unwrap();
        }
        let peak = self.repetitions.iter().map(|repetition| repetition.peak_bytes).fold(self.peak_bytes, u64::max);
        let leaked = self.held_bytes.1.saturating_sub(self.held_bytes.0);
        let again = self.repetitions.len() as u64 - 1;
        write!(line, "}}, \"peak_bytes\": {}", peak.saturating_sub(self.baseline_bytes)).unwrap();
        write!(line, ", \"leaked_bytes_per_object\": {:.2}", leaked as f64 / (self.objects * again.max(1)) as f64)
            .unwrap();
        // The first repetition's: later ones may find room that an earlier one left.
        if let Some(bytes) = self.repetitions[0].bytes_per_object {
            write!(line, ", \"bytes_per_object\": {bytes:.2}").unwrap();
        }
        if let Some((scratch, live)) = self.repetitions[0].scratch_bytes {
            write!(line, ", \"scratch_bytes\": {scratch}, \"live_bytes\": {live}").unwrap();
        }
        line + "}"
    }
}

fn per_object(phase: &Phase) -> String {
    format!("{:.3}", phase.ns as f64 / phase.objects as f64)
}
