//! Names, lines and threads for a report. Runs Python code with the GIL held and no lock of ours.
//!
//! A report must not fail for a name: what cannot be read is left empty, and the error is cleared.

use core::ffi::CStr;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use heapkeeper_profile::{Code, Estimate, SiteCount, SiteSnapshot, Snapshot, ThreadId};
use heapkeeper_record::{Frame, ProfileStatus, Site};
use pyo3_ffi as ffi;

use super::exact::Usage;
use super::names;

/// Larger source files are not read for their lines.
const MAX_SOURCE_BYTES: u64 = 16 << 20;

/// What is known of threads' names.
pub(super) struct Threads {
    pub names: HashMap<usize, String>,
    pub main: Option<usize>,
}

impl Threads {
    fn name(&self, thread: ThreadId) -> String {
        match self.names.get(&thread.0) {
            Some(name) => name.clone(),
            None if self.main == Some(thread.0) => "MainThread".to_owned(),
            None => format!("thread {}", thread.0),
        }
    }
}

/// The record of a snapshot with its `top` largest sites, but for the time of the peak. The GIL is held and no exception is
/// set.
///
/// To the tables, two calls on one line are two sites; to a reader they are one. So sites with equal lines are merged here,
/// which is why a snapshot should hold more of them than a report shows: see [`candidates`].
pub(super) fn status(snapshot: &Snapshot, top: usize, threads: &Threads, folder: Option<PathBuf>) -> ProfileStatus {
    let mut resolver = Resolver::new(folder);
    let mut sites = |sites: &[SiteSnapshot], total: &Estimate| -> Vec<Site> {
        largest_sites(sites, top, total, snapshot.mean_bytes, threads, &mut resolver)
    };
    ProfileStatus {
        sample_bytes: snapshot.mean_bytes,
        samples: snapshot.taken,
        lost_samples: snapshot.lost,
        live_bytes: snapshot.live.bytes,
        peak_bytes: snapshot.at_peak.bytes,
        peak_error_bytes: snapshot.at_peak.error_bytes(snapshot.mean_bytes),
        sites: snapshot.sites as u64,
        at_peak: sites(&snapshot.top_at_peak, &snapshot.at_peak),
        at_end: sites(&snapshot.top_live, &snapshot.live),
        ..ProfileStatus::default()
    }
}

/// The record of counted sites with the `top` largest, but for the time of the peak. The GIL is held and no exception is set.
pub(super) fn exact_status(
    counted: Vec<(Lines, SiteCount)>,
    usage: Usage,
    top: usize,
    folder: Option<PathBuf>,
) -> ProfileStatus {
    let mut resolver = Resolver::new(folder);
    let sites = counted.len() as u64;
    let mut largest = |total_bytes: u64, of: fn(&SiteCount) -> (u64, u64)| -> Vec<Site> {
        let mut sites: Vec<(&Lines, (u64, u64))> = counted
            .iter()
            .map(|(lines, count)| (lines, of(count)))
            .filter(|(_, (bytes, blocks))| *bytes > 0 && *blocks > 0)
            .collect();
        sites.sort_by(|(a, (of_a, _)), (b, (of_b, _))| of_b.cmp(of_a).then_with(|| a.place().cmp(&b.place())));
        sites.truncate(top);
        let site = |(lines, (bytes, blocks)): (&Lines, (u64, u64))| Site {
            bytes,
            error_bytes: 0,
            blocks,
            samples: blocks,
            share: bytes as f64 / total_bytes.max(1) as f64,
            thread: lines.thread.clone(),
            frames: lines.frames.iter().map(|frame| resolver.with_source(frame)).collect(),
            truncated: lines.truncated,
        };
        sites.into_iter().map(site).collect()
    };
    let saved_bytes = counted.iter().map(|(_, count)| count.peak_bytes).sum();
    ProfileStatus {
        sample_bytes: 0,
        samples: usage.total_blocks,
        live_bytes: usage.live_bytes,
        peak_bytes: usage.peak_bytes,
        sites,
        at_peak: largest(saved_bytes, |count| (count.peak_bytes, count.peak_blocks)),
        at_end: largest(usage.live_bytes, |count| (count.live_bytes, count.live_blocks)),
        ..ProfileStatus::default()
    }
}

