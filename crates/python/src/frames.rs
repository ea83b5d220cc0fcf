//! The current thread's Python stack, read from inside an allocation hook.
//!
//! A hook may run anywhere CPython allocates, so the walk only loads words: it allocates nothing, touches no reference
//! count, and of CPython calls only getters of the thread state, which do nothing but load a word themselves. Lines are
//! not looked up here; an offset into the code object is kept until somebody asks.
//!
//! What is left out is what a traceback leaves out (`_PyFrame_IsIncomplete` in CPython 3.11 to 3.13,
//! `Include/internal/pycore_frame.h`): marks of the C stack, and frames that are still being set up. The latter also covers
//! the frame that 3.13 puts between a class call and `__init__` (`_Py_InitCleanup` in `Python/specialize.c`), whose code
//! object says that none of its instructions is traceable.

use core::cell::Cell;
use core::ffi::c_long;
use core::mem::MaybeUninit;
use core::ptr;

use heapkeeper_profile::MAX_DEPTH;
use pyo3_ffi as ffi;
use pyo3_ffi::compat::PyThreadState_GetUnchecked;

use crate::layout::{ABSENT, Layout};

/// One frame: a code object, borrowed from the frame, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    /// The code object; never null.
    pub code: *mut ffi::PyCodeObject,
    /// Bytes into its instructions, as `PyCode_Addr2Line` takes it; -1 before the first.
    pub offset_bytes: i32,
}

/// The innermost frames of a stack, innermost first.
pub struct Stack {
    frames: [MaybeUninit<RawFrame>; MAX_DEPTH],
    len: usize,
    truncated: bool,
}

impl Stack {
    /// A stack without frames.
    #[inline]
    pub const fn new() -> Stack {
        Stack { frames: [const { MaybeUninit::uninit() }; MAX_DEPTH], len: 0, truncated: false }
    }

    /// The frames, innermost first.
    #[inline]
    pub fn frames(&self) -> &[RawFrame] {
        // SAFETY: `push` has written the first `len` of them.
        unsafe { core::slice::from_raw_parts(self.frames.as_ptr().cast(), self.len) }
    }

    /// There are more frames than a stack keeps.
    #[inline]
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Says whether there may be room for more.
    #[inline]
    fn push(&mut self, frame: RawFrame) -> bool {
        if self.len == MAX_DEPTH {
            self.truncated = true;
            return false;
        }
        self.frames[self.len].write(frame);
        self.len += 1;
        true
    }
}

/// Who runs a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The raw domain: any thread, with or without the GIL.
    Raw,
    /// The mem and object domains: a thread that holds its interpreter's GIL.
    Object,
}

/// Whose frames the current thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpreter {
    /// The main interpreter, or one that shares its allocator and its GIL.
    Shared,
    /// The interpreter of this number, whose objects live in a heap of its own.
    Own(i64),
}

/// The current thread's state if the thread holds the GIL, else null.
///
/// From 3.12 on the state is the thread's own variable, null unless it is attached. Before, it is the process's variable:
/// in the object domain the caller holds the GIL and so it is the caller's, in the raw domain it may be that of any other
/// thread and must be compared with the one that this thread was given.
#[inline]
pub fn current_thread_state(domain: Domain) -> *mut ffi::PyThreadState {
    // SAFETY: loads one word; allowed at any time.
    let current = unsafe { PyThreadState_GetUnchecked() };
    if cfg!(Py_3_12) || domain == Domain::Object || current.is_null() {
        return current;
    }
    // SAFETY: reads a slot of this thread's own storage; allowed without the GIL.
    match unsafe { ffi::PyGILState_GetThisThreadState() } == current {
        true => current,
        false => ptr::null_mut(),
    }
}

