//! What collections did so far, for reports and `heapkeeper.gc.stats()`.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

use heapkeeper_gc::Pauses;
use heapkeeper_profile::{Estimate, SiteId};
use heapkeeper_record::{
    BackgroundStatus, CollectorStatus, CycleType, GenerationStatus, PauseStatus, PhaseStatus, VerifyStatus,
};
use pyo3_ffi::{self as ffi, PyObject};

use crate::collect::Mode;
use crate::collect::background::Finished;
use crate::collect::full::{Found, Phases, SuspectType};
use crate::collect::state::{CollectorState, GENERATIONS, MIDDLE, OLD};
use crate::collect::young::Promoted;
use crate::profile;

/// Types that are remembered by name, and those that are shown.
const MAX_TYPES: usize = 1024;
const TOP_TYPES: usize = 10;

/// Collections of one interpreter since we took our seat.
#[derive(Clone, Default)]
pub struct History {
    pauses: [Pauses; GENERATIONS],
    examined: u64,
    /// The same before collections of the middle generation.
    examined_young: u64,
    phases: Phases,
    dispose: Duration,
    /// What the full collection that runs now has found so far.
    running: Option<Running>,
    /// Whether most of what no root led to turned out to be trash, the last time.
    unrooted_was_trash: bool,
    scratch_peak_bytes: usize,
    background: BackgroundStatus,
    types: HashMap<String, TypeHistory>,
    pub compared: u64,
    pub differences: u64,
}

#[derive(Clone)]
struct Running {
    suspects: usize,
    is_counted: bool,
    searched: Duration,
    /// The suspects by type: its address, and its name.
    types: Vec<(SuspectType, String)>,
}

/// What full collections found of one type.
#[derive(Clone, Default)]
struct TypeHistory {
    objects: u64,
    is_estimate: bool,
    /// What was sampled of them, by call site.
    sites: HashMap<SiteId, Estimate>,
}

impl History {
    /// Whether what no root leads to had better be left to CPython uncounted. It counts for itself what it is left with;
    /// where that is trash, as it was the last time, our count is work done twice.
    pub fn expects_trash(&self) -> bool {
        self.unrooted_was_trash
    }

    /// Our search is through, in a collection that goes on.
    pub fn searched(&mut self, found: Found) {
        let searched = found.phases.total();
        let Found { candidates, suspects, unrooted, is_counted, phases, types, scratch_bytes, .. } = found;
        self.examined += candidates as u64;
        if is_counted {
            self.unrooted_was_trash = suspects > unrooted / 2;
        }
        // SAFETY: suspects are alive, and with them their types; the GIL is held.
        let named = |suspects: SuspectType| unsafe {
            let name = type_name(suspects.kind);
            (suspects, name)
        };
        let types = types.into_iter().map(named).collect();
        self.running = Some(Running { suspects, is_counted, searched, types });
        self.phases.add(&phases);
        self.scratch_peak_bytes = self.scratch_peak_bytes.max(scratch_bytes);
    }

    /// The survivors of a middle generation were promoted.
    pub fn promoted(&mut self, promoted: Promoted) {
        self.examined_young += promoted.examined as u64;
        self.scratch_peak_bytes = self.scratch_peak_bytes.max(promoted.scratch_bytes);
    }

    /// A child was started, or nearly so.
    pub fn begun(&mut self, start: Duration) {
        self.background.started += 1;
        self.background.start_s += start.as_secs_f64();
    }

    /// A child has searched.
    pub fn finished(&mut self, finished: Finished) {
        self.background.finished += 1;
        self.background.search_s += finished.search.as_secs_f64();
        self.examined += finished.candidates as u64;
        self.scratch_peak_bytes = self.scratch_peak_bytes.max(finished.scratch_bytes);
    }

