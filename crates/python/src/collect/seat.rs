//! How our collector takes its seat in an interpreter, and what it checks before.
//!
//! `gcstate->callbacks` is what CPython calls, and the same list is the module's attribute `gc.callbacks`. Ours takes the place
//! of the first, and passes on to the second. It belongs to the interpreter then, which drops it at its end, and with it
//! the capsule that owns the [`Seat`].
//!
//! A seat may be taken while a collection runs, by a finalizer or a callback: that collection is CPython's then, and ends
//! without us. If it is in the middle of calling the program's callbacks, those behind the one that installs us are called
//! from our list: see [`sit`].
//!
//! Which functions of `gc` come past us is in `methods.rs`.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::mem::offset_of;
use std::ptr;
use std::sync::Mutex;

use heapkeeper_record::CollectorStatus;
use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::collect::background::{Background, Plan};
use crate::collect::history;
use crate::collect::list::HeaderPtr;
use crate::collect::methods::{self, Definition};
use crate::collect::milestones::Milestones;
use crate::collect::state::{CollectorState, GENERATIONS};
use crate::collect::survivors::Survivors;
use crate::collect::young::Young;
use crate::collect::{Mode, Phase, Seat};
use crate::{frames, hosts};

/// The seats of all interpreters, by the address of their state.
static SEATS: Mutex<Vec<SeatPtr>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct SeatPtr(*mut Seat);

// SAFETY: followed under the GIL of the seat's interpreter only.
unsafe impl Send for SeatPtr {}

/// The seat of the interpreter whose GIL is held.
pub fn current() -> Option<*mut Seat> {
    let interpreter = CollectorState::current().interpreter();
    let seats = SEATS.lock().ok()?;
    // SAFETY: seats are taken off the list before they go; the first field never changes.
    seats.iter().find(|seat| unsafe { (*seat.0).state.interpreter() == interpreter }).map(|seat| seat.0)
}

/// What reports say of this interpreter's collector. Runs Python code, and so borrows nothing meanwhile.
pub fn status(reason: Option<String>) -> CollectorStatus {
    // SAFETY: the GIL is held.
    let seat = current().map(|seat| unsafe {
        (*seat).survivors.count((*seat).state);
        ((*seat).history.borrow().clone(), (*seat).mode.get())
    });
    history::status(CollectorState::current(), seat.as_ref().map(|(history, mode)| (history, *mode)), reason)
}

/// Take the seat in the interpreter whose GIL is held, if there is something to do in it. Whoever sits there changes to this
/// mode, from the next collection on.
///
/// # Errors
/// The reason why CPython's collector stays alone, in one line.
///
/// # Safety
/// The GIL is held and no exception is set.
pub unsafe fn take(mode: Mode) -> Result<(), String> {
    if hosts::range().is_none() {
        return Err("it needs heapkeeper's allocator".to_owned());
    }
    if mode == Mode::Background {
        // SAFETY: by the caller's word.
        unsafe { methods::replace_execs() };
    }
    if let Some(seat) = current() {
        // SAFETY: by the caller's word.
        unsafe { (*seat).set_mode(mode) };
        return Ok(());
    }
    if mode == Mode::Cpython {
        return Ok(());
    }
    // SAFETY: by the caller's word.
    unsafe {
        let gc = Definition::of(c"gc").ok_or("the module gc is not the interpreter's own")?;
        let state = CollectorState::current();
        check_lists_of_module(state)?;
        check(state, gc)?;
        methods::replace_in(gc);
        sit(state, mode)
    }
}

