//! Lines of source files, where the files are still to be had.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Larger files are not read for their lines.
const MAX_SOURCE_BYTES: u64 = 16 << 20;

/// Files read so far.
#[derive(Default)]
pub(crate) struct Sources(HashMap<PathBuf, Option<Source>>);

/// One file.
pub(crate) struct Source {
    bytes: Vec<u8>,
    /// Where each line begins.
    starts: Vec<usize>,
    /// When it was last written.
    pub(crate) changed: Option<SystemTime>,
}

impl Sources {
    /// A file as a code object names it, relative to the folder that the program began in.
    pub(crate) fn file(&mut self, folder: &str, file: &str) -> Option<&Source> {
        // `<string>`, `<frozen os>` and their like are no files.
        if file.is_empty() || file.starts_with('<') {
            return None;
        }
        let path = Path::new(folder).join(file);
        self.0.entry(path).or_insert_with_key(|path| Source::read(path)).as_ref()
    }

    /// Line `number` of a file, stripped; nothing if there is none or it is empty.
    pub(crate) fn line(&mut self, folder: &str, file: &str, number: u32) -> Option<String> {
        let line = self.file(folder, file)?.line(number)?;
        let line = line.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }
}

impl Source {
    fn read(path: &Path) -> Option<Source> {
        let metadata = std::fs::metadata(path).ok()?;
        // Not a pipe, which would block, nor something without end.
        if !metadata.is_file() || metadata.len() > MAX_SOURCE_BYTES {
            return None;
        }
        let bytes = std::fs::read(path).ok()?;
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(ends).filter(|&start| start < bytes.len()).collect();
        Some(Source { bytes, starts, changed: metadata.modified().ok() })
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> u32 {
        self.starts.len().try_into().unwrap_or(u32::MAX)
    }

    /// Line `number`, from 1, without its end.
    pub(crate) fn line(&self, number: u32) -> Option<String> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).copied().unwrap_or(self.bytes.len());
        let line = String::from_utf8_lossy(&self.bytes[start..end]);
        Some(line.trim_start_matches('\u{feff}').trim_end_matches(['\n', '\r']).to_owned())
    }
}
