//! The collector of cycles as the report at exit, `heapkeeper.gc.stats()` and `--json` show it.

use serde::{Deserialize, Serialize};

use crate::Site;

/// The collector of the interpreter that was asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CollectorStatus {
    /// Who does full collections: `cpython`, `heapkeeper`, `background` for ours in a child process, or `verify` for ours,
    /// compared with CPython's.
    pub mode: String,
    /// Why CPython's collector is at work though ours was asked for, in one line.
    pub reason: Option<String>,
    /// By the oldest generation collected: 0, 1, 2. A collection of one generation includes the younger ones.
    pub generations: [GenerationStatus; 3],
    /// The pauses of all generations together; absent where nobody measured them.
    pub pauses: Option<PauseStatus>,
    /// Where the time of our full collections went.
    pub phases: PhaseStatus,
    /// The most memory that one of our full collections took for itself, in bytes; it keeps none of it.
    pub scratch_peak_bytes: u64,
    /// The types found most often in cycles by our full collections, the most frequent first.
    pub cycle_types: Vec<CycleType>,
    /// Objects that were frozen, and that no collection looks at.
    pub frozen: u64,
    /// Whether collections start by themselves: `gc.isenabled()`.
    pub enabled: bool,
    /// Objects of each generation, as `gc.get_count()` gives them: the first is what was allocated less what was freed since
    /// the last collection, the others are collections of the generation before.
    pub counts: [i64; 3],
    /// The counts at which a collection starts, as `gc.get_threshold()` gives them; a first one of 0 means never.
    pub thresholds: [i64; 3],
    /// Objects that survived the last full collection; 0 before the first, and where nobody knows.
    pub long_lived: u64,
    /// What `background` did beside the program; absent in the other modes.
    pub background: Option<BackgroundStatus>,
    /// What `verify` compared; absent in the other modes.
    pub verified: Option<VerifyStatus>,
}

/// The collections of one generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Collections since the interpreter started, whoever did them.
    pub collections: u64,
    /// Objects looked at; absent where CPython collects and nobody counts.
    pub examined: Option<u64>,
    /// Objects found unreachable and freed.
    pub collected: u64,
    /// Objects found unreachable and left in `gc.garbage`.
    pub uncollectable: u64,
    /// How long the program stood still; absent where nobody measured it.
    pub pauses: Option<PauseStatus>,
}

/// How long the program stood still for collections, callbacks and finalizers included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PauseStatus {
    /// Pauses measured: collections since ours was installed.
    pub count: u64,
    /// All together, in seconds.
    pub total_s: f64,
    /// The longest, in seconds.
    pub longest_s: f64,
    /// What half of them did not exceed, in seconds: at most a sixteenth off, and never above the longest.
    pub p50_s: f64,
    /// What 99 % of them did not exceed, in seconds: as exact as `p50_s`.
    pub p99_s: f64,
    /// A histogram: entry i counts the pauses of 2ⁱ to 2ⁱ⁺¹ nanoseconds; the first takes shorter ones, the last longer ones.
    pub buckets: Vec<u64>,
}

/// Where the time of our full collections went, in seconds. What the phases leave of the pauses is the program's callbacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseStatus {
    /// Listing the tracked objects.
    pub walk_s: f64,
    /// Marking from known roots: modules, frames, the interpreter's state.
    pub roots_s: f64,
    /// Counting references from elsewhere.
    pub count_s: f64,
    /// Marking what these lead to.
    pub mark_s: f64,
    /// Putting the generation's list into order.
    pub order_s: f64,
    /// Untracking tuples and dicts that cannot be part of a cycle.
    pub untrack_s: f64,
    /// Weak references, callbacks, finalizers and freeing.
    pub dispose_s: f64,
}

/// A type whose objects were found in cycles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CycleType {
    /// Its qualified name.
    pub type_name: String,
    /// Objects found, in all full collections.
    pub objects: u64,
    /// Whether that is an estimate: of a great many, one in so many is looked at.
    #[serde(default)]
    pub is_estimate: bool,
    /// The call site that made most of those that were sampled; absent where none was. Its figures are of the objects found.
    pub site: Option<Site>,
}

/// Searches of a child process, while the program ran on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BackgroundStatus {
    /// Children started.
    pub started: u64,
    /// Those that were done before the program asked for a collection or the next one was due.
    pub finished: u64,
    /// How long the program stood still for their start, in seconds.
    pub start_s: f64,
    /// How long those that were done searched, in seconds.
    pub search_s: f64,
}

/// What `verify` compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyStatus {
    /// Full collections that were done twice and compared.
    pub collections: u64,
    /// Of these, those in which ours found something else than CPython's. The first one ends ours.
    pub differences: u64,
}
