//! Functions of the interpreter's own that come past us: those of `gc`, and `os.execv` and `os.execve`.
//!
//! `gc.collect` says that the program asks. `gc.get_objects`, `gc.get_referrers` and `gc.freeze` put the survivors back first if a
//! finalizer calls them while CPython disposes; the first leaves the milestones out of its answer, the last takes them up.
//!
//! A module's definition with its table of methods is static data of the interpreter, shared by all interpreters of the process:
//! what is replaced there reaches references that programs took earlier, and modules that are imported later.

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed, Ordering::Release};

use pyo3_ffi::{self as ffi, Py_ssize_t, PyObject};

use crate::collect::seat::current;
use crate::interpreter;

/// Held while the interpreter's tables are written, which are all interpreters'.
static WRITING: Mutex<()> = Mutex::new(());

/// The definition of a module that is built into the interpreter. To import the module would take a hundred times as long.
#[derive(Clone, Copy)]
pub struct Definition(*mut ffi::PyModuleDef);

impl Definition {
    /// That of the module `name`, if it is one of those with a definition (PEP 489).
    ///
    /// # Safety
    /// The GIL is held and no exception is set.
    pub unsafe fn of(name: &CStr) -> Option<Definition> {
        // SAFETY: an entry without a name ends the table; the function of such a module makes its definition known and changes
        // nothing else. A table that is not the interpreter's own is an embedding program's, which may have freed it since.
        unsafe {
            if !interpreter::in_image(ffi::PyImport_Inittab.cast()) {
                return Definition::of_imported(name);
            }
            let mut entry = ffi::PyImport_Inittab;
            while !(*entry).name.is_null() && CStr::from_ptr((*entry).name) != name {
                entry = entry.add(1);
            }
            let definition = (*entry).initfunc?();
            if definition.is_null() || ffi::Py_TYPE(definition) != &raw mut ffi::PyModuleDef_Type {
                ffi::PyErr_Clear();
                return None;
            }
            Some(Definition(definition.cast()))
        }
    }

    /// The same by importing it, if that is the interpreter's module.
    ///
    /// # Safety
    /// As for [`Definition::of`].
    unsafe fn of_imported(name: &CStr) -> Option<Definition> {
        // SAFETY: by the caller's word; the module's reference is given back, and its definition is looked for in static data.
        unsafe {
            let module = ffi::PyImport_ImportModule(name.as_ptr());
            let definition = if module.is_null() { ptr::null_mut() } else { ffi::PyModule_GetDef(module) };
            ffi::Py_XDECREF(module);
            ffi::PyErr_Clear();
            interpreter::in_image(definition.cast()).then_some(Definition(definition))
        }
    }

    /// The entry of a function, if it is called as we expect.
    fn method(self, name: &CStr, flags: c_int) -> Option<*mut ffi::PyMethodDef> {
        // SAFETY: static data of the interpreter; an entry without a name ends it.
        unsafe {
            let mut method = (*self.0).m_methods;
            while !method.is_null() && !(*method).ml_name.is_null() {
                if CStr::from_ptr((*method).ml_name) == name {
                    return ((*method).ml_flags == flags).then_some(method);
                }
                method = method.add(1);
            }
        }
        None
    }

    /// Call a function that takes no arguments, and of its module nothing either. Null if there is no such function, and with an
    /// exception set if it raises one.
    ///
    /// # Safety
    /// The GIL is held and no exception is set.
    pub unsafe fn call(self, name: &CStr) -> *mut PyObject {
        let Some(method) = self.method(name, ffi::METH_NOARGS) else { return ptr::null_mut() };
        // SAFETY: a function of this kind, by its flags.
        unsafe { ((*method).ml_meth.PyCFunction)(ptr::null_mut(), ptr::null_mut()) }
    }

    /// Replace a function, once, if it is called as we expect.
    ///
    /// # Safety
    /// `ours` is a function of the kind that `flags` say; the GIL is held, and [`WRITING`].
    unsafe fn replace(self, name: &CStr, flags: c_int, original: &AtomicPtr<c_void>, ours: *const c_void) {
        let Some(method) = self.method(name, flags).filter(|_| original.load(Relaxed).is_null()) else { return };
        // SAFETY: all kinds of pointers in the table are one word.
        unsafe { publish((&raw mut (*method).ml_meth).cast(), original, ours) };
    }

    /// Replace what makes the contents of the module, once.
    ///
    /// # Safety
    /// As for [`Definition::replace`].
    unsafe fn replace_exec(self, original: &AtomicPtr<c_void>, ours: *const c_void) {
        // SAFETY: static data of the interpreter; an entry of kind 0 ends it.
        unsafe {
            let mut slot = (*self.0).m_slots;
            if slot.is_null() || !original.load(Relaxed).is_null() {
                return;
            }
            while (*slot).slot != 0 && (*slot).slot != ffi::Py_mod_exec {
                slot = slot.add(1);
            }
            if (*slot).slot == ffi::Py_mod_exec {
                publish(&raw mut (*slot).value, original, ours);
            }
        }
    }
}

/// Put `ours` in a place of the interpreter's tables, once what is there is known: another interpreter's thread may call it at once.
///
/// # Safety
/// `place` holds a function, and is written by nobody else meanwhile.
unsafe fn publish(place: *mut *mut c_void, original: &AtomicPtr<c_void>, ours: *const c_void) {
    // SAFETY: by the caller's word; an aligned word.
    unsafe {
        original.store(place.read(), Release);
        AtomicPtr::from_ptr(place).store(ours.cast_mut(), Release);
    }
}

/// Have those of `gc` come past us. One that is not called as we expect stays: then a finalizer that calls it sees the trash alone.
///
/// # Safety
/// The GIL is held.
pub unsafe fn replace_in(gc: Definition) {
    // Interpreters with a GIL of their own may come here at the same time.
    let _writing = WRITING.lock();
    let kind = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    // SAFETY: each function is of the kind that stands beside it.
    unsafe {
        gc.replace_exec(&EXEC, exec as _);
        gc.replace(c"collect", kind, &COLLECT, collect as _);
        gc.replace(c"get_objects", kind, &GET_OBJECTS, get_objects as _);
        gc.replace(c"get_referrers", REFERRERS_KIND, &GET_REFERRERS, get_referrers as _);
        gc.replace(c"freeze", ffi::METH_NOARGS, &FREEZE, freeze as _);
    }
}

/// A program that becomes another one would leave it a child to wait for.
///
/// # Safety
/// The GIL is held and no exception is set.
pub unsafe fn replace_execs() {
    // SAFETY: as above.
    unsafe {
        let Some(posix) = Definition::of(c"posix") else { return };
        let _writing = WRITING.lock();
        posix.replace(c"execv", ffi::METH_FASTCALL, &EXECV, execv as _);
        posix.replace(c"execve", ffi::METH_FASTCALL | ffi::METH_KEYWORDS, &EXECVE, execve as _);
    }
}

/// The interpreter's own functions, null until replaced.
static EXECV: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static EXECVE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// What makes the contents of the module `gc`.
static EXEC: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static COLLECT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static GET_OBJECTS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static GET_REFERRERS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static FREEZE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Whether those that look at all objects come past us, and those that ask for a collection.
pub fn all_replaced() -> bool {
    [&COLLECT, &GET_OBJECTS, &GET_REFERRERS, &FREEZE].iter().all(|original| !original.load(Relaxed).is_null())
}

/// A program may import `gc` anew: then the new module's `callbacks` must be the program's list and not ours.
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
