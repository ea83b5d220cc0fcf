//! What is written is read; and what was cut, changed or never was a capture is read as far as it goes.

use std::io::{self, Write};

use arrow_array::{RecordBatch, UInt64Array};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    Amount, Capture, Code, Collection, Damage, Error, FORMAT, Header, Mark, Node, Reader, Site, Thread, Tick, Value,
    Writer, columns, read,
};

fn header() -> Header {
    Header {
        version: "0.1.0".into(),
        python: "CPython 3.12.1".into(),
        python_version: (3, 12),
        program: "app.py".into(),
        command: vec!["app.py".into(), "--port".into(), "80 \"00\"".into()],
        pid: 4711,
        parent_pid: 1,
        started_unix_us: -5,
        sample_bytes: 512 << 10,
        folder: "/home/ada/shop".into(),
        host: vec![("system".into(), "Linux".into()), ("processors".into(), "2".into())],
    }
}

fn first_tick() -> Tick {
    let amount = |bytes| Amount { bytes, blocks: bytes / 64, variance: 0.25 };
    Tick {
        at_ms: 1000,
        rss_bytes: 1 << 33,
        peak_at_ms: 900,
        codes: vec![
            Code { function: "main".into(), file: "app.py".into(), first_line: 3, line_table: vec![0x80, 0xff, 0] },
            Code { function: "<interpreter 1>".into(), first_line: -1, ..Code::default() },
        ],
        nodes: vec![
            Node { parent: Node::TRUNCATED, code: 0, offset_bytes: 12 },
            Node { parent: 0, code: 1, offset_bytes: -1 },
        ],
        sites: vec![Site { node: 1, thread: u64::MAX }, Site { node: Node::EMPTY, thread: 2 }],
        threads: vec![Thread { thread: 2, name: "MainThread".into() }],
        values: vec![Value { site: 1, live: amount(640), total: amount(6400), freed_old: 9, ..Value::default() }],
        marks: vec![Mark { at_ms: 7, name: "após o início".into() }],
        collections: vec![Collection {
            at_ms: 8,
            generation: 2,
            count: 1,
            pause_us: 90,
            longest_us: 90,
            collected: 5,
            uncollectable: 1,
        }],
        ..Tick::default()
    }
}

fn ticks() -> Vec<Tick> {
    let second = Tick { at_ms: 2000, sites: vec![Site { node: 0, thread: 2 }], ..Tick::default() };
    let value = Value { site: 2, freed_soon: 1, ..Value::default() };
    vec![first_tick(), second, Tick { at_ms: 3000, last: true, values: vec![value], ..Tick::default() }]
}

fn written(header: &Header, ticks: &[Tick]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for tick in ticks {
        writer.write(tick).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let bytes = written(&header(), &ticks());
    assert_eq!(read(&bytes[..]).unwrap(), Capture { header: header(), ticks: ticks(), damage: None });
}

#[test]
fn every_tick_is_in_the_file_once_it_is_written() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    assert_eq!(read(&writer.sink()[..]).unwrap().ticks, []);
    for (index, tick) in ticks().iter().enumerate() {
        writer.write(tick).unwrap();
        let capture = read(&writer.sink()[..]).unwrap();
        assert_eq!((capture.ticks.as_slice(), capture.damage), (&ticks()[..=index], None));
    }
}

#[test]
fn a_tick_without_news_is_small() {
    let empty = written(&header(), &[]).len();
    let one = written(&header(), &[Tick::default()]).len() - empty;
    assert!(one < 3500, "{one} bytes");
}

/// All that reading part of `bytes`, or a changed form of them, may give.
fn read_in_part(bytes: &[u8]) -> Option<Capture> {
    let capture = read(bytes).ok()?;
    let whole = ticks();
    assert!(whole.starts_with(&capture.ticks), "a tick was read that was never written");
    if let Some(damage) = &capture.damage {
        assert_eq!(damage.ticks, capture.ticks.len() as u64);
        assert!(damage.byte <= bytes.len() as u64, "{damage}");
    }
    Some(capture)
}

