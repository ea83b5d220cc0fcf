//! The data of a page: every name, frame and path once, figures by stack.
//!
//! Paths are a tree written as two columns, parents before their children, since stacks share most of their outer frames.
//! Twenty thousand stacks of forty frames take a few megabytes at most.

use std::collections::HashMap;

use serde::Serialize;

use crate::report::path::{Owner, ShortNames, owner};
use crate::report::text::clean;
use crate::stacks::{Stacks, Step};

/// What the script of a page reads.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    /// One for a flame graph, two for a difference: before, after.
    titles: Vec<String>,
    functions: Vec<String>,
    files: Vec<File>,
    frames: Frames,
    nodes: Nodes,
    threads: Vec<String>,
    stacks: Entries,
    #[serde(skip)]
    numbers: Numbers<'a>,
}

#[derive(Serialize)]
struct File {
    /// As the code object names it.
    path: String,
    /// As short as tells it from the others.
    name: String,
    /// `program`, `package`, `standard`, or `none` for what stands in for a frame.
    owner: &'static str,
}

/// Columns of the frames.
#[derive(Default, Serialize)]
struct Frames {
    function: Vec<usize>,
    file: Vec<usize>,
    line: Vec<u32>,
}

/// Columns of the tree of paths, outermost frame first.
#[derive(Default, Serialize)]
struct Nodes {
    /// How many nodes before this one its parent is: mostly 1, which is short to write. 0 where there is none.
    up: Vec<usize>,
    frame: Vec<usize>,
}

/// Columns of the stacks. `bytes` and `blocks` hold a column for each title.
#[derive(Default, Serialize)]
struct Entries {
    node: Vec<usize>,
    thread: Vec<usize>,
    bytes: Vec<Vec<u64>>,
    blocks: Vec<Vec<u64>>,
}

/// The number of everything that is in a column already.
#[derive(Default)]
struct Numbers<'a> {
    functions: HashMap<&'a str, usize>,
    files: HashMap<&'a str, usize>,
    frames: HashMap<Step<'a>, usize>,
    nodes: HashMap<(Option<usize>, usize), usize>,
    threads: HashMap<&'a str, usize>,
    stacks: HashMap<(usize, usize), usize>,
}

impl<'a> Data<'a> {
    pub(super) fn new(sides: &[&'a Stacks]) -> Self {
        let steps = || sides.iter().flat_map(|side| &side.entries).flat_map(|stack| &stack.frames);
        let names = ShortNames::new(steps().map(|frame| frame.file.as_str()));
        let mut data = Data {
            titles: sides.iter().map(|side| clean(&side.title)).collect(),
            functions: Vec::new(),
            files: Vec::new(),
            frames: Frames::default(),
            nodes: Nodes::default(),
            threads: Vec::new(),
            stacks: Entries {
                bytes: vec![vec![]; sides.len()],
                blocks: vec![vec![]; sides.len()],
                ..Default::default()
            },
            numbers: Numbers::default(),
        };
        for (side, stacks) in sides.iter().enumerate() {
            for stack in &stacks.entries {
                // A stack has a step at least.
                let Some(node) = stack.steps().fold(None, |parent, step| Some(data.node(parent, step, &names))) else {
                    continue;
                };
                let entry = data.entry(node, &stack.thread);
                let add = |column: &mut Vec<u64>, amount| column[entry] = column[entry].saturating_add(amount);
                add(&mut data.stacks.bytes[side], stack.bytes);
                add(&mut data.stacks.blocks[side], stack.blocks);
            }
        }
        data
    }

    /// The number of a path, given that of the path to its last frame's caller.
    fn node(&mut self, parent: Option<usize>, step: Step<'a>, names: &ShortNames<'_>) -> usize {
        let frame = self.frame(step, names);
        *self.numbers.nodes.entry((parent, frame)).or_insert_with(|| {
            let node = self.nodes.frame.len();
            self.nodes.up.push(parent.map_or(0, |parent| node - parent));
            self.nodes.frame.push(frame);
            node
        })
    }

    fn frame(&mut self, step: Step<'a>, names: &ShortNames<'_>) -> usize {
        *self.numbers.frames.entry(step).or_insert_with(|| {
            let function = *self.numbers.functions.entry(step.function).or_insert_with(|| {
                self.functions.push(clean(step.function));
                self.functions.len() - 1
            });
            let file = *self.numbers.files.entry(step.file).or_insert_with(|| {
                self.files.push(File {
                    path: clean(step.file),
                    name: clean(names.file(step.file)),
                    owner: match owner(step.file) {
                        Owner::Nobody => "none",
                        Owner::Program => "program",
                        Owner::Package | Owner::Launcher => "package",
                        Owner::Standard => "standard",
                    },
                });
                self.files.len() - 1
            });
            self.frames.function.push(function);
            self.frames.file.push(file);
            self.frames.line.push(step.line);
            self.frames.line.len() - 1
        })
    }

    /// The number of a stack in a thread, with nothing held yet where it is new.
    fn entry(&mut self, node: usize, thread: &'a str) -> usize {
        let thread = *self.numbers.threads.entry(thread).or_insert_with(|| {
            self.threads.push(clean(thread));
            self.threads.len() - 1
        });
        *self.numbers.stacks.entry((node, thread)).or_insert_with(|| {
            self.stacks.node.push(node);
            self.stacks.thread.push(thread);
            self.stacks.bytes.iter_mut().chain(&mut self.stacks.blocks).for_each(|column| column.push(0));
            self.stacks.node.len() - 1
        })
    }
}
