//! A child that only looks: the process's memory as it is at one moment, without its threads.
//!
//! It is no child that the program could notice. A bare `clone` runs no handlers of `fork`; without an exit signal there is no
//! SIGCHLD, and `wait` and `waitpid` pass it over; it closes what files it inherited, so that pipes end when they should;
//! most signals do not reach it. `ps` shows it as `heapkeeper-look`, and what it used is in `RUSAGE_CHILDREN`.
//!
//! Other threads may hold any lock at that moment, libc's own too, and nobody is left to free it. So the child takes none,
//! drops no reference of the interpreter's, and allocates from memory that is its alone ([`Allocator`]).
//!
//! What the process writes while its child lives is copied, page by page. If the system runs out of memory, it is to end the
//! child and not the program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::io;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Seconds of processor time after which a child is ended, and of any time, if it waits for what never comes.
const MOST_CPU_S: libc::rlim_t = 60;
const MOST_S: libc::c_uint = 120;
/// What it yields to others, in steps of niceness.
const NICER: libc::c_int = 10;
/// The least that the kernel allows.
const SLICE_NS: u64 = 100_000;

/// A child that was started. Whoever has it sees to its end: the kernel keeps its number until then.
#[derive(Debug)]
pub struct Child(libc::pid_t);

impl Child {
    /// Start a child that does `work` and ends.
    ///
    /// # Errors
    /// The system's, where there is no process to be had.
    ///
    /// # Safety
    /// `work` takes no lock and calls nothing that may, and leaves by returning.
    pub unsafe fn start(work: impl FnOnce()) -> io::Result<Child> {
        // SAFETY: signal sets are plain data, made by `sigfillset` and by the kernel. The child has a copy of this stack.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            // Not `clone3`, which sandboxes refuse. Without flags, and with no exit signal, the order of the arguments is
            // the same everywhere.
            let none: libc::c_long = 0;
            let pid = libc::syscall(libc::SYS_clone, none, none, none, none, none);
            if pid == 0 {
                IS_CHILD.store(true, Relaxed);
                live_apart();
                work();
                libc::syscall(libc::SYS_exit_group, 0);
            }
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
            if pid < 0 { Err(error) } else { Ok(Child(pid as libc::pid_t)) }
        }
    }

    /// Whether it has ended; then its number is free, and it must not be asked again.
    pub fn has_ended(&self) -> bool {
        self.wait(libc::WNOHANG)
    }

    /// Have it end, soon; then it is given back, to be waited for. If it is a child of ours: a process that C code forked has
    /// its parent's number here.
    pub fn kill(self) -> Option<Child> {
        if self.has_ended() {
            return None;
        }
        // SAFETY: not waited for until now, so that nobody else has its number.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        Some(self)
    }

    /// Wait until it has ended.
    pub fn wait_for_end(self) {
        while !self.wait(0) {}
    }

    fn wait(&self, flags: libc::c_int) -> bool {
        // SAFETY: no conditions; `__WALL` is for children without an exit signal.
        let waited = unsafe { libc::waitpid(self.0, ptr::null_mut(), flags | libc::__WALL) };
        // Any error but an interruption says that there is no such child.
        waited == self.0 || waited < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted
    }
}

/// In the child: keep out of the program's way.
fn live_apart() {
    // SAFETY: system calls, and libc's functions that are nothing more.
    unsafe {
        // First of all, for somebody may wait for the end of a pipe. Kernels before 5.9 have no call for all of them.
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) != 0 {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            (0..limit.rlim_cur.min(1 << 20) as libc::c_int).for_each(|file| {
                libc::close(file);
            });
        }
        // Handlers of the program's would speak of the program.
        let deadly = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];
        // A service that is told to end as a whole has to wait for nobody.
        let ending = [libc::SIGTERM, libc::SIGALRM];
        let mut heard: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut heard);
        for signal in deadly.into_iter().chain(ending) {
            libc::signal(signal, libc::SIG_DFL);
        }
        for signal in ending {
            libc::sigaddset(&raw mut heard, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const heard, ptr::null_mut());
        libc::alarm(MOST_S);
        let limit = libc::rlimit { rlim_cur: MOST_CPU_S, rlim_max: MOST_CPU_S };
        libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
        yield_to_others();
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
        if file >= 0 {
            libc::write(file, c"1000".as_ptr().cast(), 4);
            libc::close(file);
        }
        libc::prctl(libc::PR_SET_NAME, c"heapkeeper-look".as_ptr());
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
}

