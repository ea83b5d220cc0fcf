//! Where this CPython keeps its frames, and the check that it does.
//!
//! The numbers come from the headers of the version built for (`src/versions`, one file a version). At import
//! [`self_check`] asks the interpreter that is running the same things through its public interface; unless every answer
//! agrees, nothing of this is used.
//!
//! Invariant: [`Layout::get`] is read only where `self_check` has passed, by `frames.rs`, `profile` and `interpreter.rs`.

use core::ffi::CStr;
use core::fmt;

use pyo3_ffi as ffi;

use crate::frames::{self, RawFrame, Stack};

/// A field that this version does not have.
pub const ABSENT: u32 = u32::MAX;

/// The mirror of `struct hk_layout` in `versions/layout.h`, which says what each field is.
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Layout {
    pub supported: u32,
    pub version_hex: u32,
    pub free_threaded: u32,
    pub tstate_interp: u32,
    pub tstate_cframe: u32,
    pub tstate_frame: u32,
    pub cframe_frame: u32,
    pub interp_id: u32,
    pub interp_flags: u32,
    pub flag_main_obmalloc: u32,
    pub flags_of_main: u32,
    pub frame_code: u32,
    pub frame_previous: u32,
    pub frame_lasti: u32,
    pub frame_instr: u32,
    pub frame_owner: u32,
    pub owner_generator: u32,
    pub owner_cstack: u32,
    pub code_units: u32,
    pub code_unit_bytes: u32,
    pub code_firsttraceable: u32,
    pub code_firstlineno: u32,
    pub code_filename: u32,
    pub code_name: u32,
    pub code_linetable: u32,
    pub frame_locals: u32,
    pub code_locals: u32,
    pub code_nlocals: u32,
    pub code_cellvars: u32,
    pub code_freevars: u32,
    pub gc_enabled: u32,
    pub gc_debug: u32,
    pub gc_generations: u32,
    pub gc_generation_bytes: u32,
    pub gc_threshold: u32,
    pub gc_count: u32,
    pub gc_permanent: u32,
    pub gc_collecting: u32,
    pub gc_garbage: u32,
    pub gc_callbacks: u32,
    pub gc_long_lived_total: u32,
    pub gc_long_lived_pending: u32,
}

const _: () = assert!(size_of::<Layout>() == 42 * 4);

unsafe extern "C" {
    safe static hk_layout: Layout;
}

impl Layout {
    /// The layout of the version built for.
    #[inline]
    pub fn get() -> &'static Layout {
        &hk_layout
    }
}

/// Why the layout cannot be relied upon, in one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The interpreter has no global interpreter lock, or may run without it.
    FreeThreaded,
    /// heapkeeper has no layout of this version: `major`, `minor`.
    UnknownVersion(u32, u32),
    /// The module was built for another version: built for, running.
    OtherVersion((u32, u32), (u32, u32)),
    /// The interpreter contradicts the headers: what of.
    Contradiction(&'static str),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::FreeThreaded => {
                f.write_str("free-threaded CPython is not supported yet: use a build with the GIL")
            }
            LayoutError::UnknownVersion(major, minor) => {
                write!(
                    f,
                    "CPython {major}.{minor} is not known to this heapkeeper: use 3.10 to 3.13, or look for an update"
                )
            }
            LayoutError::OtherVersion(built, running) => write!(
                f,
                "this heapkeeper was built for CPython {}.{} and runs in {}.{}: install it with this interpreter's own pip",
                built.0, built.1, running.0, running.1
            ),
            LayoutError::Contradiction(what) => write!(
                f,
                "this CPython's {what} is not where its headers say: reinstall heapkeeper from source for this interpreter \
                 (pip install --no-binary heapkeeper heapkeeper)"
            ),
        }
    }
}

impl core::error::Error for LayoutError {}

/// Check the layout against the interpreter that is running.
///
/// Version and build first, then a probe: the walk through our offsets must give the frames that CPython's own interface
/// gives, code object by code object and instruction by instruction; a code object's fields and the interpreters' flags must
/// be where we look for them. The probe reads only what the kernel says is mapped, so that a wrong offset is an error and not a crash.
/// Without a Python frame the walk must find none either. Not probed, because nothing public tells it: which frames 3.11
/// and 3.12 are still setting up. A mistake there would add a frame to a stack or leave one out.
///
/// # Errors
/// See [`LayoutError`].
///
/// # Safety
/// The caller holds the GIL and no exception is set.
pub unsafe fn self_check() -> Result<(), LayoutError> {
    let layout = Layout::get();
    // SAFETY: `Py_GetVersion` gives a static string.
    let text = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
    if layout.free_threaded != 0 || text.contains("free-threading") {
        return Err(LayoutError::FreeThreaded);
    }
    let built = (layout.version_hex >> 24, layout.version_hex >> 16 & 0xff);
    let running = parse_version(&text).unwrap_or((0, 0));
    if running != built {
        return Err(LayoutError::OtherVersion(built, running));
    }
    if layout.supported == 0 {
        return Err(LayoutError::UnknownVersion(running.0, running.1));
    }
    // SAFETY: the GIL is held.
    unsafe {
        check_interpreter(layout)?;
        check_code(layout)?;
        check_frames(layout)
    }
}

