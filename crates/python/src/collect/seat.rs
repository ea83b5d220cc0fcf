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
//! `gc.collect` says that the program asks. `gc.get_objects`, `gc.get_referrers` and `gc.freeze` put the survivors back first if a finalizer calls them while CPython
//! disposes; the first leaves the milestones out of its answer, the last takes them up. Their method table is static data of
//! the interpreter, shared by all interpreters of the process.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use heapkeeper_record::CollectorStatus;
use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::collect::background::{Background, Plan};
use crate::collect::history;
use crate::collect::list::HeaderPtr;
use crate::collect::milestones::Milestones;
use crate::collect::state::{CollectorState, GENERATIONS};
use crate::collect::survivors::Survivors;
use crate::collect::{Mode, Phase, Seat};
use crate::{frames, hosts};

/// The seats of all interpreters, by the address of their state.
static SEATS: Mutex<Vec<SeatPtr>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct SeatPtr(*mut Seat);

// SAFETY: followed under the GIL of the seat's interpreter only.
unsafe impl Send for SeatPtr {}

/// The seat of the interpreter whose GIL is held.
fn current() -> Option<*mut Seat> {
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
        unsafe { replace_execs() };
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
        let module = Owned(ffi::PyImport_ImportModule(c"gc".as_ptr()));
        if module.0.is_null() {
            ffi::PyErr_Clear();
            return Err("the module gc cannot be imported".to_owned());
        }
        let state = CollectorState::current();
        check(state, module.0)?;
        // Interpreters with a GIL of their own may come here at the same time.
        let patching = PATCHING.lock();
        replace_exec(module.0);
        let kind = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        replace_method(module.0, c"collect", kind, &COLLECT, collect as _);
        replace_method(module.0, c"get_objects", kind, &GET_OBJECTS, get_objects as _);
        replace_method(module.0, c"get_referrers", REFERRERS_KIND, &GET_REFERRERS, get_referrers as _);
        replace_method(module.0, c"freeze", ffi::METH_NOARGS, &FREEZE, freeze as _);
        drop(patching);
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
            milestones: if all_replaced() { state.uncounted(Milestones::new) } else { Milestones::none() },
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

/// Compare what the headers say with what `gc` answers. What is at fault is the error, in one line.
///
/// # Safety
/// The GIL is held and no exception is set; `module` is `gc`.
unsafe fn check(state: CollectorState, module: *mut PyObject) -> Result<(), String> {
    // SAFETY: by the caller's word. The first reads go through the kernel: wrong offsets are an error and not a crash.
    unsafe {
        let attribute = |name: &CStr| {
            let object = Owned(ffi::PyObject_GetAttrString(module, name.as_ptr()));
            ffi::PyErr_Clear();
            object
        };
        let word = |offset| frames::checked_word(state.interpreter().cast(), offset);
        let layout = crate::layout::Layout::get();
        let callbacks = attribute(c"callbacks");
        let garbage = attribute(c"garbage");
        if word(layout.gc_callbacks) != Some(callbacks.0.addr())
            || callbacks.0.is_null()
            || ffi::PyList_CheckExact(callbacks.0) == 0
            || word(layout.gc_garbage) != Some(garbage.0.addr())
            || state.garbage().is_null()
        {
            return Err(
                "gc.callbacks or gc.garbage is not the interpreter's own list: has the program replaced it?".to_owned()
            );
        }
        let ask = |name: &CStr| {
            let answer =
                Owned(ffi::PyObject_CallMethodNoArgs(module, Owned(ffi::PyUnicode_FromString(name.as_ptr())).0));
            ffi::PyErr_Clear();
            answer
        };
        let item = |tuple: &Owned, i| {
            let item = ffi::PySequence_GetItem(tuple.0, i as Py_ssize_t);
            let number = if item.is_null() { -1 } else { ffi::PyLong_AsLong(item) };
            ffi::Py_XDECREF(item);
            ffi::PyErr_Clear();
            number as c_int
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
        if ffi::PyObject_IsTrue(enabled.0) != c_int::from(state.is_enabled())
            || ffi::PyLong_AsLong(debug.0) as c_int != state.debug()
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

/// Held while the interpreter's tables are written, which are all interpreters'.
static PATCHING: Mutex<()> = Mutex::new(());

/// A program that becomes another one would leave it a child to wait for.
///
/// # Safety
/// The GIL is held and no exception is set.
unsafe fn replace_execs() {
    // SAFETY: by the caller's word.
    unsafe {
        let module = Owned(ffi::PyImport_ImportModule(c"posix".as_ptr()));
        if module.0.is_null() {
            ffi::PyErr_Clear();
            return;
        }
        let _patching = PATCHING.lock();
        replace_method(module.0, c"execv", ffi::METH_FASTCALL, &EXECV, execv as _);
        replace_method(module.0, c"execve", ffi::METH_FASTCALL | ffi::METH_KEYWORDS, &EXECVE, execve as _);
    }
}

/// The interpreter's own functions, null until replaced.
static EXECV: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static EXECVE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static COLLECT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static GET_OBJECTS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static GET_REFERRERS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static FREEZE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Replace `gc.name`, once, if it is called as we expect; otherwise a finalizer that calls it sees the trash alone.
///
/// # Safety
/// `ours` is a function of the kind that `flags` say; the GIL is held.
unsafe fn replace_method(
    module: *mut PyObject,
    name: &CStr,
    flags: c_int,
    original: &AtomicPtr<c_void>,
    ours: *const c_void,
) {
    // SAFETY: the object is checked to be a C function of the kind expected before its table is written; all kinds of
    // pointers in the table are one word.
    unsafe {
        let function = Owned(ffi::PyObject_GetAttrString(module, name.as_ptr()));
        if function.0.is_null() || ffi::PyCFunction_CheckExact(function.0) == 0 {
            ffi::PyErr_Clear();
            return;
        }
        let table = (*function.0.cast::<ffi::PyCFunctionObject>()).m_ml;
        if (*table).ml_flags != flags || !original.load(Relaxed).is_null() {
            return;
        }
        let seat = (&raw mut (*table).ml_meth).cast::<*mut c_void>();
        original.store(seat.replace(ours.cast_mut()), Relaxed);
    }
}

/// Whether those that look at all objects come past us, and those that ask for a collection.
pub fn all_replaced() -> bool {
    [&COLLECT, &GET_OBJECTS, &GET_REFERRERS, &FREEZE].iter().all(|original| !original.load(Relaxed).is_null())
}

/// What makes the contents of the module `gc`, null until replaced.
static EXEC: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// A program may import `gc` anew: then the new module's `callbacks` must be the program's list and not ours.
///
/// # Safety
/// `module` is `gc`; the GIL is held.
unsafe fn replace_exec(module: *mut PyObject) {
    // SAFETY: by the caller's word; the definition and its slots are static data of the interpreter.
    unsafe {
        let definition = ffi::PyModule_GetDef(module);
        if definition.is_null() || (*definition).m_slots.is_null() || !EXEC.load(Relaxed).is_null() {
            ffi::PyErr_Clear();
            return;
        }
        let mut slot = (*definition).m_slots;
        while (*slot).slot != 0 && (*slot).slot != ffi::Py_mod_exec {
            slot = slot.add(1);
        }
        if (*slot).slot == ffi::Py_mod_exec {
            EXEC.store((*slot).value, Relaxed);
            (*slot).value = exec as *mut c_void;
        }
    }
}

unsafe extern "C" fn exec(module: *mut PyObject) -> c_int {
    // SAFETY: called by the interpreter with the GIL held; a function of this kind was stored.
    unsafe {
        let original: unsafe extern "C" fn(*mut PyObject) -> c_int = transmute(EXEC.load(Relaxed));
        let Some(seat) = current() else { return original(module) };
        let state = (*seat).state;
        let ours = state.replace_callbacks((*seat).callbacks);
        let result = original(module);
        state.replace_callbacks(ours);
        result
    }
}

/// A function without named arguments.
type WithoutNames = unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, Py_ssize_t) -> *mut PyObject;
/// A function with named arguments.
type WithNames = unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, Py_ssize_t, *mut PyObject) -> *mut PyObject;

unsafe extern "C" fn collect(
    module: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: a function of this kind was stored; its arguments are passed on. The GIL is held before and after, and an
    // interpreter's seat lasts as long as its code runs.
    unsafe {
        let original = transmute::<*mut c_void, WithNames>(COLLECT.load(Relaxed));
        let Some(seat) = current() else { return original(module, arguments, count, names) };
        (*seat).asked(|| original(module, arguments, count, names))
    }
}

fn end_children() {
    if let Some(seat) = current() {
        // SAFETY: the GIL is held.
        unsafe { (*seat).background.end() };
    }
}

unsafe extern "C" fn execv(module: *mut PyObject, arguments: *const *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
    end_children();
    // SAFETY: a function of this kind was stored; its arguments are passed on.
    unsafe { transmute::<*mut c_void, WithoutNames>(EXECV.load(Relaxed))(module, arguments, count) }
}

unsafe extern "C" fn execve(
    module: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    end_children();
    // SAFETY: as above.
    unsafe { transmute::<*mut c_void, WithNames>(EXECVE.load(Relaxed))(module, arguments, count, names) }
}

unsafe extern "C" fn get_objects(
    module: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    show_survivors();
    // SAFETY: a function of this kind was stored; its arguments are passed on, and its answer is a new list. The GIL is held.
    unsafe {
        let original = transmute::<*mut c_void, WithNames>(GET_OBJECTS.load(Relaxed));
        let answer = original(module, arguments, count, names);
        if !answer.is_null()
            && let Some(seat) = current()
        {
            (*seat).milestones.leave_out_of(answer);
        }
        answer
    }
}

fn show_survivors() {
    if let Some(seat) = current() {
        // SAFETY: the GIL is held.
        unsafe { (*seat).show_survivors() };
    }
}

/// How `gc.get_referrers` is called: with a tuple, or since 3.13 with an array.
const REFERRERS_KIND: c_int = if cfg!(Py_3_13) { ffi::METH_FASTCALL } else { ffi::METH_VARARGS };

#[cfg(not(Py_3_13))]
unsafe extern "C" fn get_referrers(module: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject {
    show_survivors();
    // SAFETY: as above.
    unsafe { transmute::<*mut c_void, ffi::PyCFunction>(GET_REFERRERS.load(Relaxed))(module, arguments) }
}

#[cfg(Py_3_13)]
unsafe extern "C" fn get_referrers(
    module: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    show_survivors();
    // SAFETY: as above.
    unsafe { transmute::<*mut c_void, WithoutNames>(GET_REFERRERS.load(Relaxed))(module, arguments, count) }
}

unsafe extern "C" fn freeze(module: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject {
    if let Some(seat) = current() {
        // SAFETY: the GIL is held.
        unsafe { (*seat).show_survivors_alone() };
    }
    // SAFETY: as above.
    unsafe { transmute::<*mut c_void, ffi::PyCFunction>(FREEZE.load(Relaxed))(module, arguments) }
}
