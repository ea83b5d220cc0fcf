//! A table with a row for each stack.
//!
//! | column | type | |
//! |---|---|---|
//! | `frames` | list of struct of `function` string, `file` string or null, `line` uint32 or null | innermost first |
//! | `truncated` | boolean | outer frames were left out |
//! | `thread` | string | the thread's name |
//! | `bytes`, `blocks` | uint64 | |
//!
//! The file's metadata has the record's title under `title`. Columns are written as they are stored, without Arrow's arrays in
//! between, which would be most of the code.

use std::collections::HashMap;
use std::sync::Arc;

use heapkeeper_record::Frame;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::stacks::{Stack, Stacks};

const SCHEMA: &str = "
message stacks {
  required group frames (LIST) {
    repeated group list {
      required group element {
        required binary function (STRING);
        optional binary file (STRING);
        optional int32 line (INTEGER(32, false));
      }
    }
  }
  required boolean truncated;
  required binary thread (STRING);
  required int64 bytes (INTEGER(64, false));
  required int64 blocks (INTEGER(64, false));
}";

/// Rows that are handed over at once.
const BATCH_ROWS: usize = 4096;

/// Stacks as a Parquet file, compressed with Snappy.
///
/// # Errors
/// A name that the format has no room for: of 2³¹ bytes or more.
pub fn parquet(stacks: &Stacks) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("heapkeeper ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![KeyValue::new("title".to_owned(), stacks.title.clone())]));
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    write_rows(&mut writer, &stacks.entries)?;
    writer.into_inner()
}

fn write_rows(writer: &mut SerializedFileWriter<Vec<u8>>, entries: &[Stack]) -> Result<(), ParquetError> {
    let mut rows = Rows { entries, group: writer.next_row_group()?, texts: HashMap::new() };
    rows.frames::<ByteArrayType>(|texts, frame| Some(shared(texts, &frame.function)), false)?;
    rows.frames::<ByteArrayType>(|texts, frame| (!frame.file.is_empty()).then(|| shared(texts, &frame.file)), true)?;
    // Parquet stores unsigned numbers in the bits of signed ones.
    rows.frames::<Int32Type>(|_, frame| (frame.line > 0).then_some(frame.line.cast_signed()), true)?;
    rows.column::<BoolType>(|_, stack| stack.truncated)?;
    rows.column::<ByteArrayType>(|texts, stack| shared(texts, &stack.thread))?;
    rows.column::<Int64Type>(|_, stack| stack.bytes.cast_signed())?;
    rows.column::<Int64Type>(|_, stack| stack.blocks.cast_signed())?;
    rows.group.close()?;
    Ok(())
}

/// Each text once, however often it is written.
type Texts<'a> = HashMap<&'a str, ByteArray>;

fn shared<'a>(texts: &mut Texts<'a>, text: &'a str) -> ByteArray {
    texts.entry(text).or_insert_with(|| ByteArray::from(text)).clone()
}

/// The rows of the file, written column by column in the schema's order.
struct Rows<'a, 'w> {
    entries: &'a [Stack],
    group: SerializedRowGroupWriter<'w, Vec<u8>>,
    texts: Texts<'a>,
}

impl<'a> Rows<'a, '_> {
    /// Writes a column with a value for each stack.
    fn column<T: DataType>(&mut self, of: impl Fn(&mut Texts<'a>, &'a Stack) -> T::T) -> Result<(), ParquetError> {
        let Some(mut column) = self.group.next_column()? else { return Ok(()) };
        for stacks in self.entries.chunks(BATCH_ROWS) {
            let values: Vec<T::T> = stacks.iter().map(|stack| of(&mut self.texts, stack)).collect();
            column.typed::<T>().write_batch(&values, None, None)?;
        }
        column.close()
    }

    /// Writes a column with a value, or null where it is optional, for each frame of each stack.
    ///
    /// Values lie one behind the other; two numbers beside each say where it belongs (S. Melnik et al., *Dremel*, 2010, 4.1):
    /// how far it is defined (0: the stack has no frame, 1: a frame is there, 2: and its optional value), and whether it
    /// repeats (0: the first of a stack, 1: a further one).
    fn frames<T: DataType>(
        &mut self,
        of: impl Fn(&mut Texts<'a>, &'a Frame) -> Option<T::T>,
        optional: bool,
    ) -> Result<(), ParquetError> {
        let Some(mut column) = self.group.next_column()? else { return Ok(()) };
        for stacks in self.entries.chunks(BATCH_ROWS) {
            let (mut values, mut defined, mut repeats) = (Vec::new(), Vec::new(), Vec::new());
            for stack in stacks {
                for (index, frame) in stack.frames.iter().enumerate() {
                    let value = of(&mut self.texts, frame);
                    defined.push(1 + i16::from(optional && value.is_some()));
                    repeats.push(i16::from(index > 0));
                    values.extend(value);
                }
                if stack.frames.is_empty() {
                    defined.push(0);
                    repeats.push(0);
                }
            }
            column.typed::<T>().write_batch(&values, Some(&defined), Some(&repeats))?;
        }
        column.close()
    }
}
