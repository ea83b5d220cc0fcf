//! Fork: the child of a process with threads finds every lock of ours free and every table whole.
//!
//! The thread that forks takes all our locks first, in the order of their nesting. The main heap needs none: `os.fork`
//! holds the GIL. Registered with `pthread_atfork`, so that forks by C code are covered too.

use crate::{capture, collect, hosts, profile, socket, watch};

/// Register the handlers, once.
pub fn register() {
    // SAFETY: the handlers only take and free our own locks; this library is never unloaded.
    unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
}

extern "C" fn before() {
    socket::before_fork();
    capture::before_fork();
    collect::before_fork();
    hosts::before_fork();
    profile::before_fork();
    if let Some(range) = hosts::range() {
        range.before_fork();
    }
}

extern "C" fn in_parent() {
    if let Some(range) = hosts::range() {
        range.after_fork_in_parent();
    }
    profile::after_fork_in_parent();
    hosts::after_fork_in_parent();
    collect::after_fork_in_parent();
    capture::after_fork_in_parent();
    socket::after_fork_in_parent();
}

extern "C" fn in_child() {
    if let Some(range) = hosts::range() {
        range.after_fork_in_child();
    }
    profile::after_fork_in_child();
    hosts::after_fork_in_child();
    collect::after_fork_in_child();
    capture::after_fork_in_child();
    watch::after_fork_in_child();
    socket::after_fork_in_child();
}