/// Whose frames `state` runs.
///
/// # Safety
/// `state` is the current thread's state, and the layout has been checked.
#[inline]
pub unsafe fn interpreter(layout: &Layout, state: *mut ffi::PyThreadState) -> Interpreter {
    if layout.interp_flags == ABSENT {
        return Interpreter::Shared;
    }
    // SAFETY: a thread state points to its interpreter, which outlives it; the layout says where the fields are.
    unsafe {
        let interp: *const u8 = read_at(state.cast(), layout.tstate_interp);
        let flags: u64 = read_at(interp, layout.interp_flags);
        match flags & u64::from(layout.flag_main_obmalloc) != 0 {
            true => Interpreter::Shared,
            false => Interpreter::Own(read_at(interp, layout.interp_id)),
        }
    }
}

/// Put the frames that `state` runs into `stack`, which is empty.
///
/// # Safety
/// `state` is the current thread's state, the thread holds the GIL, and the layout has been checked.
#[inline]
pub unsafe fn walk(layout: &Layout, state: *mut ffi::PyThreadState, stack: &mut Stack) {
    walk_with(&Direct, layout, state.cast(), stack);
}

/// A frame as it lies in memory, complete or not: where it is, what it runs, and where in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The frame.
    pub frame: *const u8,
    /// Its code object, or what a mark of the C stack has in that place.
    pub code: *const u8,
    /// Its next or last instruction, as this version notes it.
    pub place: usize,
}

/// The innermost frame that `state` runs; null if there is none.
///
/// # Safety
/// As for [`walk`].
#[inline(always)]
pub unsafe fn innermost(layout: &Layout, state: *mut ffi::PyThreadState) -> *const u8 {
    // `Direct` reads everything.
    first_frame(&Direct, layout, state.cast()).unwrap_or(ptr::null())
}

/// What called a frame, or null.
///
/// # Safety
/// The frame is linked by a running thread whose GIL is held, and the layout has been checked.
#[inline(always)]
pub unsafe fn previous(layout: &Layout, frame: *const u8) -> *const u8 {
    // SAFETY: by the caller's word.
    unsafe { read_at(frame, layout.frame_previous) }
}

/// The link of a frame. Two chains of equal links are the same stack: what [`of_link`] makes of a frame follows from its link.
///
/// # Safety
/// As for [`previous`].
#[inline(always)]
pub unsafe fn link(layout: &Layout, frame: *const u8) -> Link {
    // SAFETY: by the caller's word.
    unsafe {
        let place = match layout.frame_owner {
            ABSENT => read_at::<i32>(frame, layout.frame_lasti) as usize,
            _ => read_at(frame, layout.frame_instr),
        };
        Link { frame, code: read_at(frame, layout.frame_code), place }
    }
}

/// Whether the frame of a link has that link still.
///
/// # Safety
/// As for [`previous`], for the link's frame; if the link's code object is not alive any more, no frame runs at its place.
#[inline(always)]
pub unsafe fn is_at(layout: &Layout, known: &Link) -> bool {
    // SAFETY: by the caller's word.
    unsafe {
        match cfg!(Py_3_11) {
            // The place lies in the code object, and says which it is.
            true => read_at::<usize>(known.frame, layout.frame_instr) == known.place,
            false => link(layout, known.frame) == *known,
        }
    }
}

/// The frame of a link, or nothing where a traceback would have nothing either.
///
/// # Safety
/// The link is that of a running frame, and the layout has been checked.
#[inline]
pub unsafe fn of_link(layout: &Layout, link: Link) -> Option<RawFrame> {
    read_frame(&Direct, layout, link.frame).flatten()
}

/// [`walk`] with a layout not checked yet: says whether every word could be read.
pub fn walk_checked(layout: &Layout, state: *mut ffi::PyThreadState, stack: &mut Stack) -> bool {
    walk_with(&Checked::new(), layout, state.cast(), stack).is_some()
}

/// Visit what stands in the local variables of the frames that `state` runs: null, an object, or, in a frame that is being
/// left, what was an object.
///
/// # Safety
/// `state` is a thread state of the interpreter whose GIL is held, and the layout has been checked.
pub unsafe fn visit_locals(layout: &Layout, state: *mut ffi::PyThreadState, mut visit: impl FnMut(*mut ffi::PyObject)) {
    walk_frames(&Direct, layout, state.cast(), |frame, complete| {
        let first = frame.wrapping_add(layout.frame_locals as usize).cast::<*mut ffi::PyObject>();
        // SAFETY: a frame of this code object has so many locals, and it has been set up.
        unsafe {
            for i in 0..locals_of(layout, complete.code) {
                visit(first.add(i).read());
            }
        }
        true
    });
}