/// Where each message begins, and the end of the stream, and the end.
fn boundaries() -> Vec<usize> {
    let mut ends: Vec<usize> =
        (0..=ticks().len()).map(|ticks_| written(&header(), &ticks()[..ticks_]).len() - 8).collect();
    ends.push(written(&header(), &ticks()).len());
    ends
}

#[test]
fn cut_at_any_byte_it_is_read_up_to_the_cut() {
    let bytes = written(&header(), &ticks());
    let boundaries = boundaries();
    for cut in 0..=bytes.len() {
        let capture = read_in_part(&bytes[..cut]);
        if cut < boundaries[0] {
            assert!(
                matches!((cut, read(&bytes[..cut])), (0, Err(Error::Empty)) | (1.., Err(Error::Damaged { .. }))),
                "{cut}"
            );
            continue;
        }
        let capture = capture.expect("the header is whole");
        let whole = boundaries[1..=ticks().len()].iter().filter(|&&end| end <= cut).count();
        assert_eq!(capture.ticks.len(), whole, "cut at {cut}");
        assert_eq!(
            capture.damage.map(|damage| damage.cut),
            (!boundaries.contains(&cut)).then_some(true),
            "cut at {cut}"
        );
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let bytes = written(&header(), &ticks());
    let boundaries = boundaries();
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1 << (place % 8);
        let Some(capture) = read_in_part(&bytes) else {
            assert!(place < boundaries[0], "byte {place}: nothing is read");
            continue;
        };
        let before = boundaries[1..=ticks().len()].iter().filter(|&&end| end <= place).count();
        let expected = if place < boundaries[0] { 0 } else { before };
        assert_eq!(capture.ticks.len(), expected, "byte {place}");
        assert!(capture.damage.is_some(), "byte {place}");
    }
}

#[test]
fn damage_says_where_it_is() {
    let mut bytes = written(&header(), &ticks());
    let second = boundaries()[1];
    bytes[second + 900] ^= 4;
    let damage = read(&bytes[..]).unwrap().damage.unwrap();
    assert_eq!(
        damage.to_string(),
        format!(
            "damaged in tick 2, which begins at byte {second}: its checksum is not that of its bytes and of those before it; \
             1 tick before it could be read"
        )
    );
    let cut = read(&bytes[..second + 7]).unwrap().damage.unwrap();
    assert!(cut.cut && cut.to_string().contains("the file ends in the middle of it"), "{cut}");
}

#[test]
fn bytes_after_the_end_are_damage() {
    let mut bytes = written(&header(), &ticks());
    bytes.extend(written(&header(), &ticks()));
    let capture = read(&bytes[..]).unwrap();
    assert_eq!(capture.ticks, ticks());
    assert!(capture.damage.is_some_and(|damage| damage.reason == "there are bytes after the end"));
}

#[test]
fn ticks_that_were_swapped_are_damage() {
    let bytes = written(&header(), &ticks());
    let [head, one, two, three, _] = boundaries()[..] else { panic!("three ticks") };
    let swapped = [&bytes[..one], &bytes[two..three], &bytes[one..two]].concat();
    assert!(head < one);
    assert_eq!(read_in_part(&swapped).map(|capture| capture.ticks.len()), Some(1));
}