/// Whoever wakes up on this processor need not wait for a slice of time to end. Not `SCHED_IDLE`: a child that never gets a turn
/// is of no use.
fn yield_to_others() {
    /// `struct sched_attr`, include/uapi/linux/sched/types.h, its first version.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    // SAFETY: system calls. Since 6.12 the kernel takes the time to be a slice, before it does not look.
    unsafe {
        let attributes = Attributes {
            size: size_of::<Attributes>() as u32,
            policy: libc::SCHED_BATCH as u32,
            flags: 0,
            nice: (libc::getpriority(libc::PRIO_PROCESS, 0) + NICER).min(19),
            priority: 0,
            runtime_ns: SLICE_NS,
            deadline_ns: 0,
            period_ns: 0,
        };
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
    }
}

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Memory that parent and child both see, zeroed; taken from the system where it is touched.
#[derive(Debug)]
pub struct Shared {
    start: *mut u8,
    bytes: usize,
}

impl Shared {
    /// `None` if there is no address space for it.
    pub fn new(bytes: usize) -> Option<Shared> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        (start != libc::MAP_FAILED).then(|| Shared { start: start.cast(), bytes })
    }

    /// Its first byte, aligned to a page.
    pub fn start(&self) -> *mut u8 {
        self.start
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; those who borrowed it are gone.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// The library's allocator: libc's, and in a child that only looks, memory that ends with it.
pub struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: libc's allocator keeps the contract; a child's blocks are distinct, as large and as aligned as asked for.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_CHILD.load(Relaxed) {
            return BUMP.alloc(layout);
        }
        // SAFETY: by the caller's word.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if IS_CHILD.load(Relaxed) {
            return BUMP.alloc(layout); // Fresh from the system.
        }
        // SAFETY: by the caller's word.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !IS_CHILD.load(Relaxed) {
            // SAFETY: by the caller's word.
            unsafe { System.dealloc(block, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        if !IS_CHILD.load(Relaxed) {
            // SAFETY: by the caller's word.
            return unsafe { System.realloc(block, layout, new_bytes) };
        }
        // SAFETY: by the caller's word; the old block stays as it is.
        unsafe {
            let new = BUMP.alloc(Layout::from_size_align_unchecked(new_bytes, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(new_bytes));
            }
            new
        }
    }
}

/// The child's memory: blocks cut off one after the other, and never given back.
struct Bump(UnsafeCell<Chunk>);

/// What is left of the last memory taken from the system.
struct Chunk {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: used in a child alone, which has one thread.
unsafe impl Sync for Bump {}

static BUMP: Bump = Bump(UnsafeCell::new(Chunk { start: ptr::null_mut(), bytes: 0 }));

/// What is taken from the system at least.
const CHUNK_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

impl Bump {
    #[cold]
    fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread.
        let chunk = unsafe { &mut *self.0.get() };
        let align = layout.align().max(16);
        let bytes = layout.size().next_multiple_of(16);
        let skipped = chunk.start.align_offset(align);
        if skipped.saturating_add(bytes) > chunk.bytes {
            // A mapping is aligned to a page; nobody here asks for more than that.
            let taken = bytes.max(CHUNK_BYTES).checked_next_multiple_of(PAGE_BYTES).filter(|_| align <= PAGE_BYTES);
            let Some(taken) = taken else { return ptr::null_mut() };
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            // SAFETY: a fresh mapping.
            let start = unsafe { libc::mmap(ptr::null_mut(), taken, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
            if start == libc::MAP_FAILED {
                return ptr::null_mut();
            }
            *chunk = Chunk { start: start.cast(), bytes: taken };
            return self.alloc(layout);
        }
        let block = chunk.start.wrapping_add(skipped);
        *chunk = Chunk { start: block.wrapping_add(bytes), bytes: chunk.bytes - skipped - bytes };
        block
    }
}