/// How many locals a frame of this code has: fast ones, cells and free variables.
///
/// # Safety
/// `code` is a code object, and the layout has been checked.
unsafe fn locals_of(layout: &Layout, code: *mut ffi::PyCodeObject) -> usize {
    let code: *const u8 = code.cast();
    // SAFETY: by the caller's word.
    unsafe {
        if layout.code_locals != ABSENT {
            return read_at::<i32>(code, layout.code_locals) as usize;
        }
        let length = |field| {
            let tuple: *mut ffi::PyObject = read_at(code, field);
            if tuple.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(tuple) as usize }
        };
        read_at::<i32>(code, layout.code_nlocals) as usize + length(layout.code_cellvars) + length(layout.code_freevars)
    }
}

/// The word at `offset_bytes` from `base`; `None` where nothing is mapped.
pub fn checked_word(base: *const u8, offset_bytes: u32) -> Option<usize> {
    Checked::new().read(base, offset_bytes)
}

/// The same where others may unmap it meanwhile; `None` also where the kernel may not be asked.
pub fn unknown_word(base: *const u8, offset_bytes: u32) -> Option<usize> {
    let mut word = 0_usize;
    let into = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<usize>() };
    let from = base.wrapping_add(offset_bytes as usize);
    let remote = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: size_of::<usize>() };
    // SAFETY: writes only to `word`; the kernel checks the other address.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &into, 1, &remote, 1, 0) };
    (read == size_of::<usize>() as isize).then_some(word)
}

/// # Safety
/// There is a `T` at `offset_bytes` from `base`.
#[inline]
unsafe fn read_at<T: Copy>(base: *const u8, offset_bytes: u32) -> T {
    // SAFETY: the caller's promise.
    unsafe { base.add(offset_bytes as usize).cast::<T>().read_unaligned() }
}

/// How the walk reads memory.
trait Memory {
    fn read<T: Copy>(&self, base: *const u8, offset_bytes: u32) -> Option<T>;
}

/// Reads what the layout promises.
struct Direct;

impl Memory for Direct {
    #[inline]
    fn read<T: Copy>(&self, base: *const u8, offset_bytes: u32) -> Option<T> {
        // SAFETY: `walk` uses this reader, whose caller vouches for the thread state and the layout; frames and code objects
        // that a running thread links are alive. `Checked` uses it for memory that it has seen to be there.
        Some(unsafe { read_at(base, offset_bytes) })
    }
}

/// Reads nothing but mapped memory, whatever it is asked for. Used while nothing is unmapped: the kernel is asked once whether
/// a page is there.
struct Checked {
    /// Addresses of pages that are, the newest in a place that moves on; 1 for none.
    readable: Cell<[usize; 8]>,
    newest: Cell<usize>,
}

/// The smallest there are.
const PAGE_BYTES: usize = 4096;

impl Checked {
    fn new() -> Checked {
        Checked { readable: Cell::new([1; 8]), newest: Cell::new(0) }
    }

    fn is_readable(&self, address: usize) -> bool {
        let page = address & !(PAGE_BYTES - 1);
        let mut readable = self.readable.get();
        if readable.contains(&page) {
            return true;
        }
        let is_there = kernel_can_read(address);
        if is_there {
            self.newest.set((self.newest.get() + 1) % readable.len());
            readable[self.newest.get()] = page;
            self.readable.set(readable);
        }
        is_there
    }
}

impl Memory for Checked {
    fn read<T: Copy>(&self, base: *const u8, offset_bytes: u32) -> Option<T> {
        let from = base.addr().wrapping_add(offset_bytes as usize);
        let is_there = self.is_readable(from) && self.is_readable(from.wrapping_add(size_of::<T>() - 1));
        is_there.then(|| Direct.read(base, offset_bytes)).flatten()
    }
}

