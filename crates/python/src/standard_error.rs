//! Lines of ours on standard error, from threads that cannot ask Python for it.
//!
//! With `2>&-` descriptor 2 may be any file that the program opens, and a daemon may put another in its place: a line is written
//! only where standard error was when we began.

use std::io::Write;
use std::sync::OnceLock;

use crate::descriptor::Descriptor;

/// What descriptor 2 was; `None` if it was closed.
static IDENTITY: OnceLock<Option<Descriptor>> = OnceLock::new();

/// Take note of what standard error is. Called when the heap is installed, before the program's first line.
pub fn remember() {
    IDENTITY.get_or_init(|| Descriptor::of(libc::STDERR_FILENO));
}

/// Write `heapkeeper: ` and the line. Where that cannot be done at once there is nobody to tell.
pub fn say(line: &str) {
    let Some(mut stderr) = IDENTITY.get().copied().flatten().and_then(|stderr| stderr.file().ok()) else {
        return;
    };
    let mut room = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // A pipe with room takes a line without waiting (PIPE_BUF).
    // SAFETY: one descriptor.
    if unsafe { libc::poll(&raw mut room, 1, 0) } == 1 {
        let _ = stderr.write_all(format!("heapkeeper: {line}\n").as_bytes());
    }
}
