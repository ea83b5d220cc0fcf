//! Bytes → the decoder of captures. The first byte chooses: the bytes as they are, or as changes to a real capture, read
//! without its checksums, so that what lies behind them is reached.
//!
//! `cargo +nightly fuzz run capture` in the repository's root.
#![no_main]

use std::sync::LazyLock;

use heapkeeper_record::capture::{
    Amount, Code, Collection, Header, Mark, Node, Reader, Site, Thread, Tick, Value, Writer, read,
};
use libfuzzer_sys::fuzz_target;

static REAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let header = Header { python_version: (3, 12), command: vec!["app.py".into()], ..Header::default() };
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    let live = Amount { bytes: 640, blocks: 10, variance: 0.5 };
    let first = Tick {
        codes: vec![Code { function: "f".into(), file: "app.py".into(), first_line: 1, line_table: vec![1, 2, 3] }],
        nodes: vec![Node { parent: Node::EMPTY, code: 0, offset_bytes: 2 }, Node::default()],
        sites: vec![Site { node: 1, thread: 9 }, Site { node: Node::TRUNCATED, thread: 9 }],
        threads: vec![Thread { thread: 9, name: "MainThread".into() }],
        values: vec![Value { site: 1, live, ..Value::default() }, Value::default()],
        marks: vec![Mark { at_ms: 5, name: "warm".into() }],
        collections: vec![Collection::default(); 2],
        ..Tick::default()
    };
    for tick in [first, Tick::default(), Tick { last: true, values: vec![Value::default()], ..Tick::default() }] {
        writer.write(&tick).unwrap();
    }
    writer.finish().unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    if first % 4 == 0 {
        let _ = read(rest);
        return;
    }
    let mut bytes = REAL.clone();
    for change in rest.chunks_exact(5) {
        // Places and lengths are little-endian words at even places: two bytes say where, up to three what.
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) * 2 % (bytes.len() - 4);
        let length = usize::from(change[2] % 4) + 1;
        let value = [change[3], change[4], if change[2] & 8 != 0 { 0xff } else { 0 }, change[2] & 0x80];
        bytes[place..place + length].copy_from_slice(&value[..length]);
    }
    if let Ok(reader) = Reader::without_checksums(&bytes[..]) {
        reader.for_each(drop);
    }
});
