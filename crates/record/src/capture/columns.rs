//! The columns of a capture: a tick becomes a record batch of one row, and such a row a tick again.
//!
//! [`columns`] alone says which columns there are; the schema is that of an empty tick. Columns are found by name when read:
//! one that an older writer did not know reads as zero or nothing, one that we do not know is passed over.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int32Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};

use super::{Amount, Code, Collection, FORMAT, Header, Mark, Node, Site, Thread, Tick, Value};

/// The last column: see [`super::writer`].
pub(super) const CHECKSUM: &str = "checksum";
/// What stands there until the bytes before it are known.
pub(super) const NO_CHECKSUM: u64 = 0x6368_6563_6b73_756d;

/// The key in the schema's metadata by which a capture is known.
pub(super) const FORMAT_KEY: &str = "heapkeeper.format";
const KEYS: &str = "heapkeeper.";

/// Offsets inside a batch are of 31 bits.
const MOST: usize = i32::MAX as usize;

type Column = (&'static str, ArrayRef);

/// All columns of a tick.
fn columns(tick: &Tick) -> Result<Vec<Column>, ArrowError> {
    let one = |value: u64| number::<UInt64Type, u64>(&[value], |&value| value);
    Ok(vec![
        ("at_ms", one(tick.at_ms)),
        ("last", truth(tick.last)),
        ("stopped", truth(tick.stopped)),
        ("rss_bytes", one(tick.rss_bytes)),
        ("peak_rss_bytes", one(tick.peak_rss_bytes)),
        ("heap_bytes", one(tick.heap_bytes)),
        ("outside_bytes", one(tick.outside_bytes)),
        ("live_bytes", one(tick.live_bytes)),
        ("peak_bytes", one(tick.peak_bytes)),
        ("peak_at_ms", one(tick.peak_at_ms)),
        ("lost", one(tick.lost)),
        ("codes", codes(&tick.codes)?),
        ("nodes", nodes(&tick.nodes)?),
        ("sites", sites(&tick.sites)?),
        ("threads", threads(&tick.threads)?),
        ("values", values(&tick.values)?),
        ("marks", marks(&tick.marks)?),
        ("collections", collections(&tick.collections)?),
        (CHECKSUM, one(NO_CHECKSUM)),
    ])
}

fn codes(codes: &[Code]) -> Result<ArrayRef, ArrowError> {
    list(vec![
        ("function", text(codes, |code| &code.function)?),
        ("file", text(codes, |code| &code.file)?),
        ("first_line", number::<Int32Type, _>(codes, |code| code.first_line)),
        ("line_table", bytes(codes, |code| &code.line_table)?),
    ])
}

fn nodes(nodes: &[Node]) -> Result<ArrayRef, ArrowError> {
    list(vec![
        ("parent", number::<UInt32Type, _>(nodes, |node| node.parent)),
        ("code", number::<UInt32Type, _>(nodes, |node| node.code)),
        ("offset_bytes", number::<Int32Type, _>(nodes, |node| node.offset_bytes)),
    ])
}

fn sites(sites: &[Site]) -> Result<ArrayRef, ArrowError> {
    list(vec![
        ("node", number::<UInt32Type, _>(sites, |site| site.node)),
        ("thread", number::<UInt64Type, _>(sites, |site| site.thread)),
    ])
}

fn threads(threads: &[Thread]) -> Result<ArrayRef, ArrowError> {
    list(vec![
        ("thread", number::<UInt64Type, _>(threads, |thread| thread.thread)),
        ("name", text(threads, |thread| &thread.name)?),
    ])
}

fn values(values: &[Value]) -> Result<ArrayRef, ArrowError> {
    list(vec![
        ("site", number::<UInt32Type, _>(values, |value| value.site)),
        ("live_bytes", number::<UInt64Type, _>(values, |value| value.live.bytes)),
        ("live_blocks", number::<UInt64Type, _>(values, |value| value.live.blocks)),
        ("live_variance", number::<Float64Type, _>(values, |value| value.live.variance)),
        ("peak_bytes", number::<UInt64Type, _>(values, |value| value.peak.bytes)),
        ("peak_blocks", number::<UInt64Type, _>(values, |value| value.peak.blocks)),
        ("peak_variance", number::<Float64Type, _>(values, |value| value.peak.variance)),
        ("total_bytes", number::<UInt64Type, _>(values, |value| value.total.bytes)),
        ("total_blocks", number::<UInt64Type, _>(values, |value| value.total.blocks)),
        ("total_variance", number::<Float64Type, _>(values, |value| value.total.variance)),
        ("freed_soon", number::<UInt64Type, _>(values, |value| value.freed_soon)),
        ("freed_young", number::<UInt64Type, _>(values, |value| value.freed_young)),
        ("freed_old", number::<UInt64Type, _>(values, |value| value.freed_old)),
    ])
}

fn marks(marks: &[Mark]) -> Result<ArrayRef, ArrowError> {
    list(vec![("at_ms", number::<UInt64Type, _>(marks, |mark| mark.at_ms)), ("name", text(marks, |mark| &mark.name)?)])
}

fn collections(collections: &[Collection]) -> Result<ArrayRef, ArrowError> {
    list(vec![
        ("at_ms", number::<UInt64Type, _>(collections, |collection| collection.at_ms)),
        ("generation", number::<UInt8Type, _>(collections, |collection| collection.generation)),
        ("count", number::<UInt64Type, _>(collections, |collection| collection.count)),
        ("pause_us", number::<UInt64Type, _>(collections, |collection| collection.pause_us)),
        ("longest_us", number::<UInt64Type, _>(collections, |collection| collection.longest_us)),
        ("collected", number::<UInt64Type, _>(collections, |collection| collection.collected)),
        ("uncollectable", number::<UInt64Type, _>(collections, |collection| collection.uncollectable)),
    ])
}

fn truth(value: bool) -> ArrayRef {
    Arc::new(BooleanArray::from(vec![value]))
}

fn number<T: ArrowPrimitiveType, R>(records: &[R], of: impl Fn(&R) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(records.iter().map(of)))
}

