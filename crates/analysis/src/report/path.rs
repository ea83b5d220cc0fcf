//! Whose a source file is, and how to name it in few characters.
//!
//! A status names files as their code objects do, mostly by absolute path. A reader knows their own
//! files by the last component, and a library's by its import path.

use std::collections::{BTreeMap, BTreeSet};

use heapkeeper_record::Frame;

#[cfg(test)]
mod tests;

/// Whose code a file holds. The order is the order in which a reader wants to see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The program's own: what the reader can change.
    Program,
    /// An installed package.
    Package,
    /// The standard library, frozen modules included.
    Standard,
    /// A script in a `bin` folder that only starts a package (`bin/flask`).
    Launcher,
    /// What stands for frames that nobody kept, and has no file.
    Nobody,
}

/// Tells whose a file is from its path alone.
pub(crate) fn owner(file: &str) -> Owner {
    if file.is_empty() {
        return Owner::Nobody;
    }
    if file.starts_with("<frozen ") || file.starts_with("<__array_function__") {
        return Owner::Standard;
    }
    if package_path(file).is_some() {
        return Owner::Package;
    }
    if standard_path(file).is_some() {
        return Owner::Standard;
    }
    match file.rsplit('/').nth(1) {
        Some("bin" | "Scripts") => Owner::Launcher,
        _ => Owner::Program,
    }
}

/// The path below `site-packages`: `numpy/lib/npyio.py`.
fn package_path(file: &str) -> Option<&str> {
    ["/site-packages/", "/dist-packages/"]
        .iter()
        .filter_map(|mark| file.rfind(mark).map(|at| &file[at + mark.len()..]))
        .min_by_key(|rest| rest.len())
}

/// The path below `lib/python3.X` or inside `lib/python3X.zip`: `json/decoder.py`.
fn standard_path(file: &str) -> Option<&str> {
    let mark = file.find("/lib/python").or_else(|| file.find("/lib64/python"))?;
    let below_lib = file[mark + 1..].split_once('/')?.1;
    let (folder, rest) = below_lib.split_once('/')?;
    let version = folder.strip_prefix("python")?.trim_end_matches(".zip");
    version.starts_with('3').then_some(rest)
}

/// Short names for the files of one report: the fewest last components that tell the program's own
/// files apart, import paths for everyone else's.
pub(crate) struct ShortNames<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> ShortNames<'a> {
    pub(crate) fn new(files: impl Iterator<Item = &'a str>) -> Self {
        let files: BTreeSet<&str> = files.collect();
        let own: Vec<&str> = files.iter().copied().filter(|file| named_by_path(file)).collect();
        ShortNames(files.into_iter().map(|file| (file, short(file, &own))).collect())
    }

    /// The name of a file.
    pub(crate) fn file<'f>(&self, file: &'f str) -> &'f str
    where
        'a: 'f,
    {
        self.0.get(file).copied().unwrap_or(file)
    }

    /// `file:line`, or the file alone where the line is not known.
    pub(crate) fn place(&self, frame: &Frame) -> String {
        match (self.file(&frame.file), frame.line) {
            ("", _) => "?".to_owned(),
            (file, 0) => file.to_owned(),
            (file, line) => format!("{file}:{line}"),
        }
    }
}

/// Whether a file has no import path to go by.
fn named_by_path(file: &str) -> bool {
    matches!(owner(file), Owner::Program | Owner::Launcher)
}

fn short<'a>(file: &'a str, own: &[&str]) -> &'a str {
    if !named_by_path(file) {
        return package_path(file).or_else(|| standard_path(file)).unwrap_or(file);
    }
    // `__init__.py` alone names nothing: start with its folder.
    let start = if file.rsplit('/').next().is_some_and(|name| name.starts_with("__")) { 1 } else { 0 };
    let cuts = file.rmatch_indices('/').map(|(at, _)| &file[at + 1..]);
    cuts.skip(start)
        .find(|&suffix| {
            let ends_alike = |other: &&str| {
                other.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('/'))
            };
            !suffix.is_empty() && own.iter().filter(|other| ends_alike(other)).count() == 1
        })
        .unwrap_or(file)
}
