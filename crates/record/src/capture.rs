//! A capture: what a profiled process writes while it runs, tick by tick.
//!
//! ```text
//! Header                              who wrote it: versions, command, host
//! Tick, Tick, Tick …                  about one a second, and one at the end
//!   codes  ← nodes  ← sites           what is new since the tick before
//!   values                            sites whose figures changed since the tick before
//!   series, threads, marks, collections
//! ```
//!
//! Codes, nodes, sites and threads have no numbers of their own: the first code of the first tick is code 0, and so on through
//! all ticks. A tick names only what it or an earlier tick brought. So every prefix of a capture that ends with a whole tick is
//! a capture, and its size grows with distinct sites and with time, never with the number of allocations.
//!
//! Lines are not in it: a node holds an offset into its code's instructions, and the code its line table as CPython stores it.
//! Who reads the capture looks the lines up.
//!
//! In a file it is a stream in Arrow's IPC format, which pyarrow, Polars, DuckDB and others open without us: the header is the
//! schema's metadata, a tick is a record batch of one row, and what a tick has several of is a list of structs in that row.
//! The last column is a CRC-32 of all bytes before it, from the first of the file on: no changed bit goes unnoticed.
//! [`Writer`] writes it, [`read`] and [`Reader`] read it back; none of them panics, whatever it is given.

mod columns;
mod message;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Capture, Damage, Error, Reader, read};
pub use writer::Writer;

/// What is written in the header as the file's format. A reader takes older ones, and refuses newer ones.
pub const FORMAT: u32 = 1;

/// Who wrote a capture. Nothing secret: no environment, no user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    /// heapkeeper's version.
    pub version: String,
    /// The interpreter, e.g. `CPython 3.12.1`.
    pub python: String,
    /// How [`Code::line_table`] is to be read: the interpreter's version as `(3, 12)`.
    pub python_version: (u8, u8),
    /// The program: a script's path, `-m MODULE`, `-c`, or empty for an interactive session.
    pub program: String,
    /// The arguments of the process, the program's own included.
    pub command: Vec<String>,
    /// Process id, and that of the parent.
    pub pid: u32,
    /// Parent process.
    pub parent_pid: u32,
    /// When tick time 0 was: microseconds since 1970, UTC.
    pub started_unix_us: i64,
    /// Mean distance between samples in bytes; **0 for exact**: then every allocation is counted.
    pub sample_bytes: u64,
    /// The working folder at the start: relative names of source files begin there.
    pub folder: String,
    /// Operating system, machine, processors, bytes of memory, as name and value.
    pub host: Vec<(String, String)>,
}

/// What happened until one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tick {
    /// The moment: milliseconds since the capture began.
    pub at_ms: u64,
    /// The last tick of a process that came to its end in an orderly way.
    pub last: bool,
    /// The last tick of a capture that somebody stopped: its process went on.
    pub stopped: bool,
    /// Resident bytes of the process.
    pub rss_bytes: u64,
    /// The most there were so far, between ticks too; 0 where the system does not say.
    pub peak_rss_bytes: u64,
    /// Bytes in pools and spans of our heap.
    pub heap_bytes: u64,
    /// Resident bytes outside our heap.
    pub outside_bytes: u64,
    /// Live bytes requested, all sites together.
    pub live_bytes: u64,
    /// The highest `live_bytes` so far, as exact as the process knew it, and when it was.
    pub peak_bytes: u64,
    /// When the peak was, milliseconds since the capture began.
    pub peak_at_ms: u64,
    /// Samples, or allocations, that found no room in the tables so far.
    pub lost: u64,
    /// New code objects.
    pub codes: Vec<Code>,
    /// New stacks.
    pub nodes: Vec<Node>,
    /// New sites.
    pub sites: Vec<Site>,
    /// New threads, and threads that got a name: the last name counts.
    pub threads: Vec<Thread>,
    /// Sites whose figures changed.
    pub values: Vec<Value>,
    /// What the program marked.
    pub marks: Vec<Mark>,
    /// Collections of cycles.
    pub collections: Vec<Collection>,
}

/// A code object, or what stands for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Code {
    /// The qualified name (3.11 and later) or name; `<interpreter 3>` and their like where frames are not to be had.
    pub function: String,
    /// The file as the code object names it; empty where there is none.
    pub file: String,
    /// The line that `def` is on.
    pub first_line: i32,
    /// The table from instruction to line, as this version of CPython stores it; empty where there is none.
    pub line_table: Vec<u8>,
}

/// A stack: one frame inside another stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Node {
    /// The stack of the caller: a node's number, or one of [`Node::EMPTY`] and [`Node::TRUNCATED`].
    pub parent: u32,
    /// What runs: a code's number.
    pub code: u32,
    /// Bytes into its instructions; -1 before the first.
    pub offset_bytes: i32,
}

impl Node {
    /// No frame.
    pub const EMPTY: u32 = u32::MAX;
    /// No frame, but there were outer frames that nobody kept.
    pub const TRUNCATED: u32 = u32::MAX - 1;
}

/// A stack in a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Site {
    /// The stack: a node's number, [`Node::EMPTY`] or [`Node::TRUNCATED`].
    pub node: u32,
    /// The thread's own identifier, as `threading.get_ident` gives it.
    pub thread: u64,
}

/// A thread and its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// As in [`Site::thread`].
    pub thread: u64,
    /// `MainThread`, or what the program called it.
    pub name: String,
}

/// The figures of one site, each since the capture began. Estimates where the capture is sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Value {
    /// The site's number.
    pub site: u32,
    /// Live now.
    pub live: Amount,
    /// Live at the peak so far.
    pub peak: Amount,
    /// Allocated in all.
    pub total: Amount,
    /// Of the freed blocks: those that no collection of cycles saw.
    pub freed_soon: u64,
    /// Of the freed blocks: those that a young collection saw, but no full one.
    pub freed_young: u64,
    /// Of the freed blocks: those that a full collection saw.
    pub freed_old: u64,
}

/// Bytes and blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amount {
    /// Bytes requested.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Variance of `bytes` in square bytes; 0 where they are exact.
    pub variance: f64,
}

/// A moment that the program named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// Milliseconds since the capture began.
    pub at_ms: u64,
    /// The program's words.
    pub name: String,
}

/// A collection of cycles, or several of one generation summed up: young ones are, as there may be thousands a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collection {
    /// When the first of them ended, milliseconds since the capture began.
    pub at_ms: u64,
    /// 0, 1 or 2.
    pub generation: u8,
    /// How many they were.
    pub count: u64,
    /// How long they took together.
    pub pause_us: u64,
    /// How long the longest took.
    pub longest_us: u64,
    /// Objects found in cycles.
    pub collected: u64,
    /// Of those, objects that could not be freed.
    pub uncollectable: u64,
}
