//! `--gc verify`: CPython collects, and what it finds unreachable is compared with what our search finds.
//!
//! CPython keeps its findings to itself: a list whose head lies on its stack. So a **probe** is put first in the generation
//! that is collected, the middle or the oldest one: a function object that is trash, with a weak reference that we hold and
//! whose callback is ours. CPython finds the probe unreachable before anything else, and calls its callback before any other
//! and before any finalizer (`handle_weakrefs`). At that moment the probe stands in the list of all that was found: we walk it
//! from there. Then the probe leaves the list, and CPython disposes of the rest as if it had never been.
//!
//! Objects with the legacy `tp_del`, and what they reach, have been moved elsewhere by then: if our search finds one, that
//! collection is not compared.

use std::collections::HashSet;
use std::ffi::{CStr, c_int};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::ptr;

use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::collect::list::HeaderPtr;
use crate::collect::state::{CollectorState, OLD};
use crate::collect::{full, traverse, young};

/// Objects of a difference that are described.
const DESCRIBED: usize = 100;

/// The comparison in one interpreter.
#[derive(Default)]
pub struct Verification {
    stopped: bool,
    named: traverse::Named,
    running: Option<Box<Comparison>>,
}

/// One collection's findings.
struct Comparison {
    probe: Probe,
    /// The probe's two objects, and what we call trash besides.
    ours: HashSet<usize>,
    /// All candidates, by which the head of CPython's list is told from an object.
    candidates: HashSet<usize>,
    /// What CPython found; `None` until the callback was called.
    theirs: Option<Vec<*mut PyObject>>,
    /// Written when the callback is called, while all objects are alive.
    difference: Option<Difference>,
}

/// A function and the cell it is bound to, which refer to each other, and a weak reference to the function. CPython keeps no
/// free list of cells, in which a program might meet ours again.
struct Probe {
    function: *mut PyObject,
    cell: *mut PyObject,
    weak: *mut PyObject,
}

/// What one side calls trash and the other does not.
pub struct Difference {
    ours: usize,
    theirs: usize,
    /// Descriptions.
    only_ours: Vec<String>,
    only_theirs: Vec<String>,
}

static mut BOUND: ffi::PyMethodDef = ffi::PyMethodDef {
    ml_name: c"heapkeeper_probe".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: nothing },
    ml_flags: ffi::METH_FASTCALL,
    ml_doc: ptr::null(),
};
static mut CALLED: ffi::PyMethodDef = ffi::PyMethodDef {
    ml_name: c"heapkeeper_probe_is_trash".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: called },
    ml_flags: ffi::METH_FASTCALL,
    ml_doc: ptr::null(),
};

