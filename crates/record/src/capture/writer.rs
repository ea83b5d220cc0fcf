//! Writes captures, on a thread of somebody else's process: nothing here panics, and an error is a value.
//!
//! A message is put together in memory and handed over in one piece, so that a process killed at any moment leaves whole
//! messages and at most the beginning of one more. Its last eight bytes are the value of the last column, the checksum: buffers
//! lie in the order of the columns, each padded to eight bytes, and that column is one number of eight bytes.

use std::io::{self, Write};

use arrow_ipc::MetadataVersion;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};
use crc32fast::Hasher;

use super::columns::{self, NO_CHECKSUM};
use super::{Header, Tick};

/// Bytes that buffers inside a message are padded to: the least that Arrow allows.
const ALIGNMENT_BYTES: usize = 8;
/// Bytes of a checksum.
pub(super) const CHECKSUM_BYTES: usize = size_of::<u64>();

/// Writes one capture to `W`.
pub struct Writer<W: Write> {
    sink: W,
    schema: SchemaRef,
    /// Encodes into memory.
    stream: StreamWriter<Vec<u8>>,
    /// Of all bytes written so far.
    checksum: Hasher,
    /// A message may have been written in part: nothing after it could be read.
    failed: bool,
}

impl<W: Write> Writer<W> {
    /// Starts a capture: writes the header.
    ///
    /// # Errors
    ///
    /// What `sink` says.
    pub fn new(sink: W, header: &Header) -> io::Result<Self> {
        let schema = columns::schema(header).map_err(io_error)?;
        let options = IpcWriteOptions::try_new(ALIGNMENT_BYTES, false, MetadataVersion::V5).map_err(io_error)?;
        let stream = StreamWriter::try_new_with_options(Vec::new(), &schema, options).map_err(io_error)?;
        let mut writer = Writer { sink, schema, stream, checksum: Hasher::new(), failed: false };
        let bytes = std::mem::take(writer.stream.get_mut());
        writer.hand_over(bytes)?;
        Ok(writer)
    }

    /// Writes a tick, and flushes.
    ///
    /// # Errors
    ///
    /// What the sink says. The capture then ends with the tick before: it cannot be written any further.
    pub fn write(&mut self, tick: &Tick) -> io::Result<()> {
        let batch = columns::batch(tick, &self.schema).map_err(io_error)?;
        let encoded = self.stream.write(&batch);
        let mut bytes = std::mem::take(self.stream.get_mut());
        encoded.map_err(io_error)?;
        let place = bytes.len().saturating_sub(CHECKSUM_BYTES);
        let (before, after) = bytes.split_at_mut(place);
        if *after != NO_CHECKSUM.to_le_bytes() {
            return Err(io::Error::other("the checksum is not the last value of an Arrow message"));
        }
        let mut checksum = self.checksum.clone();
        checksum.update(before);
        after.copy_from_slice(&u64::from(checksum.finalize()).to_le_bytes());
        self.hand_over(bytes)
    }

    /// Marks the end of the stream. A capture without that mark is one as well.
    ///
    /// # Errors
    ///
    /// What the sink says.
    pub fn finish(mut self) -> io::Result<W> {
        let ended = self.stream.finish();
        let bytes = std::mem::take(self.stream.get_mut());
        ended.map_err(io_error)?;
        self.hand_over(bytes)?;
        Ok(self.sink)
    }

    /// What it writes to.
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// What it writes to. Bytes that others put there end the capture.
    pub fn sink_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Writes a message, and gives its memory back to the encoder.
    fn hand_over(&mut self, mut bytes: Vec<u8>) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed: nothing can be added to this capture"));
        }
        self.failed = true;
        self.checksum.update(&bytes);
        self.sink.write_all(&bytes)?;
        self.sink.flush()?;
        self.failed = false;
        bytes.clear();
        *self.stream.get_mut() = bytes;
        Ok(())
    }
}

fn io_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        error => io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
    }
}