/// The largest of these sites, of which `total` is the sum. The GIL is held and no exception is set.
pub(super) fn largest_site(
    sites: &[SiteSnapshot],
    total: &Estimate,
    mean_bytes: u64,
    threads: &Threads,
    folder: Option<PathBuf>,
) -> Option<Site> {
    let mut resolver = Resolver::new(folder);
    largest_sites(sites, 1, total, mean_bytes, threads, &mut resolver).pop()
}

fn largest_sites(
    sites: &[SiteSnapshot],
    top: usize,
    total: &Estimate,
    mean_bytes: u64,
    threads: &Threads,
    resolver: &mut Resolver,
) -> Vec<Site> {
    let lines = sites.iter().map(|site| {
        let frames = site.frames.iter().map(|(code, offset_bytes)| resolver.frame(*code, *offset_bytes)).collect();
        (Lines { thread: threads.name(site.thread), frames, truncated: site.truncated }, site.estimate)
    });
    let merged = merge(lines, Estimate::add);
    largest(merged, top).into_iter().map(|(lines, estimate)| lines.site(&estimate, total, mean_bytes)).collect()
}

/// A site with its counts, code objects still addresses.
pub(super) struct CountedSite {
    pub frames: Vec<(Code, i32)>,
    pub truncated: bool,
    pub thread: ThreadId,
    pub count: SiteCount,
}

/// How many sites to copy for a report of `top`: enough for those that share lines to find each other.
pub(super) fn candidates(top: usize) -> usize {
    top.saturating_mul(8).max(512)
}

/// A site as a reader tells it from others.
#[derive(PartialEq, Eq, Hash)]
pub struct Lines {
    /// The thread's name.
    pub thread: String,
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Outer frames were left out.
    pub truncated: bool,
}

impl Lines {
    /// What orders equals, so that equal runs give equal reports.
    fn place(&self) -> (Option<(&str, u32)>, &str) {
        (self.frames.first().map(|frame| (frame.file.as_str(), frame.line)), &self.thread)
    }

    fn site(self, estimate: &Estimate, total: &Estimate, mean_bytes: u64) -> Site {
        Site {
            bytes: estimate.bytes,
            error_bytes: estimate.error_bytes(mean_bytes),
            blocks: estimate.blocks(),
            samples: estimate.samples,
            share: estimate.bytes as f64 / total.bytes.max(1) as f64,
            thread: self.thread,
            frames: self.frames,
            truncated: self.truncated,
        }
    }
}

/// One entry for equal lines.
fn merge<A: Default>(sites: impl Iterator<Item = (Lines, A)>, add: impl Fn(&mut A, &A)) -> HashMap<Lines, A> {
    let mut merged: HashMap<Lines, A> = HashMap::new();
    for (lines, amount) in sites {
        add(merged.entry(lines).or_default(), &amount);
    }
    merged
}

/// Counted sites as a reader tells them from each other, without their lines of source. The GIL is held and no exception is
/// set.
pub(super) fn counted(sites: Vec<CountedSite>, threads: &Threads) -> Vec<(Lines, SiteCount)> {
    let mut resolver = Resolver::without_sources();
    let lines = sites.into_iter().map(|site| {
        let frames = site.frames.iter().map(|(code, offset_bytes)| resolver.frame(*code, *offset_bytes)).collect();
        (Lines { thread: threads.name(site.thread), frames, truncated: site.truncated }, site.count)
    });
    merge(lines, |sum, count| *sum = sum.plus(*count)).into_iter().collect()
}

/// The `top` largest, largest first; equals in the order of their innermost frames, so that equal runs give equal reports.
fn largest(sites: HashMap<Lines, Estimate>, top: usize) -> Vec<(Lines, Estimate)> {
    let mut sites: Vec<_> = sites.into_iter().collect();
    sites.sort_by(|(a, of_a), (b, of_b)| of_b.bytes.cmp(&of_a.bytes).then_with(|| a.place().cmp(&b.place())));
    sites.truncate(top);
    sites
}

