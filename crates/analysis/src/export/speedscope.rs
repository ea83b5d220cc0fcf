//! speedscope's own format (its file-format-schema.json): frames once, then profiles that name them by number.

use serde::Serialize;

use super::Numbering;
use crate::stacks::{Stack, Stacks, Step};

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    shared: Shared<'a>,
    profiles: Vec<Profile>,
    name: &'a str,
    #[serde(rename = "activeProfileIndex")]
    active_profile_index: usize,
    exporter: String,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct Profile {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start_value: u64,
    #[serde(rename = "endValue")]
    end_value: u64,
    /// Frames of each stack, outermost first.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// A file for speedscope, as JSON: a profile of bytes, one of blocks, and where there are several threads one of bytes for
/// each.
pub fn speedscope(stacks: &Stacks) -> String {
    let mut frames = Numbering::new();
    let mut threads = Numbering::new();
    for stack in &stacks.entries {
        threads.number(stack.thread.as_str());
        for step in stack.steps() {
            frames.number(step);
        }
    }
    let mut profile = |name: String, unit, thread: Option<&str>, weight: fn(&Stack) -> u64| {
        let entries = || stacks.entries.iter().filter(|stack| thread.is_none_or(|thread| stack.thread == thread));
        Profile {
            kind: "sampled",
            name,
            unit,
            start_value: 0,
            end_value: entries().fold(0, |sum, stack| sum.saturating_add(weight(stack))),
            samples: entries().map(|stack| stack.steps().map(|step| frames.number(step)).collect()).collect(),
            weights: entries().map(weight).collect(),
        }
    };
    let mut profiles = vec![
        profile("bytes".to_owned(), "bytes", None, |stack| stack.bytes),
        profile("blocks".to_owned(), "none", None, |stack| stack.blocks),
    ];
    if threads.things.len() > 1 {
        let of_thread =
            |thread: &&str| profile(format!("bytes · {thread}"), "bytes", Some(thread), |stack| stack.bytes);
        profiles.extend(threads.things.iter().map(of_thread));
    }
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        shared: Shared { frames: frames.things.iter().map(frame).collect() },
        profiles,
        name: &stacks.title,
        active_profile_index: 0,
        exporter: concat!("heapkeeper ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    // Strings and numbers in maps with string keys: nothing of it can fail.
    serde_json::to_string(&file).unwrap_or_default()
}

fn frame<'a>(step: &Step<'a>) -> Frame<'a> {
    let file = Some(step.file).filter(|file| !file.is_empty());
    Frame { name: step.function, file, line: Some(step.line).filter(|&line| line > 0) }
}