/// Whether the kernel can read what is at an address: asked to change the signal mask in a way that there is none, it copies the
/// new mask from there first, and then does nothing. Cheaper than any call made for reading memory, and every sandbox allows it.
/// Nothing is mapped on the first page, which holds the address that stands for no mask.
fn kernel_can_read(address: usize) -> bool {
    const NO_SUCH_WAY: c_long = -1;
    if address < PAGE_BYTES {
        return false;
    }
    let mask: *const u64 = ptr::without_provenance(address & !7);
    // SAFETY: nothing is written, and the signal mask stays as it is.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NO_SUCH_WAY, mask, ptr::null_mut::<u64>(), size_of::<u64>()) };
    // SAFETY: `__errno_location` gives this thread's error number.
    result == 0 || unsafe { *libc::__errno_location() } != libc::EFAULT
}

/// `None` where a word could not be read.
#[inline]
fn walk_with(memory: &impl Memory, layout: &Layout, state: *const u8, stack: &mut Stack) -> Option<()> {
    walk_frames(memory, layout, state, |_, complete| stack.push(complete))
}

/// Visit frames, innermost first, until `visit` says no. `None` where a word could not be read.
#[inline(always)]
fn walk_frames(
    memory: &impl Memory,
    layout: &Layout,
    state: *const u8,
    mut visit: impl FnMut(*const u8, RawFrame) -> bool,
) -> Option<()> {
    let mut frame = first_frame(memory, layout, state)?;
    while !frame.is_null() {
        if let Some(complete) = read_frame(memory, layout, frame)?
            && !visit(frame, complete)
        {
            break;
        }
        frame = memory.read(frame, layout.frame_previous)?;
    }
    Some(())
}

/// The innermost frame; null if there is none.
#[inline(always)]
fn first_frame(memory: &impl Memory, layout: &Layout, state: *const u8) -> Option<*const u8> {
    match layout.tstate_cframe {
        ABSENT => memory.read(state, layout.tstate_frame),
        cframe => {
            let cframe: *const u8 = memory.read(state, cframe)?;
            if cframe.is_null() { Some(ptr::null()) } else { memory.read(cframe, layout.cframe_frame) }
        }
    }
}

/// The frame at `frame`, or nothing where a traceback would have nothing either.
#[inline(always)]
fn read_frame(memory: &impl Memory, layout: &Layout, frame: *const u8) -> Option<Option<RawFrame>> {
    if layout.frame_owner == ABSENT {
        let code: *mut ffi::PyCodeObject = memory.read(frame, layout.frame_code)?;
        let lasti: i32 = memory.read(frame, layout.frame_lasti)?;
        let offset_bytes = if lasti < 0 { -1 } else { lasti * layout.code_unit_bytes as i32 };
        return Some((!code.is_null()).then_some(RawFrame { code, offset_bytes }));
    }
    let owner = u32::from(memory.read::<u8>(frame, layout.frame_owner)?);
    // Before the code object: on 3.13 a mark of the C stack has `None` in its place.
    if owner == layout.owner_cstack {
        return Some(None);
    }
    let code: *mut ffi::PyCodeObject = memory.read(frame, layout.frame_code)?;
    if code.is_null() {
        return Some(None);
    }
    let instr: usize = memory.read(frame, layout.frame_instr)?;
    let first = code.addr() + layout.code_units as usize;
    let offset_bytes = instr.wrapping_sub(first) as isize;
    let firsttraceable: i32 = memory.read(code.cast(), layout.code_firsttraceable)?;
    let complete_from = firsttraceable as isize * layout.code_unit_bytes as isize;
    if owner != layout.owner_generator && offset_bytes < complete_from {
        return Some(None);
    }
    // A generator that has not run yet is one code unit before the first.
    Some(Some(RawFrame { code, offset_bytes: offset_bytes.max(-1) as i32 }))
}