#[test]
fn other_files_are_named() {
    let other = |bytes: &[u8]| read(bytes).expect_err("it is no capture").to_string();
    assert_eq!(other(b""), "empty: its process ended before it wrote anything");
    assert_eq!(other(b"PAR1\x15\x04"), "not a capture of heapkeeper, but a Parquet file");
    assert_eq!(other(b"ARROW1\0\0"), "not a capture of heapkeeper, but an Arrow file, not a stream");
    assert_eq!(other(b"print('hello')\n"), "not a capture of heapkeeper, but something else");
    assert_eq!(
        other(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        "not a capture of heapkeeper, but an Arrow stream that ends at once"
    );

    let schema = Schema::new(vec![Field::new("checksum", DataType::UInt64, false)]);
    let mut stream = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    let column = std::sync::Arc::new(UInt64Array::from(vec![1]));
    stream.write(&RecordBatch::try_new(schema.into(), vec![column]).unwrap()).unwrap();
    assert_eq!(other(stream.get_ref()), "not a capture of heapkeeper, but another Arrow stream");
}

/// An empty capture with another schema than ours.
fn with_schema(change: impl FnOnce(&mut Schema)) -> Vec<u8> {
    let mut schema = columns::schema(&header()).unwrap().as_ref().clone();
    change(&mut schema);
    let mut stream = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    std::mem::take(stream.get_mut())
}

#[test]
fn a_newer_format_is_refused_and_an_older_one_read() {
    let of_format = |format: &str| with_schema(|schema| drop(schema.metadata.insert("heapkeeper.format", format)));
    assert!(matches!(read(&of_format("2")[..]), Err(Error::Newer { format }) if format == FORMAT + 1));
    let error = read(&of_format("2")[..]).unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("a later one"), "{error}");
    assert_eq!(read(&of_format("0")[..]).unwrap().header, header());
    assert!(matches!(read(&of_format("x")[..]), Err(Error::Damaged { .. })));
    assert!(matches!(read(&of_format("99999999999")[..]), Err(Error::Damaged { .. })));
}

#[test]
fn columns_may_be_missing_or_unknown_but_not_of_another_type() {
    let fields = |change: fn(&mut Vec<Field>)| {
        with_schema(|schema| {
            let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
            change(&mut fields);
            schema.fields = fields.into();
        })
    };
    let missing = fields(|fields| drop(fields.remove(1)));
    let unknown = fields(|fields| fields.insert(0, Field::new("pages", DataType::Float32, true)));
    let changed = fields(|fields| fields[0] = Field::new("at_ms", DataType::Utf8, false));
    let exotic = fields(|fields| fields.insert(0, Field::new("pages", DataType::Null, true)));
    let unsigned = fields(|fields| drop(fields.pop()));
    assert!(read(&missing[..]).is_ok() && read(&unknown[..]).is_ok());
    for bytes in [changed, exotic, unsigned] {
        assert!(matches!(read(&bytes[..]), Err(Error::Damaged { .. })));
    }
}

#[test]
fn numbers_of_what_is_not_there_are_damage() {
    let changes: [fn(&mut Tick); 5] = [
        |tick| tick.nodes[1].parent = 1,
        |tick| tick.nodes[0].code = 2,
        |tick| tick.sites[0].node = 2,
        |tick| tick.values[0].site = 2,
        |tick| tick.nodes[0].parent = Node::TRUNCATED - 1,
    ];
    for change in changes {
        let mut tick = first_tick();
        change(&mut tick);
        let capture = read(&written(&header(), &[Tick::default(), tick])[..]).unwrap();
        assert_eq!(capture.ticks.len(), 1);
        assert!(capture.damage.is_some_and(|Damage { reason, .. }| reason.ends_with("not there")));
    }
}