    /// CPython has disposed of what it was left with, if we searched, and left what `visit_left` visits.
    pub fn disposed(&mut self, visit_left: impl FnOnce(&mut dyn FnMut(*mut PyObject))) {
        let Some(running) = self.running.as_mut() else { return };
        if !running.is_counted {
            let mut left = 0;
            visit_left(&mut |object| {
                left += 1;
                // SAFETY: alive; the GIL is held.
                let kind = unsafe { ffi::Py_TYPE(object) };
                if let Some((known, _)) = running.types.iter_mut().find(|(known, _)| known.kind == kind) {
                    known.objects = known.objects.saturating_sub(1);
                }
            });
            self.unrooted_was_trash = left < running.suspects / 2;
        }
        for (suspects, name) in running.types.drain(..).filter(|(suspects, _)| suspects.objects > 0) {
            if self.types.len() < MAX_TYPES || self.types.contains_key(&name) {
                let known = self.types.entry(name).or_default();
                known.objects += suspects.objects as u64;
                known.is_estimate |= suspects.is_estimate;
                for (site, estimate) in suspects.samples {
                    known.sites.entry(site).or_default().add(&estimate);
                }
            }
        }
    }

    /// A collection is over.
    pub fn note(&mut self, generation: usize, pause: Duration) {
        if let Some(pauses) = self.pauses.get_mut(generation) {
            pauses.record(pause.as_nanos() as u64);
        }
        if generation == OLD
            && let Some(running) = self.running.take()
        {
            self.dispose += pause.saturating_sub(running.searched);
        }
    }
}

/// A type's name as programs know it: with its module, unless that is `builtins`.
///
/// # Safety
/// `kind` is a live type; the GIL is held.
unsafe fn type_name(kind: *mut ffi::PyTypeObject) -> String {
    // SAFETY: by the caller's word. `tp_name` has the module for static types; a heap type's is its bare name.
    unsafe {
        let name = CStr::from_ptr((*kind).tp_name).to_string_lossy().into_owned();
        if (*kind).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 || (*kind).tp_dict.is_null() {
            return name;
        }
        // A look-up could run code, of a key that is a kind of string.
        let (mut position, mut key, mut module) = (0, ptr::null_mut(), ptr::null_mut());
        while ffi::PyDict_Next((*kind).tp_dict, &mut position, &mut key, &mut module) != 0 {
            if ffi::PyUnicode_CheckExact(key) != 0
                && ffi::PyUnicode_CompareWithASCIIString(key, c"__module__".as_ptr()) == 0
            {
                break;
            }
            module = ptr::null_mut();
        }
        if module.is_null() || ffi::PyUnicode_Check(module) == 0 {
            return name;
        }
        let text = ffi::PyUnicode_AsUTF8(module);
        if text.is_null() {
            ffi::PyErr_Clear();
            return name;
        }
        match CStr::from_ptr(text).to_string_lossy().as_ref() {
            "builtins" | "__main__" => name,
            module => format!("{module}.{name}"),
        }
    }
}

