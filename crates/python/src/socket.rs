//! A unix socket of the process's own: who started the process may ask for its state, and for captures.
//!
//! ```text
//! status\n        → {"pid": …, "capture": …, "heap_bytes": …}\n
//! start [PATH]\n  → {"capture": PATH}\n       to PATH, or where captures go that begin in the middle of a run
//! stop\n          → {"capture": PATH}\n       the file is whole when the answer comes
//! mark NAME\n     → {"capture": PATH}\n
//! fetch\n         → {"bytes": N}\n and N bytes: the capture so far, or one of this moment alone
//! anything else   → {"error": …}\n
//! ```
//! Several lines may come in one connection; one connection is served at a time, and one that says nothing for a while is closed.
//! A thread serves it without the GIL and without Python, so a program that hangs answers as well.
//!
//! Only the user that the process runs as is served: the file has mode 0600, and the kernel says who connects (SO_PEERCRED).
//! The file goes when the process ends in an orderly way; one that a killed process left is replaced. A forked child closes what
//! it inherits, and opens a socket of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::mem::{ManuallyDrop, MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heapkeeper_heap::Lock;
use serde_json::{Value, json};

use crate::descriptor::Descriptor;
use crate::profile::{self, exact};
use crate::{capture, file_names, hosts, process, status};

/// How long a connection may say nothing, or take nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it rests where a connection cannot be had.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the longest line that is read: a path, and a word before it.
const LINE_MAX_BYTES: u64 = 8192;

/// Connections that the kernel keeps waiting.
const BACKLOG: i32 = 16;

/// A socket that is served.
struct Served {
    path: PathBuf,
    /// The file's device and inode: somebody may have put another in its place.
    file: (u64, u64),
    listener: Descriptor,
    thread: JoinHandle<()>,
}

/// Opened and closed with the GIL held, so that it is free in the child of a fork.
static SERVED: Mutex<Option<Served>> = Mutex::new(None);

/// The connection that is being served, -1 if there is none: whoever closes the socket ends it. A connection is opened, noted here
/// and closed under `LOCK`.
static CONNECTION: AtomicI32 = AtomicI32::new(-1);
static LOCK: Lock = Lock::new();

/// Open the socket `given`, where %p is the pid, and serve it. Where another process has that name, the pid goes into it. The GIL
/// is held.
///
/// # Errors
/// Why there is none, in one line.
pub fn open(given: &Path, program: String, is_child: bool) -> Result<(), String> {
    let mut served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    if served.is_some() {
        return Ok(());
    }
    let (path, listener) = listen(given, is_child)?;
    let refused = |error: io::Error| format!("{}: {error}", path.display());
    let file = std::fs::symlink_metadata(&path).map(|facts| (facts.dev(), facts.ino())).map_err(refused)?;
    let listener = Descriptor::raised(listener.into()).map_err(refused)?;
    let server = Server { listener, program };
    let thread = std::thread::Builder::new().name("heapkeeper".to_owned());
    let thread = capture::without_signals(|| thread.spawn(move || server.run())).map_err(refused)?;
    *served = Some(Served { path, file, listener, thread });
    Ok(())
}

/// Serve no more, and remove the file. The GIL is held.
pub fn close() {
    let Some(served) = SERVED.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    remove(&served.path, served.file);
    LOCK.with(|| {
        if served.listener.is_there() {
            // SAFETY: ours. Who waits on it wakes, and nobody can connect any more.
            unsafe { libc::shutdown(served.listener.number(), libc::SHUT_RDWR) };
        }
        let connection = CONNECTION.load(SeqCst);
        if connection >= 0 {
            // SAFETY: open, as what is noted there is under the lock.
            unsafe { libc::shutdown(connection, libc::SHUT_RDWR) };
        }
    });
    // A thread that panicked has ended as well.
    let _ = served.thread.join();
}

/// Before a fork.
pub fn before_fork() {
    LOCK.acquire();
}

/// After a fork, in the parent.
pub fn after_fork_in_parent() {
    LOCK.release();
}

/// The child of a fork: the thread did not come along, and nobody is to wait here for an answer of the parent's.
pub fn after_fork_in_child() {
    LOCK.reset();
    let connection = CONNECTION.swap(-1, SeqCst);
    let served = SERVED.try_lock().ok().and_then(|mut served| served.take());
    if connection >= 0 {
        // SAFETY: came over in the fork; in this process nobody else uses it.
        unsafe { libc::close(connection) };
    }
    if let Some(Served { listener, thread, .. }) = served {
        listener.close();
        std::mem::forget(thread);
    }
}

/// A socket that listens, and its name.
fn listen(given: &Path, is_child: bool) -> Result<(PathBuf, UnixListener), String> {
    let mut reason = String::new();
    for path in file_names::candidates(given, is_child) {
        let refused = |error: io::Error| format!("{}: {error}", path.display());
        match listen_at(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => reason = refused(error),
            Err(error) => return Err(refused(error)),
            Ok(listener) => return Ok((path, listener)),
        }
    }
    Err(reason)
}

