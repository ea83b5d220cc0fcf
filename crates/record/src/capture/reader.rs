//! Reads captures, damaged ones too: everything up to the damage, and where that is.
//!
//! Of each tick the framing is checked first, then its checksum, then that it names only what came before. So who gets a tick
//! may use its numbers as indices.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::{Endianness, MetadataVersion};
use arrow_schema::{Schema, SchemaRef};
use crc32fast::Hasher;

use super::columns::{self, FORMAT_KEY};
use super::message::{Flaw, RawMessage, record_batch};
use super::writer::CHECKSUM_BYTES;
use super::{FORMAT, Header, Node, Tick};

/// A capture as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capture {
    /// Who wrote it.
    pub header: Header,
    /// The ticks, in order. Each names only what it or an earlier one brought.
    pub ticks: Vec<Tick>,
    /// Why there are no more, where that is not the end of the capture.
    pub damage: Option<Damage>,
}

/// Where a capture cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Ticks that were read before.
    pub ticks: u64,
    /// Where the tick after them begins, in bytes from the start of the file.
    pub byte: u64,
    /// What is wrong there, as part of a sentence.
    pub reason: String,
    /// The file ends in the middle of a tick, as when its writer was killed; otherwise its bytes were changed.
    pub cut: bool,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Damage { ticks, byte, reason, .. } = self;
        write!(f, "damaged in tick {}, which begins at byte {byte}: {reason}; ", ticks + 1)?;
        match ticks {
            0 => write!(f, "no tick could be read"),
            1 => write!(f, "1 tick before it could be read"),
            ticks => write!(f, "{ticks} ticks before it could be read"),
        }
    }
}

/// Why nothing of a capture can be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The bytes cannot be read.
    Io(io::Error),
    /// There are no bytes: the process was killed before it wrote the header.
    Empty,
    /// It is something else.
    NotACapture {
        /// What it seems to be, as part of a sentence.
        what: &'static str,
    },
    /// The header is cut or changed.
    Damaged {
        /// What is wrong, as part of a sentence.
        reason: String,
    },
    /// A later heapkeeper wrote it.
    Newer {
        /// The format it has.
        format: u32,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => write!(f, "{error}"),
            Error::Empty => write!(f, "empty: its process ended before it wrote anything"),
            Error::NotACapture { what } => write!(f, "not a capture of heapkeeper, but {what}"),
            Error::Damaged { reason } => write!(f, "damaged at its beginning, so that nothing can be read: {reason}"),
            Error::Newer { format } => write!(
                f,
                "a capture of format {format}, and this heapkeeper reads formats up to {FORMAT}: \
                 read it with the heapkeeper that wrote it, or a later one"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Reads a whole capture.
///
/// # Errors
///
/// Where not even the header can be read. Damage behind it is told in [`Capture::damage`].
pub fn read(source: impl Read) -> Result<Capture, Error> {
    Reader::new(source)?.read_all()
}

/// Reads a capture tick by tick; a damaged one ends with the damage.
pub struct Reader<R: Read> {
    source: BufReader<R>,
    header: Header,
    schema: SchemaRef,
    version: MetadataVersion,
    /// See [`columns::element_bytes`].
    element_bytes: Vec<usize>,
    /// Of all bytes read so far; absent where checksums are not looked at.
    checksum: Option<Hasher>,
    /// Bytes read so far.
    bytes: u64,
    known: Known,
    ended: bool,
}

/// How much of everything the ticks brought so far.
#[derive(Default)]
struct Known {
    ticks: u64,
    codes: usize,
    nodes: usize,
    sites: usize,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// Where that cannot be done.
    pub fn new(source: R) -> Result<Self, Error> {
        Reader::open(source, true)
    }

    /// For tests of what lies behind the checksums.
    #[doc(hidden)]
    pub fn without_checksums(source: R) -> Result<Self, Error> {
        Reader::open(source, false)
    }

    fn open(source: R, with_checksums: bool) -> Result<Self, Error> {
        let mut source = BufReader::new(source);
        if let Some(error) = otherwise(io::BufRead::fill_buf(&mut source).map_err(Error::Io)?) {
            return Err(error);
        }
        let raw = match RawMessage::read(&mut source) {
            Ok(Some(raw)) => raw,
            Ok(None) => return Err(Error::NotACapture { what: "an Arrow stream that ends at once" }),
            Err(Flaw::Io(error)) => return Err(Error::Io(error)),
            Err(Flaw::Cut) => return Err(damaged("the file ends in the middle of the header")),
            Err(Flaw::Corrupt(reason)) => return Err(damaged(reason)),
        };
        let (schema, version) = schema(&raw)?;
        match schema.metadata.get(FORMAT_KEY).map(|format| format.parse()) {
            None => return Err(Error::NotACapture { what: "another Arrow stream" }),
            Some(Err(_)) => return Err(damaged("its format is no number")),
            Some(Ok(format)) if format > FORMAT => return Err(Error::Newer { format }),
            Some(Ok(_)) => {}
        }
        let header = columns::header(&schema).map_err(|key| damaged(&format!("its {key} is unreadable")))?;
        if !columns::is_readable(&schema) {
            return Err(damaged("its columns are not those of a capture"));
        }
        let mut reader = Reader {
            source,
            header,
            element_bytes: columns::element_bytes(&schema),
            schema: Arc::new(schema),
            version,
            checksum: with_checksums.then(Hasher::new),
            bytes: 0,
            known: Known::default(),
            ended: false,
        };
        reader.passed(&raw);
        Ok(reader)
    }

    /// Who wrote the capture.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_all(mut self) -> Result<Capture, Error> {
        let mut capture = Capture { header: std::mem::take(&mut self.header), ..Capture::default() };
        for tick in self {
            match tick {
                Ok(tick) => capture.ticks.push(tick),
                Err(damage) => capture.damage = Some(damage),
            }
        }
        Ok(capture)
    }

    fn next_tick(&mut self) -> Result<Option<Tick>, Flaw> {
        let Some(raw) = RawMessage::read(&mut self.source)? else { return Ok(None) };
        self.check_sum(&raw)?;
        let message = raw.message()?;
        let batch = record_batch(&message, &raw.body, &self.element_bytes);
        let batch = batch.ok_or(Flaw::Corrupt("a message holds no tick"))?;
        let malformed = |_| Flaw::Corrupt("a tick is malformed");
        let body = Buffer::from_slice_ref(&raw.body);
        let dictionaries = HashMap::new();
        let batch = RecordBatchDecoder::try_new(&body, batch, Arc::clone(&self.schema), &dictionaries, &self.version)
            .and_then(RecordBatchDecoder::read_record_batch)
            .map_err(malformed)?;
        if batch.num_rows() != 1 {
            return Err(Flaw::Corrupt("a tick is malformed"));
        }
        let tick = columns::tick(&batch);
        self.known.add(&tick)?;
        self.passed(&raw);
        Ok(Some(tick))
    }

    /// The last eight bytes must be the checksum of all before them.
    fn check_sum(&self, raw: &RawMessage) -> Result<(), Flaw> {
        let Some(before) = &self.checksum else { return Ok(()) };
        let (body, said) =
            raw.body.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Flaw::Corrupt("a tick has no checksum"))?;
        let mut checksum = before.clone();
        checksum.update(&raw.prefix);
        checksum.update(&raw.metadata);
        checksum.update(body);
        match u64::from(checksum.finalize()) == u64::from_le_bytes(*said) {
            true => Ok(()),
            false => Err(Flaw::Corrupt("its checksum is not that of its bytes and of those before it")),
        }
    }

    fn passed(&mut self, raw: &RawMessage) {
        self.bytes = self.bytes.saturating_add(raw.bytes());
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&raw.prefix);
            checksum.update(&raw.metadata);
            checksum.update(&raw.body);
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Tick, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let flaw = match self.next_tick() {
            Ok(Some(tick)) => return Some(Ok(tick)),
            Ok(None) => None,
            Err(flaw) => Some(flaw),
        };
        self.ended = true;
        flaw.map(|flaw| {
            let cut = matches!(flaw, Flaw::Cut);
            let reason = match flaw {
                Flaw::Cut => "the file ends in the middle of it".to_owned(),
                Flaw::Corrupt(reason) => reason.to_owned(),
                Flaw::Io(error) => error.to_string(),
            };
            Err(Damage { ticks: self.known.ticks, byte: self.bytes, reason, cut })
        })
    }
}

