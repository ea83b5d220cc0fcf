//! Stacks for the tests of what is made from them, hostile ones included.

use heapkeeper_record::Frame;
use proptest::prelude::*;

use super::{NO_FRAME, NO_NAME, OUTER_FRAMES, Stack, Stacks};

pub(crate) fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.to_owned(), file: file.to_owned(), line, source: None }
}

/// A stack; its frames innermost first.
pub(crate) fn stack(frames: &[Frame], thread: &str, bytes: u64, blocks: u64) -> Stack {
    Stack { frames: frames.to_vec(), truncated: false, thread: thread.to_owned(), bytes, blocks }
}

/// Names that have broken some format or page: markup, separators, quotes, control characters, directions, the long, the empty.
const HOSTILE: [&str; 11] = [
    "",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{data}}",
    "a;b 12",
    "tab\tnew\nline\r\0",
    "\u{202e}desrever",
    "quote\"back\\slash'",
    "é😀\u{200b}名",
    "&lt;<i>",
    "12",
];

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(&HOSTILE[..]).prop_map(str::to_owned),
        4 => "[a-c]{1,2}",
        2 => any::<String>(),
        1 => (2_000..5_000usize).prop_map(|length| "x".repeat(length)),
    ]
}

pub(crate) fn any_stack() -> impl Strategy<Value = Stack> {
    let frame = (any_name(), any_name(), prop_oneof![Just(0), 1..5u32, Just(u32::MAX)])
        .prop_map(|(function, file, line)| frame(&function, &file, line));
    let amount = || prop_oneof![4 => 0..10_000u64, 1 => Just(1 << 40)];
    (prop::collection::vec(frame, 0..6), any::<bool>(), any_name(), amount(), amount())
        .prop_map(|(frames, truncated, thread, bytes, blocks)| Stack { frames, truncated, thread, bytes, blocks })
}

pub(crate) fn any_stacks() -> impl Strategy<Value = Stacks> {
    (any_name(), prop::collection::vec(any_stack(), 0..12)).prop_map(|(title, entries)| Stacks { title, entries })
}

#[test]
fn what_is_not_known_is_a_step_of_its_own() {
    let names = |stack: &Stack| stack.steps().map(|step| step.function.to_owned()).collect::<Vec<_>>();
    let mut stack = stack(&[frame("inner", "a.py", 1), frame("", "a.py", 2)], "", 1, 1);
    assert_eq!(names(&stack), [NO_NAME, "inner"]);
    stack.truncated = true;
    assert_eq!(names(&stack), [OUTER_FRAMES, NO_NAME, "inner"]);
    stack.frames.clear();
    assert_eq!(names(&stack), [OUTER_FRAMES]);
    stack.truncated = false;
    assert_eq!(names(&stack), [NO_FRAME]);
}

#[test]
fn sums_do_not_overflow() {
    let full = stack(&[], "", u64::MAX, u64::MAX);
    let stacks = Stacks { title: String::new(), entries: vec![full.clone(), full] };
    assert_eq!((stacks.bytes(), stacks.blocks()), (u64::MAX, u64::MAX));
}