/// Major and minor version at the start of `Py_GetVersion`'s text.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// # Safety
/// The GIL is held.
unsafe fn check_interpreter(layout: &Layout) -> Result<(), LayoutError> {
    // SAFETY: the GIL is held, so there is a current thread state and an interpreter.
    let (state, current, main) =
        unsafe { (ffi::PyThreadState_Get(), ffi::PyInterpreterState_Get(), ffi::PyInterpreterState_Main()) };
    let interp = frames::checked_word(state.cast(), layout.tstate_interp);
    if interp != Some(current.addr()) {
        return Err(LayoutError::Contradiction("thread state"));
    }
    if layout.interp_flags != ABSENT {
        // SAFETY: `current` is an interpreter.
        let id = unsafe { ffi::PyInterpreterState_GetID(current) };
        let id_fits = frames::checked_word(current.cast(), layout.interp_id) == Some(id as usize);
        let flags = frames::checked_word(main.cast(), layout.interp_flags);
        if !id_fits || flags != Some(layout.flags_of_main as usize) {
            return Err(LayoutError::Contradiction("interpreter state"));
        }
    }
    Ok(())
}

/// Compare the fields of a new code object with its attributes.
///
/// # Safety
/// The GIL is held and no exception is set.
unsafe fn check_code(layout: &Layout) -> Result<(), LayoutError> {
    const FIRST_LINE: i32 = 7_654_321;
    let name = if cfg!(Py_3_11) { c"co_qualname" } else { c"co_name" };
    let fields =
        [(layout.code_filename, c"co_filename"), (layout.code_name, name), (layout.code_linetable, c"co_linetable")];
    // SAFETY: the GIL is held; the names are static strings.
    let code = unsafe { ffi::PyCode_NewEmpty(c"heapkeeper".as_ptr(), c"probe".as_ptr(), FIRST_LINE) };
    if code.is_null() {
        // SAFETY: the GIL is held.
        unsafe { ffi::PyErr_Clear() };
        return Err(LayoutError::Contradiction("code object"));
    }
    let first_line = frames::checked_word(code.cast(), layout.code_firstlineno).map(|word| word as u32);
    let mut agree = first_line == Some(FIRST_LINE as u32);
    for (offset_bytes, name) in fields {
        // SAFETY: the GIL is held and `code` is an object; its attribute is an object that it keeps alive.
        unsafe {
            let attribute = ffi::PyObject_GetAttrString(code.cast(), name.as_ptr());
            agree &= !attribute.is_null() && frames::checked_word(code.cast(), offset_bytes) == Some(attribute.addr());
            ffi::Py_XDECREF(attribute);
            ffi::PyErr_Clear();
        }
    }
    // SAFETY: the reference is ours.
    unsafe { ffi::Py_DECREF(code.cast()) };
    match agree {
        true => Ok(()),
        false => Err(LayoutError::Contradiction("code object")),
    }
}

/// # Safety
/// The GIL is held.
unsafe fn check_frames(layout: &Layout) -> Result<(), LayoutError> {
    // SAFETY: the GIL is held.
    let state = unsafe { ffi::PyThreadState_Get() };
    let mut ours = Stack::new();
    if !frames::walk_checked(layout, state, &mut ours) {
        return Err(LayoutError::Contradiction("frame"));
    }
    // SAFETY: the GIL is held, `state` is the current thread state; returns a new reference or null.
    let mut frame = unsafe { ffi::PyThreadState_GetFrame(state) };
    let mut agree = true;
    for ours in ours.frames() {
        // SAFETY: `frame` is a frame or null; the GIL is held.
        let theirs = unsafe { raw_frame(frame) };
        // SAFETY: as above; `frame` is given up for its caller.
        frame = unsafe { back(frame) };
        agree &= theirs == Some(*ours);
    }
    // No frame may be left, unless ours stopped at the depth it keeps.
    agree &= frame.is_null() != ours.truncated();
    // SAFETY: `frame` is a reference of ours, or null; the GIL is held.
    unsafe { ffi::Py_XDECREF(frame.cast()) };
    match agree {
        true => Ok(()),
        false => Err(LayoutError::Contradiction("frame")),
    }
}

/// What CPython says of a frame; `None` for null and where it fails to answer.
///
/// # Safety
/// `frame` is a frame or null, and the GIL is held.
unsafe fn raw_frame(frame: *mut ffi::PyFrameObject) -> Option<RawFrame> {
    if frame.is_null() {
        return None;
    }
    // SAFETY: `frame` is a frame, the GIL is held; each new reference is given back.
    unsafe {
        let code = ffi::PyFrame_GetCode(frame);
        // The frame keeps its code object alive.
        ffi::Py_DECREF(code.cast());
        // An attribute rather than `PyFrame_GetLasti`, which 3.10 does not have. In bytes, or -1.
        let lasti = ffi::PyObject_GetAttrString(frame.cast(), c"f_lasti".as_ptr());
        if lasti.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        let offset_bytes = ffi::PyLong_AsLong(lasti) as i32;
        ffi::Py_DECREF(lasti);
        Some(RawFrame { code, offset_bytes })
    }
}

/// The caller of `frame`, whose reference is taken.
///
/// # Safety
/// `frame` is a reference to a frame or null, and the GIL is held.
unsafe fn back(frame: *mut ffi::PyFrameObject) -> *mut ffi::PyFrameObject {
    if frame.is_null() {
        return frame;
    }
    // SAFETY: `frame` is a frame and ours to give up.
    unsafe {
        let back = ffi::PyFrame_GetBack(frame);
        ffi::Py_DECREF(frame.cast());
        back
    }
}
