//! A table with a row for each stack.
//!
//! | column | type | |
//! |---|---|---|
//! | `frames` | list of struct of `function` string, `file` string or null, `line` uint32 or null | innermost first |
//! | `truncated` | boolean | outer frames were left out |
//! | `thread` | string | the thread's name |
//! | `bytes`, `blocks` | uint64 | |
//!
//! The file's metadata has the record's title under `title`.

use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, BooleanArray, ListArray, RecordBatch, StringArray, StructArray, UInt32Array, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::stacks::{Stack, Stacks};

/// Rows that are handed over at once. What they may hold is bounded by 2³¹ frames.
const BATCH_ROWS: usize = 8192;

/// Stacks as a Parquet file, compressed with Snappy.
///
/// # Errors
/// A table that the format has no room for: rows of more than 2³¹ bytes.
pub fn parquet(stacks: &Stacks) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(schema());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("heapkeeper ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![KeyValue::new("title".to_owned(), stacks.title.clone())]))
        .build();
    // Arrow's own schema would have readers see dictionaries where there are strings.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)?;
    for entries in stacks.entries.chunks(BATCH_ROWS) {
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns(entries)?)?)?;
    }
    writer.into_inner()
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("frames", DataType::List(frame_field()), false),
        Field::new("truncated", DataType::Boolean, false),
        Field::new("thread", DataType::Utf8, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("blocks", DataType::UInt64, false),
    ])
}

fn frame_field() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(frame_fields()), false))
}

fn frame_fields() -> Fields {
    // A name that comes again takes four bytes in memory, not its length.
    let name = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Fields::from(vec![
        Field::new("function", name.clone(), false),
        Field::new("file", name, true),
        Field::new("line", DataType::UInt32, true),
    ])
}

fn columns(entries: &[Stack]) -> Result<Vec<ArrayRef>, ParquetError> {
    let frames = || entries.iter().flat_map(|stack| &stack.frames);
    let mut functions = StringDictionaryBuilder::<Int32Type>::new();
    let mut files = StringDictionaryBuilder::<Int32Type>::new();
    for frame in frames() {
        functions.append(&frame.function)?;
        match frame.file.as_str() {
            "" => files.append_null(),
            file => drop(files.append(file)?),
        }
    }
    let lines = UInt32Array::from_iter(frames().map(|frame| Some(frame.line).filter(|&line| line > 0)));
    let columns: Vec<ArrayRef> = vec![Arc::new(functions.finish()), Arc::new(files.finish()), Arc::new(lines)];
    let frames = StructArray::try_new(frame_fields(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(entries.iter().map(|stack| stack.frames.len()));
    let numbers = |of: fn(&Stack) -> u64| UInt64Array::from_iter_values(entries.iter().map(of));
    Ok(vec![
        Arc::new(ListArray::try_new(frame_field(), offsets, Arc::new(frames), None)?),
        Arc::new(BooleanArray::from_iter(entries.iter().map(|stack| Some(stack.truncated)))),
        Arc::new(StringArray::from_iter_values(entries.iter().map(|stack| &stack.thread))),
        Arc::new(numbers(|stack| stack.bytes)),
        Arc::new(numbers(|stack| stack.blocks)),
    ])
}
