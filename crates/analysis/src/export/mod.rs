//! Stacks in the formats of other tools.
//!
//! | format | read by |
//! |---|---|
//! | [`collapsed`] | flamegraph.pl, inferno, speedscope: a line for each stack |
//! | [`speedscope`] | <https://www.speedscope.app>, which works offline as well |
//! | [`pprof`] | `go tool pprof`, Pyroscope, Parca, Polar Signals, Datadog |
//! | [`parquet`] | DuckDB, pandas, Polars, Spark: a row for each stack |
//!
//! Nothing is left out or rounded; where a format has no room for a character or a number, its function says what comes
//! instead.

mod collapsed;
mod parquet;
mod pprof;
mod speedscope;

#[cfg(test)]
mod tests;

pub use collapsed::collapsed;
pub use parquet::parquet;
pub use pprof::pprof;
pub use speedscope::speedscope;

use std::collections::HashMap;
use std::hash::Hash;

/// Numbers things from 0 in the order in which they come.
struct Numbering<T> {
    numbers: HashMap<T, usize>,
    things: Vec<T>,
}

impl<T: Copy + Eq + Hash> Numbering<T> {
    fn new() -> Self {
        Numbering { numbers: HashMap::new(), things: Vec::new() }
    }

    fn number(&mut self, thing: T) -> usize {
        *self.numbers.entry(thing).or_insert_with(|| {
            self.things.push(thing);
            self.things.len() - 1
        })
    }
}
