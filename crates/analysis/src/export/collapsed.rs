//! A line for each stack: `thread;outermost;…;innermost bytes`.

use crate::report::text::clean;
use crate::stacks::{Stacks, Step};

/// Collapsed stacks, weighted by bytes. A stack of no bytes has no line, and a thread without a name no place in one. In
/// names a `;` becomes `:`, line ends become blanks, other control characters the replacement character.
pub fn collapsed(stacks: &Stacks) -> String {
    let mut text = String::new();
    for stack in stacks.entries.iter().filter(|stack| stack.bytes > 0) {
        let thread = Some(name(&stack.thread)).filter(|thread| !thread.is_empty());
        let path: Vec<String> = thread.into_iter().chain(stack.steps().map(frame)).collect();
        text += &format!("{} {}\n", path.join(";"), stack.bytes);
    }
    text
}

fn frame(step: Step<'_>) -> String {
    let function = name(step.function);
    match (step.file, step.line) {
        ("", _) => function,
        (file, 0) => format!("{function} ({})", name(file)),
        (file, line) => format!("{function} ({}:{line})", name(file)),
    }
}

fn name(text: &str) -> String {
    clean(text).replace(';', ":").trim().to_owned()
}