unsafe extern "C" fn nothing(_: *mut PyObject, _: *mut *mut PyObject, _: Py_ssize_t) -> *mut PyObject {
    // SAFETY: called with the GIL held.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

/// The probe's weak reference was cleared: all that CPython found is there to be seen.
unsafe extern "C" fn called(capsule: *mut PyObject, _: *mut *mut PyObject, _: Py_ssize_t) -> *mut PyObject {
    // SAFETY: called with the GIL held; the capsule holds the comparison that made it, which lives as long as the collection.
    unsafe {
        let comparison: *mut Comparison = ffi::PyCapsule_GetPointer(capsule, ptr::null()).cast();
        if !comparison.is_null() {
            (*comparison).look();
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

impl Verification {
    /// CPython is about to search: do so before it, and set the probe.
    pub fn begin(&mut self, state: CollectorState, generation: usize) {
        // A collection within one that is compared is not.
        if self.stopped || self.running.is_some() {
            return;
        }
        // SAFETY: the GIL is held, no exception is set.
        let Some(probe) = (unsafe { Probe::new() }) else { return };
        let comparison = Box::new(Comparison {
            probe,
            ours: HashSet::new(),
            candidates: HashSet::new(),
            theirs: None,
            difference: None,
        });
        let comparison = self.running.insert(comparison);
        let mut comparable = true;
        let mut unrooted = Vec::new();
        // SAFETY: the GIL is held; the probe's objects are tracked; no Python code runs.
        let searched = unsafe {
            let context = &raw mut **comparison;
            let candidate = |object: *mut PyObject| {
                comparison.candidates.insert(object.addr());
            };
            let trash = |object: *mut PyObject| {
                comparison.ours.insert(object.addr());
                comparable &= (*ffi::Py_TYPE(object)).tp_del.is_none();
            };
            comparison.probe.set(state.head(generation), context)
                && match generation {
                    OLD => full::visit_trash(state, candidate, trash, |object| unrooted.push(object)),
                    _ => young::visit_trash(state, candidate, trash),
                }
        };
        if searched && generation == OLD {
            // SAFETY: the GIL is held; no Python code has run since the search.
            unsafe { traverse::look(&mut self.named, &comparison.candidates, &unrooted) };
        }
        if !searched || !comparable {
            self.abandon();
        }
    }

    /// Take the probe out of the lists before CPython looks.
    fn abandon(&mut self) {
        if let Some(comparison) = self.running.take() {
            // SAFETY: the GIL is held.
            unsafe { comparison.probe.unset() };
        }
    }

    /// The collection is over. Whether it was compared, and what was different.
    pub fn end(&mut self) -> (bool, Option<Difference>) {
        let Some(mut comparison) = self.running.take() else { return (false, None) };
        // SAFETY: the GIL is held. The callback made it leave CPython's list; if that was never called, it is in one still.
        unsafe { comparison.probe.unset() };
        let difference = comparison.difference.take().or_else(|| {
            comparison.theirs.is_none().then(|| Difference {
                ours: comparison.ours.len(),
                theirs: 0,
                only_ours: vec!["CPython did not find the probe".to_owned()],
                only_theirs: Vec::new(),
            })
        });
        (true, difference)
    }

    /// No comparison any more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }
}

impl Comparison {
    /// # Safety
    /// Called from the probe's callback.
    unsafe fn look(&mut self) {
        let mut theirs = Vec::new();
        // SAFETY: the probe is in the list of what CPython found unreachable. Its head is the one header that is no object's.
        unsafe {
            let probe = HeaderPtr::of(self.probe.function);
            let mut header = probe;
            let mut heads = 0;
            loop {
                if self.candidates.contains(&header.object().addr()) {
                    theirs.push(header.object());
                } else {
                    heads += 1;
                }
                header = header.next();
                if header == probe || heads > 1 {
                    break;
                }
            }
            self.probe.untrack();
        }
        let found: HashSet<usize> = theirs.iter().map(|object| object.addr()).collect();
        if found != self.ours {
            let only_theirs = theirs.iter().filter(|object| !self.ours.contains(&object.addr()));
            let only_ours = self.ours.iter().filter(|address| !found.contains(address));
            self.difference = Some(Difference {
                ours: self.ours.len() - 2,
                theirs: theirs.len() - 2,
                // SAFETY: nothing was disposed of yet, so that both are alive.
                only_theirs: only_theirs.take(DESCRIBED).map(|object| unsafe { describe(*object) }).collect(),
                only_ours: only_ours
                    .take(DESCRIBED)
                    // SAFETY: as above; a candidate's address.
                    .map(|address| unsafe { describe(ptr::with_exposed_provenance_mut(*address)) })
                    .collect(),
            });
        }
        self.theirs = Some(theirs);
    }
}

impl Probe {
    /// # Safety
    /// The GIL is held, and no exception is set.
    unsafe fn new() -> Option<Probe> {
        // SAFETY: by the caller's word; nulls are checked for, and what was made is given back.
        unsafe {
            let cell = ffi::PyCell_New(ptr::null_mut());
            if cell.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            let function = ffi::PyCFunction_New(&raw mut BOUND, cell);
            if function.is_null() || ffi::PyCell_Set(cell, function) != 0 {
                ffi::PyErr_Clear();
                ffi::Py_XDECREF(function);
                ffi::Py_DECREF(cell);
                return None;
            }
            Some(Probe { function, cell, weak: ptr::null_mut() })
        }
    }

    /// Make the weak reference, put the probe first in a generation, and let go of it: only the two objects refer to
    /// each other now. Whether that was possible.
    ///
    /// # Safety
    /// The GIL is held; `comparison` outlives the collection.
    unsafe fn set(&mut self, head: HeaderPtr, comparison: *mut Comparison) -> bool {
        // SAFETY: by the caller's word.
        unsafe {
            let capsule = ffi::PyCapsule_New(comparison.cast(), ptr::null(), None);
            let callback = if capsule.is_null() { capsule } else { ffi::PyCFunction_New(&raw mut CALLED, capsule) };
            ffi::Py_XDECREF(capsule);
            self.weak = if callback.is_null() { callback } else { ffi::PyWeakref_NewRef(self.function, callback) };
            ffi::Py_XDECREF(callback);
            ffi::PyErr_Clear();
            for object in [self.cell, self.function] {
                let header = HeaderPtr::of(object);
                header.unlink();
                head.prepend(header);
            }
            ffi::Py_DECREF(self.cell);
            ffi::Py_DECREF(self.function);
            !self.weak.is_null()
        }
    }

    /// The probe's objects leave whatever list they are in, and live on.
    ///
    /// # Safety
    /// The GIL is held; both are alive.
    unsafe fn untrack(&self) {
        // SAFETY: by the caller's word.
        unsafe {
            ffi::PyObject_GC_UnTrack(self.function.cast());
            ffi::PyObject_GC_UnTrack(self.cell.cast());
        }
    }

    /// Free the probe.
    ///
    /// # Safety
    /// The GIL is held; called once.
    unsafe fn unset(&self) {
        // SAFETY: by the caller's word. The cell holds the function, and the function the cell: emptying it frees both.
        unsafe {
            // The callback must not be called by what follows.
            ffi::Py_XDECREF(self.weak);
            self.untrack();
            // A cell takes itself off a list when it is freed, and must be in one.
            ffi::PyObject_GC_Track(self.cell.cast());
            let cell = ffi::Py_NewRef(self.cell);
            ffi::PyCell_Set(cell, ptr::null_mut());
            ffi::Py_DECREF(cell);
        }
    }
}

/// One object, without running code of the program's: type, address, count, and what it refers to.
///
/// # Safety
/// `object` is alive; the GIL is held.
unsafe fn describe(object: *mut PyObject) -> String {
    // SAFETY: by the caller's word.
    unsafe {
        let name =
            |object: *mut PyObject| CStr::from_ptr((*ffi::Py_TYPE(object)).tp_name).to_string_lossy().into_owned();
        let mut text = format!(
            "{} at {:#x}, {} references to it; it refers to",
            name(object),
            object.addr(),
            ffi::Py_REFCNT(object)
        );
        let mut children: Vec<*mut PyObject> = Vec::new();
        if let Some(traverse) = (*ffi::Py_TYPE(object)).tp_traverse {
            traverse(object, note_child, (&raw mut children).cast());
        }
        for child in children.iter().take(10) {
            let _ = write!(text, " {} at {:#x},", name(*child), child.addr());
        }
        let _ = write!(text, " {} in all", children.len());
        text
    }
}

unsafe extern "C" fn note_child(child: *mut PyObject, children: *mut std::ffi::c_void) -> c_int {
    // SAFETY: `describe` passed its list.
    unsafe { (*children.cast::<Vec<*mut PyObject>>()).push(child) };
    0
}

/// Say what was found: a line on standard error, and a file with the rest.
pub fn report(difference: &Difference) {
    let record = serde_json::json!({
        "python": crate::status::python_version(),
        "heapkeeper": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "command": std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "unreachable": { "heapkeeper": difference.ours, "cpython": difference.theirs },
        "only_heapkeeper": difference.only_ours,
        "only_cpython": difference.only_theirs,
    });
    let path = std::env::temp_dir().join(format!("heapkeeper-verify-{}.json", std::process::id()));
    // A new file, for its owner alone: the folder is everybody's.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(format!("{record:#}\n").as_bytes()));
    let place = match written {
        Ok(()) => format!("what it takes to reproduce it is in {}", path.display()),
        Err(error) => format!("{} cannot be written: {error}", path.display()),
    };
    let first = difference.only_theirs.first().or(difference.only_ours.first()).map_or("", String::as_str);
    let line = format!(
        "heapkeeper: verify: CPython's collector found {} objects unreachable, ours {}; first: {first}. Ours is off now; {place}\n",
        difference.theirs, difference.ours
    );
    // Nobody is there to hear of an error on a closed stderr.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
