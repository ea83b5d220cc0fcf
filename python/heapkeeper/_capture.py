"""Captures of this process and of the children it forks: which file, from when to when.

The native thread that writes does not come along in a fork, and `multiprocessing` ends its forked children without the
handlers of `atexit`: here is what begins a child's own capture, and what ends it.
"""

import atexit
import os
import sys

from heapkeeper import _interpreter, _native

# Names tried beside one that is taken.
_MAX_NAMES = 100

_output = None


def begin(output):
    """Write a capture to `output`, an absolute path with or without %p. Returns None, or in one line why there is none."""
    global _output
    reason = _begin(_names(output))
    if reason is None and _output is None:
        atexit.register(_native.capture_stop)
        os.register_at_fork(after_in_child=_begin_in_child)
    _output = output
    return reason


def _begin(names):
    for name in names:
        reason = _native.capture_start(name, _interpreter.program())
        if reason is None or not os.path.lexists(name):
            return reason
    return reason


def _names(output, is_child=False):
    """Where the capture may go, best first. A process that finds the plain name taken puts its pid in it."""
    pid = os.getpid()
    name = output.replace("%p", str(pid))
    if name == output:
        stem, extension = os.path.splitext(output)
        if not is_child:
            yield output
        name = f"{stem}.{pid}{extension}"
    yield name
    stem, extension = os.path.splitext(name)
    for number in range(1, _MAX_NAMES):
        yield f"{stem}-{number}{extension}"


def _begin_in_child():
    if not _native.capture_forget():
        return
    reason = _begin(_names(_output, is_child=True))
    if reason is not None:
        os.write(2, f"heapkeeper: no capture of process {os.getpid()}: {reason}\n".encode(errors="backslashreplace"))
        return
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # Run by a child of multiprocessing before its work, after it has dropped its parent's finalizers.
        util.register_after_fork(util, _end_with_child)


def _end_with_child(util):
    # The lowest of all priorities that are run: after everything that the program registered.
    util.Finalize(None, _native.capture_stop, exitpriority=-(10**9))
