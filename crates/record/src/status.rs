//! The state of one process, as the report at exit, `heapkeeper.status()` and `--json` give it.

use serde::{Deserialize, Serialize};

use crate::CollectorStatus;

/// Everything known of one process at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program: a script's path, `-m MODULE`, `-c`, or empty for an interactive session.
    pub program: String,
    /// The interpreter, e.g. `CPython 3.12.1`.
    pub python: String,
    /// heapkeeper's own version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since our heap was installed.
    pub elapsed_s: f64,
    /// Who serves the program's allocations.
    pub allocator: AllocatorStatus,
    /// Our heap, all interpreters and the raw domain together.
    pub heap: HeapStatus,
    /// The process as the kernel sees it.
    pub process: ProcessStatus,
    /// The sampling profiler; absent when it is off.
    pub profile: Option<ProfileStatus>,
    /// The collector of cycles; absent where nothing is known of it.
    pub collector: Option<CollectorStatus>,
}

/// Who serves the program's allocations, and why if it is not us.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AllocatorStatus {
    /// `heapkeeper` or `cpython`.
    pub name: String,
    /// Why the allocator stayed CPython's, in one line.
    pub reason: Option<String>,
    /// Why the data of NumPy's arrays stays outside our heap although it serves the rest, in one line.
    #[serde(default)]
    pub numpy: Option<String>,
}

/// Our heap: what the tiers hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeapStatus {
    /// Bytes in live blocks and spans, rounded up to their size class.
    pub live_bytes: u64,
    /// Live blocks and spans.
    pub live_blocks: u64,
    /// Bytes in pools and spans that are in use: `live_bytes` plus what is free inside pools.
    pub held_bytes: u64,
    /// The highest `held_bytes` so far.
    pub peak_bytes: u64,
    /// When it was reached, seconds since the heap was installed.
    pub peak_at_s: f64,
    /// Free memory kept for reuse instead of being given back to the OS.
    pub retained_bytes: u64,
    /// Bytes of our range that the kernel counts as resident.
    pub resident_bytes: u64,
    /// Bytes given back to the OS so far, in total.
    pub returned_bytes: u64,
    /// Address space mapped for arenas; grows in steps.
    pub reserved_bytes: u64,
    /// Bytes requested from the heap so far, in total.
    pub allocated_bytes: u64,
    /// The hard limit, if one is set.
    pub limit_bytes: Option<u64>,
    /// Arenas of 2 MiB in use.
    pub arenas: u64,
    /// Of these, the ones that asked for a huge page.
    pub huge_arenas: u64,
    /// Pools in use.
    pub pools: u64,
    /// Spans in use: blocks too large for a pool.
    pub spans: u64,
    /// Bytes in spans.
    pub span_bytes: u64,
    /// The share of `held_bytes` that lies unused inside pools, 0 to 1.
    pub fragmentation: f64,
    /// Interpreters that have a heap of their own, the main one included.
    pub interpreters: u64,
    /// Size classes that hold at least one pool, smallest first.
    pub classes: Vec<ClassStatus>,
}

/// One size class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassStatus {
    /// Bytes of one block.
    pub block_bytes: u64,
    /// Pools in use.
    pub pools: u64,
    /// Blocks in use.
    pub live_blocks: u64,
    /// Blocks that these pools can hold.
    pub capacity_blocks: u64,
}

/// The process as the kernel sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Resident bytes now.
    pub rss_bytes: u64,
    /// The highest resident size so far.
    pub peak_rss_bytes: u64,
    /// Resident bytes outside our heap: RSS less `HeapStatus::resident_bytes`.
    pub outside_bytes: u64,
}

/// What the sampling profiler saw. Byte figures are unbiased estimates of requested bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfileStatus {
    /// Mean distance between two samples, in bytes.
    pub sample_bytes: u64,
    /// Samples taken so far.
    pub samples: u64,
    /// Samples lost because a table was full; 0 unless something is wrong.
    pub lost_samples: u64,
    /// Live bytes now.
    pub live_bytes: u64,
    /// Live bytes at the peak.
    pub peak_bytes: u64,
    /// Half-width of the 95 % confidence interval of `peak_bytes`, in bytes.
    pub peak_error_bytes: u64,
    /// When the peak was reached, seconds since the heap was installed.
    pub peak_at_s: f64,
    /// Distinct call stacks seen.
    pub sites: u64,
    /// The sites with most bytes live at the peak, largest first.
    pub at_peak: Vec<Site>,
    /// The sites with most bytes live now, largest first.
    pub at_end: Vec<Site>,
}

/// A call stack that allocated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Estimated live bytes.
    pub bytes: u64,
    /// Half-width of the 95 % confidence interval of `bytes`, in bytes.
    pub error_bytes: u64,
    /// Estimated live blocks.
    pub blocks: u64,
    /// Samples behind the estimate.
    pub samples: u64,
    /// The share of all live bytes at that moment, 0 to 1.
    pub share: f64,
    /// The thread that allocated: its name where one is known, else its identifier.
    pub thread: String,
    /// The stack, innermost frame first. Empty where no Python code was running.
    pub frames: Vec<Frame>,
    /// Outer frames were left out: the stack was deeper than the profiler keeps.
    pub truncated: bool,
}

/// One frame of a call stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The function's qualified name (3.11 and later) or name.
    pub function: String,
    /// The file as the code object names it.
    pub file: String,
    /// The line, from 1; 0 where the code object gives none.
    pub line: u32,
    /// The source line, stripped, where the file can be read.
    pub source: Option<String>,
}