/// Names of the threads that the `threading` module knows, by identifier; empty if the program never imported it.
pub(super) fn thread_names() -> Vec<(usize, String)> {
    let mut names = Vec::new();
    // SAFETY: the GIL is held. A copy of the table is walked, since reading a name runs Python code.
    unsafe {
        // Not PyImport_GetModule: where the module is just being imported that takes its lock, and a collection may come in the
        // middle of somebody taking it (before 3.12 that ends in a KeyError of theirs).
        let modules = ffi::PyImport_GetModuleDict();
        if modules.is_null() || ffi::PyDict_Check(modules) == 0 {
            return names;
        }
        let Some(module) = Object::borrowed(ffi::PyDict_GetItemString(modules, c"threading".as_ptr())) else {
            return names;
        };
        let Some(active) = module.attribute(c"_active") else {
            return names;
        };
        let items = match ffi::PyDict_Check(active.0) {
            0 => None,
            _ => Object::new(ffi::PyDict_Items(active.0)),
        };
        let Some(items) = items else {
            return names;
        };
        for index in 0..ffi::PyList_Size(items.0) {
            let item = ffi::PyList_GetItem(items.0, index);
            let ident = ffi::PyLong_AsUnsignedLong(ffi::PyTuple_GetItem(item, 0));
            if !ffi::PyErr_Occurred().is_null() {
                ffi::PyErr_Clear();
                continue;
            }
            let thread = Object::borrowed(ffi::PyTuple_GetItem(item, 1));
            let name = thread.and_then(|thread| thread.attribute(c"name")).and_then(|name| name.text());
            names.extend(name.map(|name| (ident as usize, name)));
        }
    }
    names
}

/// Looks things up once for each code object and file.
struct Resolver {
    /// Whether lines of source are wanted.
    reads_sources: bool,
    folder: Option<PathBuf>,
    codes: HashMap<usize, Function>,
    sources: HashMap<OsString, Option<Vec<u8>>>,
}

#[derive(Default)]
struct Function {
    name: String,
    file: OsString,
}

impl Resolver {
    fn new(folder: Option<PathBuf>) -> Resolver {
        Resolver { reads_sources: true, folder, codes: HashMap::new(), sources: HashMap::new() }
    }

    fn without_sources() -> Resolver {
        Resolver { reads_sources: false, ..Resolver::new(None) }
    }

    fn frame(&mut self, code: Code, offset_bytes: i32) -> Frame {
        let address = match code {
            Code::Object(address) => address,
            other => return pseudo(names::of_no_code(other)),
        };
        let code = core::ptr::with_exposed_provenance_mut::<ffi::PyObject>(address);
        // SAFETY: the tables keep the code object alive; the GIL is held.
        let function = self.codes.entry(address).or_insert_with(|| unsafe { Function::of(code) });
        // SAFETY: as above. -1 where the instruction has no line.
        let line = unsafe { ffi::PyCode_Addr2Line(code.cast(), offset_bytes) };
        let line = u32::try_from(line).unwrap_or(0);
        let (name, file) = (function.name.clone(), function.file.clone());
        let source = if self.reads_sources { self.source(&file, line) } else { None };
        Frame { function: name, file: file.to_string_lossy().into_owned(), line, source }
    }

    /// A frame with its line of source.
    fn with_source(&mut self, frame: &Frame) -> Frame {
        let source = self.source(OsStr::new(&frame.file), frame.line);
        Frame { source, ..frame.clone() }
    }

    fn source(&mut self, file: &OsStr, line: u32) -> Option<String> {
        let source = self.sources.entry(file.to_owned());
        let source = source.or_insert_with(|| read_source(file, self.folder.as_deref()));
        source.as_deref().and_then(|source| line_of(source, line))
    }
}

impl Function {
    /// # Safety
    /// `code` is a code object and the GIL is held.
    unsafe fn of(code: *mut ffi::PyObject) -> Function {
        // SAFETY: the caller's promise.
        let Some(code) = (unsafe { Object::borrowed(code) }) else {
            return Function::default();
        };
        let name = if cfg!(Py_3_11) { c"co_qualname" } else { c"co_name" };
        Function {
            name: code.attribute(name).and_then(|name| name.text()).unwrap_or_default(),
            file: code.attribute(c"co_filename").and_then(|file| file.file_name()).unwrap_or_default(),
        }
    }
}