fn text<R>(records: &[R], of: impl Fn(&R) -> &String) -> Result<ArrayRef, ArrowError> {
    fits(records.iter().map(|record| of(record).len()))?;
    Ok(Arc::new(StringArray::from_iter_values(records.iter().map(of))))
}

fn bytes<R>(records: &[R], of: impl Fn(&R) -> &Vec<u8>) -> Result<ArrayRef, ArrowError> {
    fits(records.iter().map(|record| of(record).len()))?;
    Ok(Arc::new(BinaryArray::from_iter_values(records.iter().map(of))))
}

/// Arrow's constructors panic where offsets overflow.
fn fits(mut lengths: impl Iterator<Item = usize>) -> Result<(), ArrowError> {
    let sum = lengths.try_fold(0usize, |sum, length| sum.checked_add(length));
    match sum {
        Some(sum) if sum <= MOST => Ok(()),
        _ => Err(ArrowError::InvalidArgumentError("a tick holds more than 2 GiB of text".to_owned())),
    }
}

/// One row that holds a list of records.
fn list(columns: Vec<Column>) -> Result<ArrayRef, ArrowError> {
    let (fields, arrays) = unzip(columns);
    let records = StructArray::try_new(fields, arrays, None)?;
    if records.len() > MOST {
        return Err(ArrowError::InvalidArgumentError("a tick holds more than 2³¹ records".to_owned()));
    }
    let item = Arc::new(Field::new("item", records.data_type().clone(), false));
    let offsets = OffsetBuffer::from_lengths([records.len()]);
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(records), None)?))
}

fn unzip(columns: Vec<Column>) -> (Fields, Vec<ArrayRef>) {
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), false)).collect();
    (fields, columns.into_iter().map(|(_, array)| array).collect())
}

/// The schema of a capture with this header.
pub(super) fn schema(header: &Header) -> Result<SchemaRef, ArrowError> {
    let (fields, _) = unzip(columns(&Tick::default())?);
    Ok(Arc::new(Schema::new_with_metadata(fields, metadata(header)?)))
}

/// A tick as one row.
pub(super) fn batch(tick: &Tick, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let (_, arrays) = unzip(columns(tick)?);
    RecordBatch::try_new(Arc::clone(schema), arrays)
}

fn metadata(header: &Header) -> Result<HashMap<String, String>, ArrowError> {
    let json = |value: serde_json::Result<String>| value.map_err(|error| ArrowError::JsonError(error.to_string()));
    let (major, minor) = header.python_version;
    let entries = [
        ("format", FORMAT.to_string()),
        ("version", header.version.clone()),
        ("python", header.python.clone()),
        ("python_version", format!("{major}.{minor}")),
        ("program", header.program.clone()),
        ("command", json(serde_json::to_string(&header.command))?),
        ("pid", header.pid.to_string()),
        ("parent_pid", header.parent_pid.to_string()),
        ("started_unix_us", header.started_unix_us.to_string()),
        ("sample_bytes", header.sample_bytes.to_string()),
        ("folder", header.folder.clone()),
        ("host", json(serde_json::to_string(&header.host))?),
    ];
    Ok(entries.into_iter().map(|(key, value)| (format!("{KEYS}{key}"), value)).collect())
}

