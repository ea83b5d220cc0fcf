//! Weighted stacks: what flame graphs, diffs and exports are made of.

use heapkeeper_record::Frame;

/// What a program held, or asked for, by call stack.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stacks {
    /// What this is of, for a title: `app.py · live at the peak`.
    pub title: String,
    /// One entry for each stack and thread that differ to a reader.
    pub entries: Vec<Stack>,
}

/// One stack with its weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stack {
    /// Frames, innermost first. Empty where no Python code was running.
    pub frames: Vec<Frame>,
    /// Outer frames were left out.
    pub truncated: bool,
    /// The thread's name.
    pub thread: String,
    /// Bytes requested.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
}
