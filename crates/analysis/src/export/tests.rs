//! Each format read back, hostile names included. What other tools make of the files is tested in tests/export.

use std::io::Read;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, RowAccessor};
use flate2::read::GzDecoder;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

use super::{collapsed, parquet, pprof, speedscope};
use crate::stacks::tests::{any_stacks, frame, stack};
use crate::stacks::{Stack, Stacks};

fn sample() -> Stacks {
    let (load, main) = (frame("load", "/srv/rows.py", 4), frame("main", "/srv/app.py", 9));
    Stacks {
        title: "app.py".to_owned(),
        entries: vec![
            stack(&[load.clone(), main.clone()], "MainThread", 100, 3),
            stack(&[main], "MainThread", 20, 2),
            Stack { truncated: true, ..stack(&[load], "worker", 7, 1) },
            stack(&[], "", 5, 1),
        ],
    }
}

#[test]
fn collapsed_is_a_line_for_each_stack() {
    let lines = "\
MainThread;main (/srv/app.py:9);load (/srv/rows.py:4) 100
MainThread;main (/srv/app.py:9) 20
worker;(outer frames were not kept);load (/srv/rows.py:4) 7
(no Python frame) 5
";
    assert_eq!(collapsed(&sample()), lines);
}

#[test]
fn collapsed_keeps_separators_out_of_names() {
    let frames = [frame("a;b\n", "", 0), frame("\u{1b}[31m c", "/x;y.py", 0)];
    let stacks = Stacks { title: String::new(), entries: vec![stack(&frames, "t;1", 3, 1), stack(&[], "t", 0, 1)] };
    assert_eq!(collapsed(&stacks), "t:1;\u{fffd}[31m c (/x:y.py);a:b 3\n");
}

#[test]
fn speedscope_has_a_profile_of_bytes_of_blocks_and_of_each_thread() {
    let file: Value = serde_json::from_str(&speedscope(&sample())).expect("JSON");
    assert_eq!(file["name"], "app.py");
    assert_eq!(file["shared"]["frames"][0], json!({"name": "main", "file": "/srv/app.py", "line": 9}));
    assert_eq!(file["shared"]["frames"][3], json!({"name": "(no Python frame)"}));
    let names: Vec<_> = file["profiles"].as_array().into_iter().flatten().map(|profile| &profile["name"]).collect();
    assert_eq!(names, ["bytes", "blocks", "bytes · MainThread", "bytes · worker", "bytes · "]);
    let expected = json!({
        "type": "sampled", "name": "bytes", "unit": "bytes", "startValue": 0, "endValue": 132,
        "samples": [[0, 1], [0], [2, 1], [3]], "weights": [100, 20, 7, 5],
    });
    assert_eq!(file["profiles"][0], expected);
}

#[test]
fn pprof_joins_what_is_live_with_what_was_allocated() {
    let mut allocated = sample();
    allocated.entries.iter_mut().for_each(|stack| stack.bytes *= 10);
    allocated.entries.push(stack(&[frame("gone", "/srv/app.py", 50)], "MainThread", 11, 1));
    let profile = unpack(&pprof(&sample(), Some(&allocated)));
    let string = |number: i64| profile.string_table[number as usize].as_str();
    let types: Vec<_> = profile.sample_type.iter().map(|kind| (string(kind.kind), string(kind.unit))).collect();
    let expected =
        [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];
    assert_eq!(types, expected);
    assert_eq!(string(profile.default_sample_type), "inuse_space");
    assert_eq!(profile.sample[0].value, [3, 1000, 3, 100]);
    assert_eq!(profile.sample[4].value, [1, 11, 0, 0]);
    assert_eq!(profile.sample.len(), 5);
}

#[test]
fn parquet_metadata_has_the_title() {
    let reader = SerializedFileReader::new(bytes::Bytes::from(parquet(&sample()).expect("a file"))).expect("readable");
    let metadata = reader.metadata().file_metadata().key_value_metadata().expect("metadata").clone();
    assert_eq!(metadata.iter().find(|each| each.key == "title").and_then(|each| each.value.as_deref()), Some("app.py"));
}