/// The header that a schema carries; or the key whose value cannot be read.
pub(super) fn header(schema: &Schema) -> Result<Header, &'static str> {
    let value = |key: &str| schema.metadata.get(&format!("{KEYS}{key}")).cloned();
    let text = |key: &str| value(key).unwrap_or_default();
    // A key that an older writer did not know is absent; one that is there must be sound.
    fn parsed<T: Default>(
        value: Option<String>,
        key: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, &'static str> {
        value.map_or(Ok(T::default()), |value| read(&value).ok_or(key))
    }
    let version = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    Ok(Header {
        version: text("version"),
        python: text("python"),
        python_version: parsed(value("python_version"), "python_version", version)?,
        program: text("program"),
        command: parsed(value("command"), "command", |text| serde_json::from_str(text).ok())?,
        pid: parsed(value("pid"), "pid", |text| text.parse().ok())?,
        parent_pid: parsed(value("parent_pid"), "parent_pid", |text| text.parse().ok())?,
        started_unix_us: parsed(value("started_unix_us"), "started_unix_us", |text| text.parse().ok())?,
        sample_bytes: parsed(value("sample_bytes"), "sample_bytes", |text| text.parse().ok())?,
        folder: text("folder"),
        host: parsed(value("host"), "host", |text| serde_json::from_str(text).ok())?,
    })
}

/// Whether rows of this schema can be read: what we know has the type we know it by, and the rest is of plain types.
pub(super) fn is_readable(schema: &Schema) -> bool {
    let Ok(columns) = columns(&Tick::default()) else { return false };
    let (ours, _) = unzip(columns);
    let has_checksum = schema.fields().last().is_some_and(|field| field.name() == CHECKSUM);
    has_checksum && reads_as(&DataType::Struct(ours), &DataType::Struct(schema.fields().clone()))
}

/// Whether a column of type `theirs` can be read as one of type `ours`.
fn reads_as(ours: &DataType, theirs: &DataType) -> bool {
    match (ours, theirs) {
        (DataType::List(ours), DataType::List(theirs)) => reads_as(ours.data_type(), theirs.data_type()),
        (DataType::Struct(ours), DataType::Struct(theirs)) => {
            theirs.iter().all(|field| match ours.iter().find(|known| known.name() == field.name()) {
                Some(known) => reads_as(known.data_type(), field.data_type()),
                None => is_plain(field.data_type()),
            })
        }
        (ours, theirs) => ours == theirs,
    }
}

fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_plain(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_plain(field.data_type())),
        DataType::Utf8 | DataType::Binary | DataType::Boolean => true,
        plain => plain.is_integer() || plain.is_floating(),
    }
}

/// Bytes of an element of each buffer in a batch of this schema, in the order in which Arrow lays them out: of each column the
/// validity, the offsets where it has some, the data, then the columns inside it. Bits and bytes count as 1.
pub(super) fn element_bytes(schema: &Schema) -> Vec<usize> {
    fn add(data_type: &DataType, sizes: &mut Vec<usize>) {
        sizes.push(1);
        match data_type {
            DataType::List(item) => {
                sizes.push(size_of::<i32>());
                add(item.data_type(), sizes);
            }
            DataType::Struct(fields) => fields.iter().for_each(|field| add(field.data_type(), sizes)),
            DataType::Utf8 | DataType::Binary => sizes.extend([size_of::<i32>(), 1]),
            plain => sizes.push(plain.primitive_width().unwrap_or(1)),
        }
    }
    let mut sizes = Vec::new();
    schema.fields().iter().for_each(|field| add(field.data_type(), &mut sizes));
    sizes
}

/// The tick in a batch of one row. A column that is not there reads as zero or nothing.
pub(super) fn tick(batch: &RecordBatch) -> Tick {
    let one = |name| number_at::<UInt64Type>(batch.column_by_name(name))(0);
    let is = |name| {
        let column = batch.column_by_name(name).and_then(|column| column.as_boolean_opt());
        column.is_some_and(|column| column.value(0))
    };
    let many =
        |name| Records(batch.column_by_name(name).and_then(|column| column.as_list_opt::<i32>()).and_then(first));
    Tick {
        at_ms: one("at_ms"),
        last: is("last"),
        stopped: is("stopped"),
        rss_bytes: one("rss_bytes"),
        peak_rss_bytes: one("peak_rss_bytes"),
        heap_bytes: one("heap_bytes"),
        outside_bytes: one("outside_bytes"),
        live_bytes: one("live_bytes"),
        peak_bytes: one("peak_bytes"),
        peak_at_ms: one("peak_at_ms"),
        lost: one("lost"),
        codes: many("codes").codes(),
        nodes: many("nodes").nodes(),
        sites: many("sites").sites(),
        threads: many("threads").threads(),
        values: many("values").values(),
        marks: many("marks").marks(),
        collections: many("collections").collections(),
    }
}