impl Known {
    /// Counts what a tick brings, if it names only what is known.
    fn add(&mut self, tick: &Tick) -> Result<(), Flaw> {
        let is_node =
            |node: u32, below: usize| node == Node::EMPTY || node == Node::TRUNCATED || (node as usize) < below;
        let unknown = |what| Err(Flaw::Corrupt(what));
        let codes = self.codes.saturating_add(tick.codes.len());
        for (new, node) in tick.nodes.iter().enumerate() {
            if !is_node(node.parent, self.nodes.saturating_add(new)) {
                return unknown("a stack has a caller that is not there");
            }
            if node.code as usize >= codes {
                return unknown("a stack runs code that is not there");
            }
        }
        let nodes = self.nodes.saturating_add(tick.nodes.len());
        if tick.sites.iter().any(|site| !is_node(site.node, nodes)) {
            return unknown("a site has a stack that is not there");
        }
        let sites = self.sites.saturating_add(tick.sites.len());
        if tick.values.iter().any(|value| value.site as usize >= sites) {
            return unknown("figures belong to a site that is not there");
        }
        *self = Known { ticks: self.ticks.saturating_add(1), codes, nodes, sites };
        Ok(())
    }
}

/// What the first bytes say where they are not those of a stream.
fn otherwise(first: &[u8]) -> Option<Error> {
    const OTHERS: [(&[u8], &str); 5] = [
        (b"PAR1", "a Parquet file"),
        (b"ARROW1", "an Arrow file, not a stream"),
        (b"\x1f\x8b", "a gzip file: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "a zstd file: unpack it first"),
        (b"PK\x03\x04", "a zip file"),
    ];
    if first.is_empty() {
        return Some(Error::Empty);
    }
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| first.starts_with(magic)) {
        return Some(Error::NotACapture { what });
    }
    let mark = first.len().min(4);
    (first[..mark] != [0xff; 4][..mark]).then_some(Error::NotACapture { what: "something else" })
}

fn schema(raw: &RawMessage) -> Result<(Schema, MetadataVersion), Error> {
    let other = Error::NotACapture { what: "another Arrow stream" };
    let Ok(message) = raw.message() else { return Err(other) };
    let Some(schema) = message.header_as_schema().filter(|schema| schema.endianness() == Endianness::Little) else {
        return Err(other);
    };
    Ok((try_fb_to_schema(schema).map_err(|_| other)?, message.version()))
}

fn damaged(reason: &str) -> Error {
    Error::Damaged { reason: reason.to_owned() }
}
