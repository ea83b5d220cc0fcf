//! `--gc verify`: types whose `tp_traverse` says something wrong, named where it shows.
//!
//! ```text
//! names too many   an object is referred to by more references than its count has     both collectors may free what is alive
//! forgets one      an object that no root leads to is held by nobody that says so,    both collectors leave the cycle alone
//!                  and its address stands in an object that does not visit it
//! ```
//! Neither is a difference between the collectors: both believe what they are told. Types of the interpreter itself are not
//! suspected. What a block holds may be an address by chance, or borrowed: it is worded as a question.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, c_int, c_void};
use std::io::Write as _;

use pyo3_ffi::{self as ffi, PyObject};

use crate::interpreter;

/// Longer objects are looked at up to here.
const MAX_OBJECT_BYTES: usize = 4096;

/// What was said already.
#[derive(Default)]
pub struct Named(HashSet<(usize, bool)>);

/// Look at the candidates of a search, and at those of them that are alive though no root leads to them.
///
/// # Safety
/// All are alive and tracked; the GIL is held, and no Python code runs.
pub unsafe fn look(named: &mut Named, candidates: &HashSet<usize>, unrooted: &[*mut PyObject]) {
    let mut visits: HashMap<usize, isize> = candidates.iter().map(|address| (*address, 0)).collect();
    for address in candidates {
        // SAFETY: by the caller's word.
        unsafe {
            for_each_child(object_at(*address), |child| {
                if let Some(count) = visits.get_mut(&child.addr()) {
                    *count += 1;
                }
            });
        }
    }
    // SAFETY: by the caller's word.
    let unexplained = |address: usize| unsafe { ffi::Py_REFCNT(object_at(address)) - visits[&address] };
    let too_many: HashSet<usize> = candidates.iter().copied().filter(|address| unexplained(*address) < 0).collect();
    // SAFETY: by the caller's word.
    unsafe {
        if !too_many.is_empty() {
            name_visitors(named, candidates, &too_many);
        }
        let held: HashSet<usize> =
            unrooted.iter().map(|object| object.addr()).filter(|address| unexplained(*address) > 0).collect();
        name_forgetters(named, unrooted, &held);
    }
}

/// # Safety
/// As for [`look`].
unsafe fn name_visitors(named: &mut Named, candidates: &HashSet<usize>, too_many: &HashSet<usize>) {
    for address in candidates {
        // SAFETY: by the caller's word.
        unsafe {
            let object = object_at(*address);
            let kind = ffi::Py_TYPE(object);
            if !is_suspect(kind) {
                continue;
            }
            let mut child_type = None;
            for_each_child(object, |child| {
                if too_many.contains(&child.addr()) {
                    child_type = Some(ffi::Py_TYPE(child));
                }
            });
            if let Some(child_type) = child_type
                && named.0.insert((kind.addr(), true))
            {
                say(&format!(
                    "tp_traverse of {} visits a {} that is visited more often than it has references: it must not visit what it \
                     does not own",
                    name(kind),
                    name(child_type)
                ));
            }
        }
    }
}

/// # Safety
/// As for [`look`].
unsafe fn name_forgetters(named: &mut Named, unrooted: &[*mut PyObject], held: &HashSet<usize>) {
    for object in unrooted {
        // SAFETY: by the caller's word; an object has the bytes that its type says.
        unsafe {
            let kind = ffi::Py_TYPE(*object);
            if !is_suspect(kind) {
                continue;
            }
            let mut visited = HashSet::new();
            for_each_child(*object, |child| {
                visited.insert(child.addr());
            });
            let bytes = ((*kind).tp_basicsize as usize).min(MAX_OBJECT_BYTES);
            for word in 2..bytes / size_of::<usize>() {
                let address = object.cast::<usize>().add(word).read();
                // An object leads to its weak references without owning them.
                if held.contains(&address)
                    && !visited.contains(&address)
                    && ffi::PyWeakref_Check(object_at(address)) == 0
                    && named.0.insert((kind.addr(), false))
                {
                    say(&format!(
                        "{} holds the address of a {} that it does not visit, and that nobody else is known to hold: if it owns \
                         that reference, its tp_traverse forgets it, and cycles through it are never freed",
                        name(kind),
                        name(ffi::Py_TYPE(object_at(address)))
                    ));
                }
            }
        }
    }
}

/// Whether the type's `tp_traverse` is not the interpreter's own. A class's is, but that of a base in C may be asked by it.
///
/// # Safety
/// `kind` is a live type.
unsafe fn is_suspect(kind: *mut ffi::PyTypeObject) -> bool {
    let mut at = kind;
    // SAFETY: by the caller's word; bases live as long as their type.
    unsafe {
        while !at.is_null() {
            let traverse = (*at).tp_traverse.map_or(std::ptr::null(), |function| function as *const c_void);
            if !traverse.is_null() && !interpreter::in_image(traverse) {
                return true;
            }
            at = (*at).tp_base;
        }
    }
    false
}

fn object_at(address: usize) -> *mut PyObject {
    std::ptr::with_exposed_provenance_mut(address)
}

/// # Safety
/// `object` is alive, of a type with the GC flag; the GIL is held.
unsafe fn for_each_child(object: *mut PyObject, mut visit: impl FnMut(*mut PyObject)) {
    let mut visit: &mut dyn FnMut(*mut PyObject) = &mut visit;
    // SAFETY: by the caller's word; `pass_on` gets what it is made for.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object)).tp_traverse {
            traverse(object, pass_on, (&raw mut visit).cast());
        }
    }
}

unsafe extern "C" fn pass_on(child: *mut PyObject, visit: *mut c_void) -> c_int {
    if !child.is_null() {
        // SAFETY: `for_each_child` passed a reference of this type.
        unsafe { (*visit.cast::<&mut dyn FnMut(*mut PyObject)>())(child) };
    }
    0
}

/// # Safety
/// `kind` is a live type.
unsafe fn name(kind: *mut ffi::PyTypeObject) -> String {
    // SAFETY: by the caller's word.
    unsafe { CStr::from_ptr((*kind).tp_name).to_string_lossy().into_owned() }
}

fn say(text: &str) {
    // Nobody is there to hear of an error on a closed stderr.
    let _ = std::io::stderr().write_all(format!("heapkeeper: verify: {text}\n").as_bytes());
}