/// The record of the interpreter whose GIL is held. Without a seat it says what CPython knows itself.
pub fn status(state: CollectorState, seat: Option<(&History, Mode)>, reason: Option<String>) -> CollectorStatus {
    let history = seat.map(|(history, _)| history);
    let mode = match seat {
        None | Some((_, Mode::Cpython)) => "cpython",
        Some((_, Mode::Heapkeeper)) => "heapkeeper",
        Some((_, Mode::Background)) => "background",
        Some((_, Mode::Verify)) => "verify",
    };
    let mut generations: [GenerationStatus; GENERATIONS] = cpython_stats();
    if let Some(history) = history {
        for (i, generation) in generations.iter_mut().enumerate() {
            generation.pauses = Some(pauses(&history.pauses[i]));
        }
        generations[MIDDLE].examined = Some(history.examined_young);
        generations[OLD].examined = Some(history.examined);
    }
    let together = history.map(|history| {
        let mut all = Pauses::default();
        history.pauses.iter().for_each(|of| all.add(of));
        pauses(&all)
    });
    let phases = history.map(|history| history.phases).unwrap_or_default();
    CollectorStatus {
        mode: mode.to_owned(),
        // Another interpreter's, where there is a seat in this one.
        reason: reason.filter(|_| seat.is_none()),
        generations,
        pauses: together,
        phases: PhaseStatus {
            walk_s: phases.walk.as_secs_f64(),
            roots_s: phases.roots.as_secs_f64(),
            count_s: phases.count.as_secs_f64(),
            mark_s: phases.mark.as_secs_f64(),
            order_s: phases.order.as_secs_f64(),
            untrack_s: phases.untrack.as_secs_f64(),
            dispose_s: history.map_or(0.0, |history| history.dispose.as_secs_f64()),
        },
        scratch_peak_bytes: history.map_or(0, |history| history.scratch_peak_bytes as u64),
        cycle_types: history.map_or_else(Vec::new, top_types),
        frozen: frozen(state),
        enabled: state.is_enabled(),
        counts: std::array::from_fn(|i| state.count(i).into()),
        thresholds: std::array::from_fn(|i| state.threshold(i).into()),
        long_lived: state.long_lived_total() as u64,
        background: seat.filter(|(_, mode)| *mode == Mode::Background).map(|(history, _)| history.background.clone()),
        verified: matches!(seat, Some((_, Mode::Verify))).then(|| VerifyStatus {
            collections: history.map_or(0, |history| history.compared),
            differences: history.map_or(0, |history| history.differences),
        }),
    }
}

fn pauses(pauses: &Pauses) -> PauseStatus {
    PauseStatus {
        count: pauses.count(),
        total_s: pauses.total().as_secs_f64(),
        longest_s: pauses.longest().as_secs_f64(),
        p50_s: pauses.at_most(0.5).as_secs_f64(),
        p99_s: pauses.at_most(0.99).as_secs_f64(),
        buckets: pauses.buckets().to_vec(),
    }
}

fn top_types(history: &History) -> Vec<CycleType> {
    let mut types: Vec<_> = history.types.iter().collect();
    types.sort_by_key(|(name, found)| (std::cmp::Reverse(found.objects), (*name).clone()));
    let shown = types.into_iter().take(TOP_TYPES).map(|(name, found)| CycleType {
        type_name: name.clone(),
        objects: found.objects,
        is_estimate: found.is_estimate,
        site: if found.sites.is_empty() { None } else { profile::largest_site(&found.sites) },
    });
    shown.collect()
}

fn frozen(state: CollectorState) -> u64 {
    let mut count = 0;
    // SAFETY: the GIL is held, and the layout is checked wherever a heap of ours exists.
    unsafe { state.permanent().for_each(|_| count += 1) };
    count
}

/// What `gc.get_stats()` says. Zeros where it fails.
fn cpython_stats() -> [GenerationStatus; GENERATIONS] {
    let mut generations: [GenerationStatus; GENERATIONS] = Default::default();
    // SAFETY: the GIL is held; each new reference is given back, and a failure cleared.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"gc".as_ptr());
        let name = ffi::PyUnicode_InternFromString(c"get_stats".as_ptr());
        let failed = module.is_null() || name.is_null();
        let stats = if failed { ptr::null_mut() } else { ffi::PyObject_CallMethodNoArgs(module, name) };
        if !stats.is_null() && ffi::PyList_Check(stats) != 0 {
            for (i, generation) in generations.iter_mut().enumerate().take(ffi::PyList_GET_SIZE(stats) as usize) {
                let entry: *mut PyObject = ffi::PyList_GET_ITEM(stats, i as isize);
                let number = |key: &CStr| {
                    let item = ffi::PyDict_GetItemString(entry, key.as_ptr());
                    if item.is_null() { 0 } else { ffi::PyLong_AsLongLong(item).max(0) as u64 }
                };
                generation.collections = number(c"collections");
                generation.collected = number(c"collected");
                generation.uncollectable = number(c"uncollectable");
            }
        }
        ffi::Py_XDECREF(stats);
        ffi::Py_XDECREF(name);
        ffi::Py_XDECREF(module);
        ffi::PyErr_Clear();
    }
    generations
}