fn listen_at(path: &Path) -> io::Result<UnixListener> {
    match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let facts = std::fs::symlink_metadata(path)?;
            if !facts.file_type().is_socket() {
                return Err(io::Error::other("the file exists and is no socket"));
            }
            if UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                remove(path, (facts.dev(), facts.ino()));
                return bind(path);
            }
            Err(error)
        }
        other => other,
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let text = path.as_os_str().as_bytes();
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    if text.len() >= address.sun_path.len() {
        return Err(io::Error::other("the name of a socket has 107 bytes at most"));
    }
    for (to, from) in address.sun_path.iter_mut().zip(text) {
        *to = *from as libc::c_char;
    }
    let check = |answer: i32| if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) };
    // SAFETY: the descriptor is new and ours; the address is as long as said.
    unsafe {
        let descriptor = check(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        let listener = UnixListener::from_raw_fd(descriptor);
        // Before there is a file: it gets the mode of the socket (Linux, net/unix/af_unix.c, unix_bind_bsd).
        check(libc::fchmod(descriptor, 0o600))?;
        check(libc::bind(descriptor, (&raw const address).cast(), size_of::<libc::sockaddr_un>() as libc::socklen_t))?;
        check(libc::listen(descriptor, BACKLOG))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

/// Remove a socket's file, if it is still that one.
fn remove(path: &Path, file: (u64, u64)) {
    if std::fs::symlink_metadata(path).is_ok_and(|facts| (facts.dev(), facts.ino()) == file) {
        let _ = std::fs::remove_file(path);
    }
}

/// Serves one socket.
struct Server {
    listener: Descriptor,
    program: String,
}

impl Server {
    fn run(self) {
        // SAFETY: never dropped; who serves is the only one to use it, as long as it is there.
        let listener = ManuallyDrop::new(unsafe { UnixListener::from_raw_fd(self.listener.number()) });
        loop {
            let mut waits = libc::pollfd { fd: self.listener.number(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor.
            unsafe { libc::poll(&raw mut waits, 1, -1) };
            let accepted = LOCK.with(|| {
                let accepted = self.listener.is_there().then(|| listener.accept());
                let stream = accepted.as_ref().and_then(|accepted| accepted.as_ref().ok());
                CONNECTION.store(stream.map_or(-1, |(stream, _)| stream.as_raw_fd()), SeqCst);
                accepted
            });
            let stream = match accepted {
                Some(Ok((stream, _))) => stream,
                // Whoever waited has gone away, or there is no descriptor left.
                Some(Err(_)) if waits.revents & (libc::POLLHUP | libc::POLLNVAL) == 0 => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                // Closed, by us or by the program.
                _ => break,
            };
            // One that goes away in the middle is no concern of the program's.
            let _ = self.serve(&stream);
            LOCK.with(|| {
                CONNECTION.store(-1, SeqCst);
                drop(stream);
            });
        }
        self.listener.close();
    }

    fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // SAFETY: has no conditions.
        if peer(stream)? != unsafe { libc::geteuid() } {
            return say(stream, &json!({"error": "only the user that this process runs as is served"}));
        }
        let mut lines = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            if lines.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.pop() != Some(b'\n') {
                return say(stream, &json!({"error": "a line ends with a line feed, and is not as long as this"}));
            }
            let at = line.iter().position(|byte| *byte == b' ');
            let (verb, rest) = line.split_at(at.unwrap_or(line.len()));
            let rest = rest.get(1..).unwrap_or_default();
            match verb {
                b"fetch" if rest.is_empty() => match capture::bytes_now() {
                    Ok(bytes) => {
                        say(stream, &json!({"bytes": bytes.len()}))?;
                        write(stream, &bytes)?;
                    }
                    Err(reason) => say(stream, &json!({"error": reason}))?,
                },
                _ => say(stream, &self.answer(verb, rest).unwrap_or_else(|reason| json!({"error": reason})))?,
            }
        }
    }

    fn answer(&self, verb: &[u8], rest: &[u8]) -> Result<Value, String> {
        let path = |path: PathBuf| json!({"capture": path.to_string_lossy()});
        let none = || "no capture is being written".to_owned();
        match (verb, rest) {
            (b"status", b"") => Ok(self.status()),
            (b"start", b"") => capture::begin_now(None, None).map(path),
            (b"start", rest) => {
                let given = PathBuf::from(std::ffi::OsString::from_vec(rest.to_vec()));
                if !given.is_absolute() {
                    return Err(format!("{}: not an absolute path", given.display()));
                }
                capture::begin_now(Some(&file_names::with_pid(&given)), None).map(path)
            }
            (b"stop", b"") => capture::stop(capture::End::Stop).map(path).ok_or_else(none),
            (b"mark", name) if !name.is_empty() => {
                let name = String::from_utf8_lossy(name).into_owned();
                capture::path().filter(|_| capture::write_now(Some(name))).map(path).ok_or_else(none)
            }
            _ => Err("the lines are: status, start [PATH], stop, mark NAME, fetch".to_owned()),
        }
    }

    fn status(&self) -> Value {
        let range = hosts::range().map(|range| range.stats()).unwrap_or_default();
        let limit = Some(range.limit_bytes).filter(|limit| *limit != usize::MAX && hosts::range().is_some());
        let resident = process::resident();
        json!({
            "pid": std::process::id(),
            "program": self.program,
            "python": status::python_version(),
            "version": env!("CARGO_PKG_VERSION"),
            "profile": if exact::is_on() { "exact" } else if profile::is_on() { "sample" } else { "off" },
            "capture": capture::path().map(|path| path.to_string_lossy().into_owned()),
            "heap_bytes": range.held_bytes,
            "heap_peak_bytes": range.peak_bytes,
            "limit_bytes": limit,
            "rss_bytes": resident.rss_bytes,
            "peak_rss_bytes": resident.peak_rss_bytes,
        })
    }
}

/// Who connected: the user's number.
fn peer(stream: &UnixStream) -> io::Result<libc::uid_t> {
    let mut credentials = MaybeUninit::<libc::ucred>::uninit();
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: filled in where the call says so.
    unsafe {
        let place = credentials.as_mut_ptr().cast();
        match libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut bytes) {
            0 => Ok(credentials.assume_init().uid),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn say(stream: &UnixStream, answer: &Value) -> io::Result<()> {
    write(stream, format!("{answer}\n").as_bytes())
}

/// The program may have given SIGPIPE its effect back: the standard library's sockets send without it.
fn write(mut stream: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}