fn unpack(packed: &[u8]) -> super::pprof::Profile {
    let mut profile = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut profile).expect("gzip");
    super::pprof::Profile::decode(profile.as_slice()).expect("a profile")
}

proptest! {
    #[test]
    fn collapsed_holds_every_byte(stacks in any_stacks()) {
        let text = collapsed(&stacks);
        let mut sum = 0u64;
        for line in text.lines() {
            let (path, weight) = line.rsplit_once(' ').expect("a weight");
            prop_assert!(!path.chars().any(char::is_control), "{:?}", path);
            sum += weight.parse::<u64>().expect("a number");
        }
        prop_assert_eq!(sum, stacks.bytes());
        let steps = |stack: &Stack| stack.steps().count() + usize::from(!stack.thread.trim().is_empty());
        let entries = stacks.entries.iter().filter(|stack| stack.bytes > 0);
        // A thread's name of nothing but blanks is none.
        for (line, stack) in text.lines().zip(entries) {
            prop_assert!(line.matches(';').count() < steps(stack));
        }
    }

    #[test]
    fn speedscope_holds_every_stack(stacks in any_stacks()) {
        let file: Value = serde_json::from_str(&speedscope(&stacks)).expect("JSON");
        let frames = file["shared"]["frames"].as_array().expect("frames");
        for (index, stack) in stacks.entries.iter().enumerate() {
            let sample = file["profiles"][0]["samples"][index].as_array().expect("a sample");
            let names: Vec<&str> = sample.iter().map(|number| frames[number.as_u64().expect("a number") as usize]["name"].as_str().expect("a name")).collect();
            prop_assert_eq!(names, stack.steps().map(|step| step.function).collect::<Vec<_>>());
            prop_assert_eq!(file["profiles"][0]["weights"][index].as_u64(), Some(stack.bytes));
            prop_assert_eq!(file["profiles"][1]["weights"][index].as_u64(), Some(stack.blocks));
        }
    }

    #[test]
    fn pprof_holds_every_stack(stacks in any_stacks()) {
        let profile = unpack(&pprof(&stacks, None));
        prop_assert_eq!(profile.string_table[0].as_str(), "");
        let string = |number: i64| profile.string_table[number as usize].as_str();
        let total: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
        prop_assert_eq!(total as u64, stacks.bytes());
        for stack in &stacks.entries {
            let steps: Vec<_> = stack.steps().rev().map(|step| (step.function, step.file, i64::from(step.line))).collect();
            let same = profile.sample.iter().any(|sample| {
                let of = |id: &u64| {
                    let line = &profile.location[*id as usize - 1].line[0];
                    let function = &profile.function[line.function_id as usize - 1];
                    (string(function.name), string(function.filename), line.line)
                };
                let thread = sample.label.first().map_or("", |label| string(label.str));
                thread == stack.thread && sample.location_id.iter().map(of).eq(steps.iter().copied())
            });
            prop_assert!(same, "{:?}", stack);
        }
    }

    #[test]
    fn parquet_holds_every_stack(stacks in any_stacks()) {
        let file = bytes::Bytes::from(parquet(&stacks).expect("a file"));
        let reader = SerializedFileReader::new(file).expect("readable");
        let rows: Vec<_> = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
        prop_assert_eq!(rows.len(), stacks.entries.len());
        for (row, stack) in rows.iter().zip(&stacks.entries) {
            prop_assert_eq!(row.get_bool(1).expect("truncated"), stack.truncated);
            prop_assert_eq!(row.get_string(2).expect("thread"), &stack.thread);
            prop_assert_eq!((row.get_ulong(3).expect("bytes"), row.get_ulong(4).expect("blocks")), (stack.bytes, stack.blocks));
            let frames = row.get_list(0).expect("frames").elements();
            prop_assert_eq!(frames.len(), stack.frames.len());
            for (read, frame) in frames.iter().zip(&stack.frames) {
                let Field::Group(read) = read else { panic!("{read}") };
                prop_assert_eq!(read.get_string(0).expect("function"), &frame.function);
                prop_assert_eq!(read.get_string(1).map_or("", String::as_str), frame.file.as_str());
                prop_assert_eq!(read.get_uint(2).unwrap_or(0), frame.line);
            }
        }
    }
}
