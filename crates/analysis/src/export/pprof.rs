//! pprof's protocol buffer, compressed with gzip. The messages are those of google/pprof's proto/profile.proto, as far as
//! they are of use here.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::Numbering;
use crate::stacks::{Stacks, Step};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    /// The first is empty: 0 means no string.
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    pub(super) kind: i64,
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    #[prost(int64, tag = "2")]
    pub(super) str: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Mapping {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
    #[prost(bool, tag = "8")]
    pub(super) has_filenames: bool,
    #[prost(bool, tag = "9")]
    pub(super) has_line_numbers: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    #[prost(int64, tag = "2")]
    pub(super) line: i64,
}

/// Without a system name: pprof would take that for a mangled one of C++ and drop the `<module>` from it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    #[prost(int64, tag = "4")]
    pub(super) filename: i64,
}

/// A profile for pprof: `inuse_objects` and `inuse_space`, and where a second record is given, what was allocated in all, as
/// `alloc_objects` and `alloc_space` before them, in the order of Go's own heap profiles. Threads are labels. Numbers
/// above 2⁶³ − 1 become that.
pub fn pprof(live: &Stacks, allocated: Option<&Stacks>) -> Vec<u8> {
    let profile = profile(live, allocated).encode_to_vec();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = packed.write_all(&profile);
    packed.finish().unwrap_or_default()
}

pub(super) fn profile(live: &Stacks, allocated: Option<&Stacks>) -> Profile {
    let sides: Vec<&Stacks> = allocated.into_iter().chain([live]).collect();
    let types =
        [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];
    let types = &types[types.len() - 2 * sides.len()..];

    let mut strings = Numbering::new();
    let mut locations: Numbering<Step<'_>> = Numbering::new();
    let mut sample: Vec<Sample> = Vec::new();
    let mut numbers: HashMap<(Vec<u64>, &str), usize> = HashMap::new();
    strings.number("");
    for (side, stacks) in sides.iter().enumerate() {
        for stack in &stacks.entries {
            let path = stack.steps().rev().map(|step| id(locations.number(step))).collect();
            let number = *numbers.entry((path, &stack.thread)).or_insert_with_key(|(path, thread)| {
                let label = Label { key: text(&mut strings, "thread"), str: text(&mut strings, thread) };
                let label = if thread.is_empty() { vec![] } else { vec![label] };
                sample.push(Sample { location_id: path.clone(), value: vec![0; types.len()], label });
                sample.len() - 1
            });
            let values = &mut sample[number].value[2 * side..];
            for (value, amount) in values.iter_mut().zip([stack.blocks, stack.bytes]) {
                *value = value.saturating_add(i64::try_from(amount).unwrap_or(i64::MAX));
            }
        }
    }
    let mut functions = Numbering::new();
    let location = locations.things.iter().enumerate().map(|(number, step)| {
        let line = Line { function_id: id(functions.number((step.function, step.file))), line: step.line.into() };
        Location { id: id(number), mapping_id: 1, line: vec![line] }
    });
    let location = location.collect();
    let function = functions.things.iter().enumerate().map(|(number, (name, file))| {
        let name = text(&mut strings, name);
        Function { id: id(number), name, filename: text(&mut strings, file) }
    });
    let function = function.collect();
    let title = text(&mut strings, &live.title);
    Profile {
        sample_type: types
            .iter()
            .map(|(kind, unit)| ValueType { kind: text(&mut strings, kind), unit: text(&mut strings, unit) })
            .collect(),
        sample,
        // Says that names are complete: no reader has to look for symbols in a binary.
        mapping: vec![Mapping {
            id: 1,
            filename: title,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
        }],
        location,
        function,
        comment: vec![title],
        default_sample_type: text(&mut strings, "inuse_space"),
        string_table: strings.things.into_iter().map(str::to_owned).collect(),
    }
}

fn text<'a>(strings: &mut Numbering<&'a str>, text: &'a str) -> i64 {
    strings.number(text) as i64
}

/// Ids begin with 1.
fn id(number: usize) -> u64 {
    number as u64 + 1
}
