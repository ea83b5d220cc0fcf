//! Stacks of captures for the verbs `export`, `diff` and `report --flamegraph`: bytes of files in, a page, a table or another
//! tool's file out.

use std::error::Error;
use std::ptr;

use heapkeeper_analysis::capture::{Measure, Profile};
use heapkeeper_analysis::report::Style;
use heapkeeper_analysis::report::capture::{check_thread, stacks};
use heapkeeper_analysis::stacks::Stacks;
use heapkeeper_analysis::{diff, export, flame};
use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};
use serde::Deserialize;
use serde_json::json;

use crate::module::{native, none, to_str};
use crate::reports::{Asked, Loaded, asked, load};

/// What is asked for: `_captures.py` writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    form: Form,
    /// Of when; of a comparison one for both sides, or one for each. **The peak**.
    #[serde(default)]
    at: Vec<String>,
    thread: Option<String>,
    #[serde(default)]
    measure: Measure,
    /// How many of the captures are what the others are compared with; where none are, all are compared with themselves.
    #[serde(default)]
    before: usize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// HTML.
    Flamegraph,
    /// HTML of what changed.
    Difference,
    /// Text of what changed.
    Diff,
    Collapsed,
    Speedscope,
    Pprof,
    Parquet,
}

native! {
    /// `capture_stacks(descriptors, query, columns, color, progress)`: see `_native.pyi`.
    fn py_capture_stacks(descriptors, query, columns, color, progress) {
        let Some(Asked { files, query, style, progress }) = asked([descriptors, query, columns, color, progress]) else {
            return ptr::null_mut();
        };
        let query = match serde_json::from_str::<Query>(&query) {
            Ok(query) if query.before <= files.len() => query,
            Ok(_) => return pair(None, &json!({"problem": "fewer captures than are compared"})),
            Err(error) => return pair(None, &json!({"problem": error.to_string()})),
        };
        let (before, after) = files.split_at(query.before);
        let [before, after] = [before, after].map(|files| load(files, progress));
        let errors: Vec<_> = before.errors.iter().chain(&after.errors).collect();
        let damages: Vec<_> = before.damages.iter().chain(&after.damages).collect();
        match content(&query, &before, &after, style) {
            Ok(content) => pair(content.as_deref(), &json!({"errors": errors, "damages": damages})),
            Err(problem) => pair(None, &json!({"problem": problem.to_string(), "errors": errors, "damages": damages})),
        }
    }
}

/// A tuple of bytes, or None, and JSON.
///
/// # Safety
/// The GIL is held.
unsafe fn pair(content: Option<&[u8]>, rest: &serde_json::Value) -> *mut PyObject {
    // SAFETY: the GIL is held; each object made here has one owner, and null is passed by.
    unsafe {
        let content = match content {
            None => none(),
            Some(bytes) => ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as Py_ssize_t),
        };
        let rest = to_str(&rest.to_string());
        let made = !content.is_null() && !rest.is_null();
        let pair = if made { ffi::PyTuple_Pack(2, content, rest) } else { ptr::null_mut() };
        ffi::Py_XDECREF(content);
        ffi::Py_XDECREF(rest);
        pair
    }
}

/// The answer; nothing where no capture could be read.
///
/// # Errors
/// Where the query names what is not there, or the form has no room for it.
fn content(query: &Query, before: &Loaded, after: &Loaded, style: Style) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let thread = query.thread.as_deref();
    let of = |profile: &Profile, side: usize, measure| {
        stacks(profile, query.at.get(side).or(query.at.first()).map(String::as_str), thread, measure)
    };
    let Some(profile) = &after.profile else { return Ok(None) };
    let compare = |render: &dyn Fn(&Stacks, &Stacks) -> String| {
        let before = if query.before == 0 { Some(profile) } else { before.profile.as_ref() };
        let Some(before) = before else { return Ok(None) };
        // A thread that began or ended in between is in one of them.
        check_thread(&[before, profile], thread)?;
        Ok(Some(render(&of(before, 0, query.measure)?, &of(profile, 1, query.measure)?).into_bytes()))
    };
    let all = |measure| {
        check_thread(&[profile], thread)?;
        of(profile, 0, measure)
    };
    Ok(Some(match query.form {
        Form::Difference => return compare(&flame::difference_page),
        Form::Diff => return compare(&|before, after| diff::render(before, after, style)),
        Form::Flamegraph => flame::page(&all(query.measure)?).into_bytes(),
        Form::Collapsed => export::collapsed(&all(query.measure)?).into_bytes(),
        Form::Speedscope => export::speedscope(&all(query.measure)?).into_bytes(),
        // Beside what is live, what had been allocated in all.
        Form::Pprof if query.measure == Measure::Live => {
            export::pprof(&all(Measure::Live)?, Some(&all(Measure::Total)?))
        }
        Form::Pprof => export::pprof(&all(query.measure)?, None),
        Form::Parquet => export::parquet(&all(query.measure)?)?,
    }))
}
