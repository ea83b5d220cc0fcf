//! Arrow's framing: where a message begins and ends, checked before anybody decodes it.
//!
//! ```text
//! ff ff ff ff │ bytes of metadata, i32 │ metadata: a flatbuffer, padded to 8 │ body, of the length that the metadata says
//! ff ff ff ff │ 0                                                             the end of the stream
//! ```
//!
//! Lengths in a damaged file are any number. Memory is taken for bytes that came, never for bytes that were announced.

use std::io::{self, Read};

use arrow_ipc::{Message, MessageHeader, root_as_message};

const CONTINUATION: [u8; 4] = [0xff; 4];
/// The continuation mark and the length of the metadata.
pub(super) const PREFIX_BYTES: usize = 8;

/// A message whose length is right, and whose metadata is a sound flatbuffer.
pub(super) struct RawMessage {
    pub(super) prefix: [u8; PREFIX_BYTES],
    pub(super) metadata: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// What is wrong with the bytes of a message.
#[derive(Debug)]
pub(super) enum Flaw {
    /// They end too early.
    Cut,
    /// They are no message.
    Corrupt(&'static str),
    /// They cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Flaw::Io(error)
    }
}

impl RawMessage {
    pub(super) fn bytes(&self) -> u64 {
        (PREFIX_BYTES + self.metadata.len() + self.body.len()) as u64
    }

    /// The next message; none at the end of the stream, marked or not.
    pub(super) fn read(source: &mut impl Read) -> Result<Option<RawMessage>, Flaw> {
        let prefix = up_to(source, PREFIX_BYTES as u64)?;
        if prefix.is_empty() {
            return Ok(None);
        }
        if !prefix.starts_with(&CONTINUATION[..prefix.len().min(CONTINUATION.len())]) {
            return Err(Flaw::Corrupt("no message begins here"));
        }
        let prefix: [u8; PREFIX_BYTES] = prefix.try_into().map_err(|_| Flaw::Cut)?;
        let [.., a, b, c, d] = prefix;
        let length = u64::try_from(i32::from_le_bytes([a, b, c, d]));
        let length = length.map_err(|_| Flaw::Corrupt("a length is negative"))?;
        if length == 0 {
            return match up_to(source, 1)?.is_empty() {
                true => Ok(None),
                false => Err(Flaw::Corrupt("there are bytes after the end")),
            };
        }
        let metadata = exactly(source, length)?;
        let body_bytes = message(&metadata)?.bodyLength();
        let body_bytes = u64::try_from(body_bytes).map_err(|_| Flaw::Corrupt("a length is negative"))?;
        let body = exactly(source, body_bytes)?;
        Ok(Some(RawMessage { prefix, metadata, body }))
    }

    /// The metadata as a message.
    pub(super) fn message(&self) -> Result<Message<'_>, Flaw> {
        message(&self.metadata)
    }
}

fn message(metadata: &[u8]) -> Result<Message<'_>, Flaw> {
    root_as_message(metadata).map_err(|_| Flaw::Corrupt("a message is malformed"))
}

/// The record batch that a message holds: one row without nulls, whose buffers lie inside `body`, each a whole number of
/// elements of the size that `element_bytes` has for it. Arrow's own reader relies on the last.
pub(super) fn record_batch<'a>(
    message: &Message<'a>,
    body: &[u8],
    element_bytes: &[usize],
) -> Option<arrow_ipc::RecordBatch<'a>> {
    let inside = |number: i64| usize::try_from(number).ok().filter(|&number| number <= body.len());
    if message.header_type() != MessageHeader::RecordBatch {
        return None;
    }
    let batch = message.header_as_record_batch()?;
    if batch.length() != 1 || batch.compression().is_some() {
        return None;
    }
    for node in batch.nodes()? {
        inside(node.length())?;
        if node.null_count() != 0 {
            return None;
        }
    }
    let buffers = batch.buffers()?;
    if buffers.len() != element_bytes.len() {
        return None;
    }
    for (buffer, element_bytes) in buffers.iter().zip(element_bytes) {
        inside(buffer.offset())?;
        let length = inside(buffer.length())?;
        inside(buffer.offset().checked_add(buffer.length())?)?;
        if length % element_bytes != 0 {
            return None;
        }
    }
    Some(batch)
}

/// As many bytes as there are, at most `most`.
fn up_to(source: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn exactly(source: &mut impl Read, length: u64) -> Result<Vec<u8>, Flaw> {
    let bytes = up_to(source, length)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(Flaw::Cut) }
}