fn pseudo(function: String) -> Frame {
    Frame { function, ..Frame::default() }
}

/// A source file as the code object names it, relative to the folder that the program began in.
fn read_source(file: &OsStr, folder: Option<&Path>) -> Option<Vec<u8>> {
    // `<string>`, `<frozen os>` and their like are no files.
    if file.is_empty() || file.as_bytes().starts_with(b"<") {
        return None;
    }
    let path = folder.unwrap_or(Path::new("")).join(file);
    let metadata = std::fs::metadata(&path).ok()?;
    // Not a pipe, which would block, nor something without end.
    if !metadata.is_file() || metadata.len() > MAX_SOURCE_BYTES {
        return None;
    }
    std::fs::read(path).ok()
}

/// Line `number` of `source`, stripped; `None` if there is none or it is empty.
fn line_of(source: &[u8], number: u32) -> Option<String> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    let line = source.split(|byte| *byte == b'\n').nth(index)?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim_start_matches('\u{feff}').trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A reference to an object; only used with the GIL held.
struct Object(*mut ffi::PyObject);

impl Object {
    /// Takes a new reference; null is an error, which is cleared.
    ///
    /// # Safety
    /// `object` is a new reference or null, and the GIL is held.
    unsafe fn new(object: *mut ffi::PyObject) -> Option<Object> {
        if object.is_null() {
            // SAFETY: the GIL is held.
            unsafe { ffi::PyErr_Clear() };
            return None;
        }
        Some(Object(object))
    }

    /// Takes a reference of its own.
    ///
    /// # Safety
    /// `object` is alive or null, and the GIL is held.
    unsafe fn borrowed(object: *mut ffi::PyObject) -> Option<Object> {
        // SAFETY: the caller's promise.
        unsafe {
            ffi::Py_XINCREF(object);
            Object::new(object)
        }
    }

    /// By an interned name: a string of its own for every call would be kept, each in a place of its own, by the interpreter's
    /// cache of what types have (`_PyType_Lookup`, Objects/typeobject.c).
    fn attribute(&self, name: &CStr) -> Option<Object> {
        // SAFETY: `self` is alive and the GIL is held.
        unsafe {
            let name = Object::new(ffi::PyUnicode_InternFromString(name.as_ptr()))?;
            Object::new(ffi::PyObject_GetAttr(self.0, name.0))
        }
    }

    /// The text of a `str`, with surrogates written as escapes.
    fn text(&self) -> Option<String> {
        // SAFETY: `self` is alive and the GIL is held; anything but a `str` is an error.
        let bytes = unsafe {
            Object::new(ffi::PyUnicode_AsEncodedString(self.0, c"utf-8".as_ptr(), c"backslashreplace".as_ptr()))
        };
        String::from_utf8(bytes?.bytes()?).ok()
    }

    /// The name of a file as the OS knows it.
    fn file_name(&self) -> Option<OsString> {
        // SAFETY: `self` is alive and the GIL is held.
        let is_text = unsafe { ffi::PyUnicode_Check(self.0) } != 0;
        // SAFETY: as above, and a `str` as the function demands.
        let bytes = is_text.then(|| unsafe { Object::new(ffi::PyUnicode_EncodeFSDefault(self.0)) }).flatten();
        bytes?.bytes().map(OsString::from_vec)
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        // SAFETY: `self` is alive and the GIL is held; `bytes` objects do not change.
        unsafe {
            if ffi::PyBytes_Check(self.0) == 0 {
                return None;
            }
            let start = ffi::PyBytes_AsString(self.0).cast::<u8>();
            Some(core::slice::from_raw_parts(start, ffi::PyBytes_Size(self.0) as usize).to_vec())
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the reference is ours to give back, and the GIL is held.
        unsafe { ffi::Py_DECREF(self.0) };
    }
}