/// # Safety
/// As for [`take`]; the state was checked.
unsafe fn sit(state: CollectorState, mode: Mode) -> Result<(), String> {
    // SAFETY: by the caller's word.
    unsafe {
        let seat = Box::new(Seat {
            state,
            mode: Cell::new(mode),
            callbacks: ffi::Py_NewRef(state.callbacks()),
            survivors: Survivors::new(),
            // Whoever could see them must come past us.
            young: Young::default(),
            milestones: if methods::all_replaced() { state.uncounted(Milestones::new) } else { Milestones::none() },
            verification: RefCell::default(),
            background: Background::default(),
            plan: Cell::new(Plan::Whole),
            asking: RefCell::default(),
            history: RefCell::default(),
            running: RefCell::default(),
            is_alone: Cell::new(false),
        });
        seat.survivors.clear();
        let seat = Box::into_raw(seat);
        let owner = Owned(ffi::PyCapsule_New(seat.cast(), ptr::null(), Some(leave)));
        if owner.0.is_null() {
            ffi::Py_DECREF((*seat).callbacks);
            drop(Box::from_raw(seat));
            ffi::PyErr_Clear();
            return Err(no_memory());
        }
        if let Ok(mut seats) = SEATS.lock() {
            seats.push(SeatPtr(seat));
        }
        let entry = Owned(ffi::PyCFunction_New(&raw mut ENTRY, owner.0));
        // The program's callbacks stand behind the entry for as long as it takes to get through the list once: in the middle
        // of that, CPython goes on with the next place of whatever list it finds.
        let list = ffi::PyList_GetSlice(state.callbacks(), 0, ffi::PyList_GET_SIZE(state.callbacks()));
        let placed = !entry.0.is_null()
            && !list.is_null()
            && match ffi::PyList_GET_SIZE(list) {
                0 => ffi::PyList_Append(list, entry.0) == 0,
                _ => ffi::PyList_SetItem(list, 0, ffi::Py_NewRef(entry.0)) == 0,
            };
        if !placed {
            ffi::Py_XDECREF(list);
            ffi::PyErr_Clear();
            return Err(no_memory());
        }
        // Programs that ask for all objects have no use for ours.
        ffi::PyObject_GC_UnTrack(list.cast());
        ffi::PyObject_GC_UnTrack(entry.0.cast());
        ffi::Py_DECREF(state.replace_callbacks(list));
    }
    Ok(())
}

static mut ENTRY: ffi::PyMethodDef = ffi::PyMethodDef {
    ml_name: c"heapkeeper".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: entry },
    ml_flags: ffi::METH_FASTCALL,
    ml_doc: c"Runs before and after each collection.".as_ptr(),
};

