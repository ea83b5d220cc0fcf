//! The one seam to the operating system: reserve, commit, decommit, advise, move, wait, tell the time. Linux.
//!
//! Everything above this file deals in addresses it reserved here; every call checks what the kernel answered and
//! reports failure as `false` or `None`, never by aborting, and leaves `errno` as it found it: callers of `free` look at that
//! of the call before.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

/// The calling thread's `errno`, which is put back at the end of the scope.
pub(crate) struct KeepErrno(libc::c_int);

impl KeepErrno {
    pub(crate) fn new() -> KeepErrno {
        KeepErrno(errno())
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        // SAFETY: the address is that of this thread's own.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

fn errno() -> libc::c_int {
    // SAFETY: the address is that of this thread's own.
    unsafe { *libc::__errno_location() }
}

/// The kernel's page: 4 KiB here. Asked for once by the range.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: sysconf reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Arenas: no access, so that it counts for nothing. What `make_writable` asks for is then subject to the system's rules
    /// for overcommitment, as any allocation is: a request beyond all memory is refused at once instead of killing us later.
    None,
    /// A sparse table: writable, memory comes with the first touch of each OS page.
    Table,
}

/// Reserve address space where the kernel likes. `None` if it refuses.
pub(crate) fn reserve(bytes: usize, access: Access) -> Option<NonNull<u8>> {
    map(core::ptr::null_mut(), bytes, access, 0)
}

/// Reserve address space at `start`, if nothing is mapped there. `None` otherwise, and before Linux 4.17.
pub(crate) fn reserve_at(start: *mut u8, bytes: usize, access: Access) -> Option<NonNull<u8>> {
    let mapped = map(start, bytes, access, libc::MAP_FIXED_NOREPLACE)?;
    if mapped.as_ptr() != start {
        // SAFETY: the mapping is a moment old. A kernel that does not know the flag took the address for a wish.
        unsafe { release(mapped.as_ptr(), bytes) };
        return None;
    }
    Some(mapped)
}

fn map(start: *mut u8, bytes: usize, access: Access, flags: libc::c_int) -> Option<NonNull<u8>> {
    let _errno = KeepErrno::new();
    let (protection, lasting) = match access {
        Access::None => (libc::PROT_NONE, 0),
        Access::Table => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_NORESERVE),
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | lasting | flags;
    // SAFETY: an anonymous private mapping that replaces none touches nothing that exists.
    let address = unsafe { libc::mmap(start.cast(), bytes, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
}

/// A number that differs from process to process, from what the kernel hands every program for this purpose.
pub(crate) fn random() -> u64 {
    // SAFETY: the kernel's answer is null, or the address of 16 random bytes.
    unsafe {
        let bytes = core::ptr::with_exposed_provenance::<u64>(libc::getauxval(libc::AT_RANDOM) as usize);
        if bytes.is_null() { 0 } else { bytes.read_unaligned() }
    }
}

/// Give a reservation back, or a part. False, and nothing done, if the kernel refuses: it would have too many mappings then.
///
/// # Safety
/// `[start, start + bytes)` was reserved here and nothing refers to it any more.
pub(crate) unsafe fn release(start: *mut u8, bytes: usize) -> bool {
    let _errno = KeepErrno::new();
    // SAFETY: the caller owns the mapping.
    unsafe { libc::munmap(start.cast(), bytes) == 0 }
}

/// Make reserved address space readable and writable.
///
/// # Safety
/// The range lies in one reservation.
pub(crate) unsafe fn make_writable(start: *mut u8, bytes: usize) -> bool {
    let _errno = KeepErrno::new();
    // SAFETY: the caller owns the reservation.
    unsafe { libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) == 0 }
}

/// Give the memory behind `[start, start + bytes)` back; it reads as zeros afterwards. The kernel keeps locked memory
/// (`mlockall`): then it is written with zeros, for that is what callers build on.
///
/// # Safety
/// The range lies in one reservation, is writable, and holds nothing that is needed.
pub(crate) unsafe fn decommit(start: *mut u8, bytes: usize) {
    let _errno = KeepErrno::new();
    // SAFETY: the caller owns the reservation, and needs nothing of what it holds; the kernel says EINVAL of memory that is
    // there, and locked.
    unsafe {
        if libc::madvise(start.cast(), bytes, libc::MADV_DONTNEED) != 0 && errno() == libc::EINVAL {
            start.write_bytes(0, bytes);
        }
    }
}

/// Put `[start, start + bytes)` back to how `reserve` left it: no memory, no access, nothing counted as committed.
/// Also mends a hole in the reservation.
///
/// # Safety
/// The range lies in one reservation and holds nothing that is needed.
pub(crate) unsafe fn reserve_again(start: *mut u8, bytes: usize) -> bool {
    let _errno = KeepErrno::new();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the caller owns the addresses, so that replacing what is mapped there touches nobody else.
    unsafe { libc::mmap(start.cast(), bytes, libc::PROT_NONE, flags, -1, 0) != libc::MAP_FAILED }
}

/// Ask for huge pages (or, with `wanted` false, for none) behind this range.
///
/// # Safety
/// The range lies in one reservation.
pub(crate) unsafe fn advise_huge(start: *mut u8, bytes: usize, wanted: bool) -> bool {
    let _errno = KeepErrno::new();
    let advice = if wanted { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // SAFETY: advice changes no content.
    unsafe { libc::madvise(start.cast(), bytes, advice) == 0 }
}

/// Move the memory behind `[from, from + bytes)` to `[to, to + bytes)` without copying it. `from` stays mapped, and empty.
/// False, and nothing moved, where the kernel cannot: always before Linux 5.7. From then to 6.16 a refusal may come after
/// it unmapped `to`: there is a hole then that `reserve_again` must mend. Those kernels also refuse to move more than one
/// mapping at a time, and 6.17 may stop half-way, so a caller moves no more than what is sure to be one mapping.
///
/// # Safety
/// Both ranges lie in one reservation, are writable, do not overlap, and nothing at `to` is needed.
pub(crate) unsafe fn move_memory(from: *mut u8, to: *mut u8, bytes: usize) -> bool {
    let _errno = KeepErrno::new();
    #[cfg(test)]
    if refusal::is_due() {
        // SAFETY: as below. This is what kernels up to 6.16 leave behind.
        unsafe { libc::munmap(to.cast(), bytes) };
        return false;
    }
    // SAFETY: both ranges are the caller's; MREMAP_DONTUNMAP keeps `from` reserved, so that nobody else maps there.
    let moved = unsafe {
        libc::mremap(
            from.cast(),
            bytes,
            bytes,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP,
            to.cast::<libc::c_void>(),
        )
    };
    moved != libc::MAP_FAILED
}

/// Whether there is a limit on what this process maps: `ulimit -v`, `ulimit -d`.
pub(crate) fn is_limited() -> bool {
    address_space_limit().is_some() || data_limit().is_some()
}

/// Bytes of address space that this process may still map, if its limit (`ulimit -v`) is finite.
pub(crate) fn address_space_left() -> Option<usize> {
    let limit = address_space_limit()?;
    Some(limit.saturating_sub(statm_bytes(0).unwrap_or(0)))
}

/// Bytes of private writable memory that this process may still map, if that limit (`ulimit -d`) is finite.
pub(crate) fn data_left() -> Option<usize> {
    let limit = data_limit()?;
    Some(limit.saturating_sub(statm_bytes(5).unwrap_or(0)))
}

fn address_space_limit() -> Option<usize> {
    // SAFETY: getrlimit writes the structure it is given.
    finite(|limit| unsafe { libc::getrlimit(libc::RLIMIT_AS, limit) })
}

fn data_limit() -> Option<usize> {
    // SAFETY: getrlimit writes the structure it is given.
    finite(|limit| unsafe { libc::getrlimit(libc::RLIMIT_DATA, limit) })
}

/// The soft limit that `read` finds, if there is one.
fn finite(read: impl FnOnce(*mut libc::rlimit) -> libc::c_int) -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    if read(&mut limit) != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    usize::try_from(limit.rlim_cur).ok()
}

/// A field of /proc/self/statm, in bytes: 0 all address space mapped by this process, 5 private writable memory and stack.
fn statm_bytes(field: usize) -> Option<usize> {
    let _errno = KeepErrno::new();
    let mut text = [0u8; 128];
    // SAFETY: the path is a C string; the descriptor is closed below; read is given the buffer's own length.
    let length = unsafe {
        let descriptor = libc::open(c"/proc/self/statm".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if descriptor < 0 {
            return None;
        }
        let length = libc::read(descriptor, text.as_mut_ptr().cast(), text.len());
        libc::close(descriptor);
        usize::try_from(length).ok()?
    };
    let digits = text[..length].split(|b| *b == b' ').nth(field)?;
    let pages = digits.iter().filter(|b| b.is_ascii_digit()).fold(0usize, |n, b| n * 10 + usize::from(b - b'0'));
    Some(pages * page_bytes())
}

/// Milliseconds of a clock that never goes back, of coarse resolution (1–4 ms) and next to no cost.
pub fn monotonic_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Touch an arena of fresh memory at both ends of its first half: whether one page fault sufficed, that is, whether the
/// kernel had a huge page.
///
/// # Safety
/// `[start, start + bytes)` is the caller's, writable, and holds nothing that is needed.
pub(crate) unsafe fn fault_in_huge(start: *mut u8, bytes: usize) -> bool {
    // SAFETY: both addresses lie in the caller's range; the writes must not be left out.
    unsafe {
        start.write_volatile(0);
        let faults = thread_faults();
        start.add(bytes / 2).write_volatile(0);
        thread_faults() == faults
    }
}

/// Page faults of this thread that needed no I/O, so far.
fn thread_faults() -> libc::c_long {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the structure in; all-zero is a valid one if it does not.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_minflt
    }
}

/// Sleep until `word` is woken, if it still holds `expected`.
pub(crate) fn wait_on(word: &AtomicU32, expected: u32) {
    let _errno = KeepErrno::new();
    // SAFETY: the kernel only reads the word.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            core::ptr::null::<libc::timespec>(),
        );
    }
}

/// Wake one thread that waits on `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    let _errno = KeepErrno::new();
    // SAFETY: the kernel uses the address as a key only.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
    }
}

/// Lets tests see what a kernel does that refuses to move memory.
#[cfg(test)]
pub(crate) mod refusal {
    use core::cell::Cell;

    std::thread_local! {
        /// Moves of this thread that are still granted.
        static GRANTED: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// Refuse all moves of this thread after the next `granted` ones.
    pub(crate) fn after(granted: usize) {
        GRANTED.set(granted);
    }

    pub(super) fn is_due() -> bool {
        GRANTED.with(|granted| match granted.get() {
            usize::MAX => false,
            0 => true,
            n => {
                granted.set(n - 1);
                false
            }
        })
    }
}
