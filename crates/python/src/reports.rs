//! Reports of captures for the verbs `report` and `lines`: bytes of files in, text out. No object is looked at.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::ptr;
use std::time::{Duration, Instant};

use heapkeeper_analysis::capture::Profile;
use heapkeeper_analysis::report::Style;
use heapkeeper_analysis::report::capture::{Query, render};
use heapkeeper_record::capture::Reader;
use pyo3_ffi::{self as ffi, PyObject};
use serde_json::json;

use crate::module::{native, text, to_json, truth, unsigned};

/// Work that is done before is not spoken of.
const QUIET: Duration = Duration::from_millis(500);
/// Time between two words of progress.
const PAUSE: Duration = Duration::from_millis(200);

native! {
    /// `capture_report(descriptors, query, columns, color, progress)`: see `_native.pyi`.
    fn py_capture_report(descriptors, query, columns, color, progress) {
        let Some(Asked { files, query, style, progress }) = asked([descriptors, query, columns, color, progress]) else {
            return ptr::null_mut();
        };
        to_json(serde_json::to_string(&answer(files, &query, style, progress)))
    }
}

/// What a function that reads captures is asked for.
pub(crate) struct Asked {
    pub(crate) files: Vec<ManuallyDrop<File>>,
    /// JSON.
    pub(crate) query: String,
    pub(crate) style: Style,
    /// Whether to say how far the work is.
    pub(crate) progress: bool,
}

/// The arguments of such a function; `None` with an exception set for what they cannot be.
///
/// # Safety
/// The GIL is held.
pub(crate) unsafe fn asked([descriptors, query, columns, color, progress]: [*mut PyObject; 5]) -> Option<Asked> {
    // SAFETY: the GIL is held.
    unsafe {
        let (files, query) = (files(descriptors)?, text(query)?);
        let (columns, color, progress) = (unsigned(columns)?, truth(color)?, truth(progress)?);
        let style = Style { columns: usize::try_from(columns).unwrap_or(usize::MAX), color };
        Some(Asked { files, query, style, progress })
    }
}

/// The files behind a tuple of descriptors, which stay the caller's; `None` with an exception set for anything else.
///
/// # Safety
/// The GIL is held.
unsafe fn files(descriptors: *mut PyObject) -> Option<Vec<ManuallyDrop<File>>> {
    // SAFETY: the GIL is held; each item is borrowed while it is read. Files that are not closed here cannot be closed twice.
    unsafe {
        let count = ffi::PyTuple_Size(descriptors);
        if count < 0 {
            return None;
        }
        let mut files = Vec::new();
        for index in 0..count {
            let descriptor = unsigned(ffi::PyTuple_GetItem(descriptors, index))?;
            let descriptor = i32::try_from(descriptor).unwrap_or(i32::MAX);
            files.push(ManuallyDrop::new(File::from_raw_fd(descriptor)));
        }
        Some(files)
    }
}

fn answer(files: Vec<ManuallyDrop<File>>, query: &str, style: Style, progress: bool) -> serde_json::Value {
    let query: Query = match serde_json::from_str(query) {
        Ok(query) => query,
        Err(error) => return json!({"problem": error.to_string()}),
    };
    let Loaded { profile, errors, damages } = load(&files, progress);
    let Some(mut profile) = profile else { return json!({"errors": errors}) };
    match render(&mut profile, &query, style) {
        Ok(text) => json!({"text": text, "errors": errors, "damages": damages}),
        Err(problem) => json!({"problem": problem.to_string(), "errors": errors, "damages": damages}),
    }
}

/// What came of files, in their order.
pub(crate) struct Loaded {
    /// All that are captures, as one program.
    pub(crate) profile: Option<Profile>,
    /// Why nothing of a file can be read.
    pub(crate) errors: Vec<Option<String>>,
    /// Why a capture cannot be read to its end.
    pub(crate) damages: Vec<Option<String>>,
}

/// Reads captures.
pub(crate) fn load(files: &[ManuallyDrop<File>], progress: bool) -> Loaded {
    let total = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let (mut readers, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        let file: &File = file;
        match Reader::new(file) {
            Ok(reader) => {
                readers.push(reader);
                errors.push(None);
            }
            Err(error) => errors.push(Some(error.to_string())),
        }
    }
    if readers.is_empty() {
        return Loaded { profile: None, damages: vec![None; errors.len()], errors };
    }
    let mut progress = progress.then(|| Progress::new(total));
    let (profile, damages) = read(readers, &mut progress);
    drop(progress);
    let mut damages = damages.into_iter();
    let damages = errors.iter().map(|error| if error.is_some() { None } else { damages.next().flatten() }).collect();
    Loaded { profile: Some(profile), errors, damages }
}

fn read<R: Read>(readers: Vec<Reader<R>>, progress: &mut Option<Progress>) -> (Profile, Vec<Option<String>>) {
    let (profile, damages) = Profile::read(readers, |bytes| {
        if let Some(progress) = progress {
            progress.say(bytes);
        }
    });
    (profile, damages.into_iter().map(|damage| damage.map(|damage| damage.to_string())).collect())
}

/// A word on standard error, a terminal, of work that takes long.
struct Progress {
    total: u64,
    next: Instant,
    has_spoken: bool,
}

impl Progress {
    fn new(total: u64) -> Progress {
        Progress { total, next: Instant::now() + QUIET, has_spoken: false }
    }

    fn say(&mut self, bytes: u64) {
        let now = Instant::now();
        if now < self.next || self.total == 0 {
            return;
        }
        self.next = now + PAUSE;
        self.has_spoken = true;
        let percent = (bytes as f64 / self.total as f64 * 100.0).min(100.0);
        let _ = write!(std::io::stderr(), "\rreading: {percent:.0} %");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.has_spoken {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
