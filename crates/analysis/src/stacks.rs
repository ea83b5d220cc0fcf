//! Weighted stacks: what flame graphs, diffs and exports are made of.

use heapkeeper_record::Frame;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) mod tests;

/// What a program held, or asked for, by call stack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stacks {
    /// What this is of, for a title: `app.py · live at the peak`.
    pub title: String,
    /// One entry for each stack and thread that differ to a reader.
    pub entries: Vec<Stack>,
}

/// One stack with its weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// Stands for the frame of a stack that has none.
pub const NO_FRAME: &str = "(no Python frame)";
/// Stands for the outer frames of a stack that was cut.
pub const OUTER_FRAMES: &str = "(outer frames were not kept)";
/// Stands for the name of a function that has none.
pub const NO_NAME: &str = "?";

/// One step of a stack as pictures and exports show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step<'a> {
    /// The function's name, or what stands for it.
    pub function: &'a str,
    /// The file as the code object names it; empty where there is none.
    pub file: &'a str,
    /// The line, from 1; 0 where it is not known.
    pub line: u32,
}

impl<'a> Step<'a> {
    const fn placeholder(function: &'static str) -> Self {
        Step { function, file: "", line: 0 }
    }

    /// The step of a frame.
    pub(crate) fn of(frame: &'a Frame) -> Self {
        let function = if frame.function.is_empty() { NO_NAME } else { &frame.function };
        Step { function, file: &frame.file, line: frame.line }
    }
}

impl Stack {
    /// The stack from the outermost frame to the innermost, at least one step: what is not known is said by a step of its own.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Step<'_>> {
        let cut = self.truncated.then_some(Step::placeholder(OUTER_FRAMES));
        let none = (self.frames.is_empty() && !self.truncated).then_some(Step::placeholder(NO_FRAME));
        cut.into_iter().chain(none).chain(self.frames.iter().rev().map(Step::of))
    }
}

impl Stacks {
    /// Bytes of all stacks.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, stack| sum.saturating_add(stack.bytes))
    }

    /// Blocks of all stacks.
    pub fn blocks(&self) -> u64 {
        self.entries.iter().fold(0, |sum, stack| sum.saturating_add(stack.blocks))
    }
}