/// A disk with room for so many bytes.
struct Disk {
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_and_stays_one() {
    assert!(Writer::new(Disk { room: 100 }, &header()).is_err());
    let mut writer = Writer::new(Disk { room: boundaries()[1] + 10 }, &header()).unwrap();
    writer.write(&ticks()[0]).unwrap();
    assert_eq!(writer.write(&ticks()[1]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    writer.sink_mut().room = 1 << 20;
    assert!(writer.write(&ticks()[2]).is_err(), "a tick after part of another one cannot be read");
    assert!(writer.finish().is_err());
}

#[test]
fn the_reader_counts_what_it_read() {
    let bytes = written(&header(), &ticks());
    let mut reader = Reader::new(&bytes[..]).unwrap();
    assert_eq!(reader.bytes(), boundaries()[0] as u64);
    assert!(reader.next().is_some_and(|tick| tick == Ok(first_tick())));
    assert_eq!(reader.bytes(), boundaries()[1] as u64);
}

prop_compose! {
    fn amounts()(bytes in any::<u64>(), blocks in any::<u64>(), variance in 0.0..1e30) -> Amount {
        Amount { bytes, blocks, variance }
    }
}

/// Anything, with numbers that [`sound`] brings into range.
fn any_tick() -> impl Strategy<Value = Tick> {
    let code = (".*", ".*", any::<i32>(), vec(any::<u8>(), 0..40))
        .prop_map(|(function, file, first_line, line_table)| Code { function, file, first_line, line_table });
    let node = any::<(u32, u32, i32)>().prop_map(|(parent, code, offset_bytes)| Node { parent, code, offset_bytes });
    let site = any::<(u32, u64)>().prop_map(|(node, thread)| Site { node, thread });
    let thread = (any::<u64>(), ".*").prop_map(|(thread, name)| Thread { thread, name });
    let value = (any::<u32>(), [amounts(), amounts(), amounts()], any::<[u64; 3]>()).prop_map(
        |(site, [live, peak, total], [freed_soon, freed_young, freed_old])| Value {
            site,
            live,
            peak,
            total,
            freed_soon,
            freed_young,
            freed_old,
        },
    );
    let mark = (any::<u64>(), ".*").prop_map(|(at_ms, name)| Mark { at_ms, name });
    let collection = any::<(u8, [u64; 6])>().prop_map(|(generation, numbers)| {
        let [at_ms, count, pause_us, longest_us, collected, uncollectable] = numbers;
        Collection { at_ms, generation, count, pause_us, longest_us, collected, uncollectable }
    });
    let new = (vec(code, 0..4), vec(node, 0..6), vec(site, 0..6), vec(thread, 0..3));
    let rest = (vec(value, 0..6), vec(mark, 0..2), vec(collection, 0..3));
    (any::<[u64; 9]>(), any::<[bool; 2]>(), new, rest).prop_map(|(numbers, [last, stopped], new, rest)| {
        let [at_ms, rss_bytes, peak_rss_bytes, heap_bytes, outside_bytes, live_bytes, peak_bytes, peak_at_ms, lost] =
            numbers;
        let (codes, nodes, sites, threads) = new;
        let (values, marks, collections) = rest;
        Tick {
            at_ms,
            last,
            stopped,
            rss_bytes,
            peak_rss_bytes,
            heap_bytes,
            outside_bytes,
            live_bytes,
            peak_bytes,
            peak_at_ms,
            lost,
            codes,
            nodes,
            sites,
            threads,
            values,
            marks,
            collections,
        }
    })
}

/// Makes ticks name only what is there.
fn sound(mut ticks: Vec<Tick>) -> Vec<Tick> {
    let below = |number: u32, most: u32| number.checked_rem(most).unwrap_or(Node::EMPTY);
    let (mut codes, mut nodes, mut sites) = (0, 0, 0);
    for tick in &mut ticks {
        codes += tick.codes.len() as u32;
        if codes == 0 {
            tick.nodes.clear();
        }
        for node in &mut tick.nodes {
            node.code = below(node.code, codes);
            node.parent = below(node.parent, nodes);
            nodes += 1;
        }
        tick.sites.iter_mut().for_each(|site| site.node = below(site.node, nodes));
        sites += tick.sites.len() as u32;
        if sites == 0 {
            tick.values.clear();
        }
        tick.values.iter_mut().for_each(|value| value.site = below(value.site, sites));
    }
    ticks
}

proptest! {
    #[test]
    fn any_ticks_are_read_as_they_were_written(ticks in vec(any_tick(), 0..5), program in ".*", pid: u32, started: i64) {
        let header = Header { program, pid, started_unix_us: started, ..header() };
        let ticks = sound(ticks);
        let bytes = written(&header, &ticks);
        prop_assert_eq!(read(&bytes[..]).unwrap(), Capture { header, ticks, damage: None });
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..300), after in 0usize..4) {
        let whole = written(&header(), &ticks());
        let mut bytes = [&whole[..boundaries()[after]], &bytes].concat();
        read_in_part(&bytes);
        bytes.insert(0, 0xff);
        drop(read(&bytes[..]));
    }

    #[test]
    fn behind_the_checksums_nothing_panics_either(places in vec((0usize..20_000, any::<u8>()), 1..6)) {
        let mut bytes = written(&header(), &ticks());
        let length = bytes.len();
        for (place, value) in places {
            bytes[place % length] = value;
        }
        if let Ok(reader) = Reader::without_checksums(&bytes[..]) {
            reader.for_each(drop);
        }
    }
}