/// What CPython calls, with a phase and a dict.
unsafe extern "C" fn entry(capsule: *mut PyObject, arguments: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
    // SAFETY: called by the interpreter with the GIL held; the capsule is the one that `sit` made.
    unsafe {
        let seat: *mut Seat = ffi::PyCapsule_GetPointer(capsule, ptr::null()).cast();
        if !seat.is_null() && count == 2 {
            let list = (*seat).state.callbacks();
            if ffi::PyList_GET_SIZE(list) > 1 && !(*seat).is_alone.replace(true) {
                ffi::PyList_SetSlice(list, 1, ffi::PyList_GET_SIZE(list), ptr::null_mut());
            }
            let is_start = ffi::PyUnicode_CompareWithASCIIString(*arguments, c"start".as_ptr()) == 0;
            (*seat).called(if is_start { Phase::Start } else { Phase::Stop }, arguments);
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// The interpreter's collector ends.
unsafe extern "C" fn leave(capsule: *mut PyObject) {
    // SAFETY: called once, with the capsule that `sit` made, by the interpreter that it was made in.
    unsafe {
        let seat: *mut Seat = ffi::PyCapsule_GetPointer(capsule, ptr::null()).cast();
        if let Ok(mut seats) = SEATS.lock() {
            seats.retain(|known| known.0 != seat);
        }
        let seat = Box::from_raw(seat);
        seat.survivors.come_back(seat.state);
        ffi::Py_DECREF(seat.callbacks);
    }
}

/// Whether a collection is running in the interpreter whose GIL the calling thread holds, and in which we have a seat. False
/// for a thread without one. May be called while CPython allocates.
pub fn is_collecting() -> bool {
    let thread = frames::current_thread_state(frames::Domain::Raw);
    if thread.is_null() {
        return false;
    }
    // SAFETY: the calling thread's own state; seats are taken off the list before they go.
    unsafe {
        let interpreter = ffi::PyThreadState_GetInterpreter(thread);
        let state = |seat: &SeatPtr| (*seat.0).state;
        SEATS.try_lock().is_ok_and(|seats| {
            seats.iter().map(state).any(|state| state.interpreter() == interpreter && state.is_collecting())
        })
    }
}

/// In the child of a fork. Nothing is touched where the thread that forked has no interpreter's GIL: then C code forked, whose
/// child runs no Python, and the interpreter may be in the middle of anything.
pub fn after_fork() {
    let thread = frames::current_thread_state(frames::Domain::Raw);
    if thread.is_null() {
        return;
    }
    // SAFETY: the calling thread's own state.
    let interpreter = unsafe { ffi::PyThreadState_GetInterpreter(thread) };
    // Another interpreter's thread may have been caught with the lock.
    if let Ok(seats) = SEATS.try_lock() {
        // SAFETY: the child has one thread, and it holds the GIL of this interpreter.
        unsafe {
            seats
                .iter()
                .filter(|seat| (*seat.0).state.interpreter() == interpreter)
                .for_each(|seat| (*seat.0).after_fork());
        }
    }
}

/// A reference of ours.
struct Owned(*mut PyObject);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, or null; the GIL is held where these are made.
        unsafe { ffi::Py_XDECREF(self.0) };
    }
}

fn no_memory() -> String {
    "there is no memory for it".to_owned()
}

fn moved(what: &str) -> String {
    format!("this CPython's {what} is not where its headers say")
}

/// The two lists that the module `gc` shows are where the headers say. What is at fault is the error, in one line.
///
/// # Safety
/// The GIL is held and no exception is set.
unsafe fn check_lists_of_module(state: CollectorState) -> Result<(), String> {
    // SAFETY: by the caller's word. What may not be there is read by `checked_word`: wrong offsets are an error and not a crash.
    unsafe {
        let layout = crate::layout::Layout::get();
        let lists = [(c"callbacks", layout.gc_callbacks), (c"garbage", layout.gc_garbage)];
        let word = |offset| frames::checked_word(state.interpreter().cast(), offset).unwrap_or(0);
        let is_list = |address: usize| {
            let object: *const u8 = ptr::with_exposed_provenance(address);
            frames::checked_word(object, offset_of!(PyObject, ob_type) as u32)
                == Some((&raw const ffi::PyList_Type).addr())
        };
        // It may not be imported yet; the interpreter makes the lists before that (`_PyGC_Init`, 3.10 to 3.13).
        let name = Owned(ffi::PyUnicode_FromString(c"gc".as_ptr()));
        let module = Owned(if name.0.is_null() { ptr::null_mut() } else { ffi::PyImport_GetModule(name.0) });
        ffi::PyErr_Clear();
        for (name, offset) in lists {
            let is_shown = module.0.is_null() || {
                let shown = Owned(ffi::PyObject_GetAttrString(module.0, name.as_ptr()));
                ffi::PyErr_Clear();
                shown.0.addr() == word(offset)
            };
            if !is_shown || !is_list(word(offset)) {
                return Err(
                    "gc.callbacks or gc.garbage is not the interpreter's own list: has the program replaced it?"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// Compare what the headers say with what `gc` answers. What is at fault is the error, in one line.
///
/// # Safety
/// The GIL is held and no exception is set.
unsafe fn check(state: CollectorState, gc: Definition) -> Result<(), String> {
    // SAFETY: by the caller's word.
    unsafe {
        let ask = |name: &CStr| {
            let answer = Owned(gc.call(name));
            ffi::PyErr_Clear();
            answer
        };
        let number = |object: *mut PyObject| {
            let number = if object.is_null() { -1 } else { ffi::PyLong_AsLong(object) };
            ffi::PyErr_Clear();
            number as c_int
        };
        let item = |tuple: &Owned, i| {
            let item = Owned(ffi::PySequence_GetItem(tuple.0, i as Py_ssize_t)); // of null as well: an error
            number(item.0)
        };
        let thresholds = ask(c"get_threshold");
        let counts = ask(c"get_count");
        // Asking allocates, so that the youngest count is not to be compared.
        for i in 0..GENERATIONS {
            if item(&thresholds, i) != state.threshold(i) || (i > 0 && item(&counts, i) != state.count(i)) {
                return Err(moved("collector state"));
            }
        }
        let (enabled, debug) = (ask(c"isenabled"), ask(c"get_debug"));
        if enabled.0.is_null()
            || ffi::PyObject_IsTrue(enabled.0) != c_int::from(state.is_enabled())
            || number(debug.0) != state.debug()
        {
            return Err(moved("collector state"));
        }
        check_lists(state)
    }
}

/// A new object is the last of the youngest generation, and the heads lead back to themselves.
///
/// # Safety
/// The GIL is held and no exception is set.
unsafe fn check_lists(state: CollectorState) -> Result<(), String> {
    // SAFETY: by the caller's word.
    unsafe {
        let probe = Owned(ffi::PyList_New(0));
        if probe.0.is_null() {
            ffi::PyErr_Clear();
            return Err(no_memory());
        }
        let header = HeaderPtr::of(probe.0);
        let last = frames::checked_word(state.head(0).0.cast(), size_of::<usize>() as u32);
        if last.map(|word| word & !3) != Some(header.0.addr()) || header.next() != state.head(0) {
            return Err(moved("youngest generation"));
        }
        for head in [state.head(0), state.head(1), state.head(2), state.permanent()] {
            let first = frames::checked_word(head.0.cast(), 0).unwrap_or(0);
            let back = frames::checked_word(head.0.with_addr(first).cast(), size_of::<usize>() as u32);
            if back.map(|word| word & !3) != Some(head.0.addr()) {
                return Err(moved("list of objects"));
            }
        }
    }
    Ok(())
}