fn first(lists: &ListArray) -> Option<StructArray> {
    (!lists.is_empty()).then(|| lists.value(0)).and_then(|records| records.as_struct_opt().cloned())
}

fn number_at<T: ArrowPrimitiveType>(column: Option<&ArrayRef>) -> impl Fn(usize) -> T::Native {
    let numbers = column.and_then(|column| column.as_primitive_opt::<T>());
    move |row| numbers.map_or(T::Native::default(), |numbers| numbers.value(row))
}

/// The list of records in a row, where there is one.
struct Records(Option<StructArray>);

impl Records {
    fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.0.as_ref()?.column_by_name(name)
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str) -> impl Fn(usize) -> T::Native {
        number_at::<T>(self.column(name))
    }

    fn text(&self, name: &str) -> impl Fn(usize) -> String {
        let texts = self.column(name).and_then(|column| column.as_string_opt::<i32>());
        move |row| texts.map_or(String::new(), |texts| texts.value(row).to_owned())
    }

    fn bytes(&self, name: &str) -> impl Fn(usize) -> Vec<u8> {
        let bytes = self.column(name).and_then(|column| column.as_binary_opt::<i32>());
        move |row| bytes.map_or(Vec::new(), |bytes| bytes.value(row).to_owned())
    }

    fn amount(&self, bytes: &str, blocks: &str, variance: &str) -> impl Fn(usize) -> Amount {
        let bytes = self.number::<UInt64Type>(bytes);
        let blocks = self.number::<UInt64Type>(blocks);
        let variance = self.number::<Float64Type>(variance);
        move |row| Amount { bytes: bytes(row), blocks: blocks(row), variance: variance(row) }
    }

    fn each<R>(&self, read: impl Fn(usize) -> R) -> Vec<R> {
        (0..self.0.as_ref().map_or(0, |records| records.len())).map(read).collect()
    }

    fn codes(&self) -> Vec<Code> {
        let (function, file) = (self.text("function"), self.text("file"));
        let (first_line, line_table) = (self.number::<Int32Type>("first_line"), self.bytes("line_table"));
        self.each(|row| Code {
            function: function(row),
            file: file(row),
            first_line: first_line(row),
            line_table: line_table(row),
        })
    }

    fn nodes(&self) -> Vec<Node> {
        let (parent, code) = (self.number::<UInt32Type>("parent"), self.number::<UInt32Type>("code"));
        let offset_bytes = self.number::<Int32Type>("offset_bytes");
        self.each(|row| Node { parent: parent(row), code: code(row), offset_bytes: offset_bytes(row) })
    }

    fn sites(&self) -> Vec<Site> {
        let (node, thread) = (self.number::<UInt32Type>("node"), self.number::<UInt64Type>("thread"));
        self.each(|row| Site { node: node(row), thread: thread(row) })
    }

    fn threads(&self) -> Vec<Thread> {
        let (thread, name) = (self.number::<UInt64Type>("thread"), self.text("name"));
        self.each(|row| Thread { thread: thread(row), name: name(row) })
    }

    fn values(&self) -> Vec<Value> {
        let site = self.number::<UInt32Type>("site");
        let live = self.amount("live_bytes", "live_blocks", "live_variance");
        let peak = self.amount("peak_bytes", "peak_blocks", "peak_variance");
        let total = self.amount("total_bytes", "total_blocks", "total_variance");
        let [soon, young, old] = ["freed_soon", "freed_young", "freed_old"].map(|name| self.number::<UInt64Type>(name));
        self.each(|row| Value {
            site: site(row),
            live: live(row),
            peak: peak(row),
            total: total(row),
            freed_soon: soon(row),
            freed_young: young(row),
            freed_old: old(row),
        })
    }

    fn marks(&self) -> Vec<Mark> {
        let (at_ms, name) = (self.number::<UInt64Type>("at_ms"), self.text("name"));
        self.each(|row| Mark { at_ms: at_ms(row), name: name(row) })
    }

    fn collections(&self) -> Vec<Collection> {
        let (at_ms, generation) = (self.number::<UInt64Type>("at_ms"), self.number::<UInt8Type>("generation"));
        let [count, pause, longest, collected, uncollectable] =
            ["count", "pause_us", "longest_us", "collected", "uncollectable"]
                .map(|name| self.number::<UInt64Type>(name));
        self.each(|row| Collection {
            at_ms: at_ms(row),
            generation: generation(row),
            count: count(row),
            pause_us: pause(row),
            longest_us: longest(row),
            collected: collected(row),
            uncollectable: uncollectable(row),
        })
    }
}
