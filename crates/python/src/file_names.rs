//! Names of the files that a process writes, made of the one that the user gave.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Names tried beside one that is taken.
const MAX_NAMES: u32 = 100;

/// `given` with the process id in the place of %p.
pub fn with_pid(given: &Path) -> PathBuf {
    let pid = std::process::id().to_string();
    let given = given.as_os_str().as_bytes();
    let mut name = Vec::with_capacity(given.len());
    let mut rest = given;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"%p") {
        name.extend_from_slice(&rest[..at]);
        name.extend_from_slice(pid.as_bytes());
        rest = &rest[at + 2..];
    }
    name.extend_from_slice(rest);
    PathBuf::from(OsString::from_vec(name))
}

/// Where the file may go, best first. A process that finds the plain name taken puts its pid in it; a forked child, whose
/// parent has that name, does so at once.
pub fn candidates(given: &Path, is_child: bool) -> impl Iterator<Item = PathBuf> {
    let mut name = with_pid(given);
    let plain = (name == given).then(|| {
        let plain = name.clone();
        name = with_ending(&plain, &format!(".{}", std::process::id()));
        plain
    });
    let own = name.clone();
    let numbered = (1..MAX_NAMES).map(move |number| with_ending(&name, &format!("-{number}")));
    plain.filter(|_| !is_child).into_iter().chain([own]).chain(numbered)
}

/// `app.hk` → `app{ending}.hk`.
fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut file = name.file_stem().unwrap_or_default().to_owned();
    file.push(ending);
    if let Some(extension) = name.extension() {
        file.push(".");
        file.push(extension);
    }
    name.with_file_name(file)
}
