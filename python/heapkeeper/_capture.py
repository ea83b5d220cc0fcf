"""What a process writes and answers while it runs: its capture, the watch over its heap, its socket.

All of it is done by native threads, which do not come along in a fork, and `multiprocessing` ends its forked children without
the handlers of `atexit`: here is what begins them, in a process and in the children it forks, and what ends them.
"""

import atexit
import os
import sys

from heapkeeper import _interpreter, _native

# Whose settings this process and the children it forks follow.
_settings = None

# Its output, and where a capture goes that begins in the middle of a run. Absolute: the program may leave the folder, and
# fork then. The second is not where the folder was gone from the start.
_output = None
_later_output = None

_watches_forks = False


def begin(settings):
    """Begin what the settings ask for: a capture, a watch over the heap, a socket. Returns what could not be, and why."""
    global _settings, _output, _later_output
    _settings = settings
    _output = settings.output and os.path.abspath(settings.output)
    program = _interpreter.program()
    if settings.socket is not None or settings.at_heap is not None or settings.on_limit is not None:
        _later_output = _output or _default(program)
        _native.capture_defaults(_later_output, program)
    end_at_exit()
    return _begin(program, has_capture=settings.output is not None, is_child=False)


def end_at_exit():
    """See to it that what has begun, or begins later, ends with the process; and that a forked child leaves it to its parent."""
    global _watches_forks
    if not _watches_forks:
        _watches_forks = True
        atexit.register(_end)
        os.register_at_fork(after_in_child=_begin_in_child)


def _begin(program, has_capture, is_child):
    reasons = []
    if has_capture:
        reason = _native.capture_begin(_output, program, is_child)
        if reason is not None:
            reasons.append(("no capture", reason))
    if _settings.at_heap is not None or _settings.on_limit is not None:
        reason = _watch()
        if reason is not None:
            reasons.append(("no watch over the heap", reason))
    if _settings.socket is not None:
        reason = _native.socket_open(_settings.socket, program, is_child)
        if reason is not None:
            reasons.append(("no socket", reason))
    return reasons


def _watch():
    """Watch over the heap. Returns why not, or None."""
    if not os.path.isabs(_later_output):
        return "its capture would go to the working directory, which is gone"
    return _native.watch_start(_settings.at_heap or 0, _settings.on_limit is not None)


def _end():
    # First what could begin a capture.
    _native.socket_close()
    _native.watch_stop()
    _native.capture_stop(True)


def _default(program):
    """Where a capture goes that nobody gave a name: one that says whose it is, in the folder of the start."""
    name = os.path.basename(program.removeprefix("-m ").rstrip("/")).removesuffix(".py").strip("-") or "python"
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    name = f"heapkeeper-{name}.%p.hk"
    try:
        return os.path.abspath(name)
    except FileNotFoundError:
        return name


def _begin_in_child():
    had_capture = _native.capture_forget()
    if _settings is None:
        return
    for what, reason in _begin(_interpreter.program(), had_capture and _output is not None, is_child=True):
        line = f"heapkeeper: {what} of process {os.getpid()}: {reason}\n"
        os.write(2, line.encode(errors="backslashreplace"))
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # Run by a child of multiprocessing before its work, after it has dropped its parent's finalizers.
        util.register_after_fork(util, _end_with_child)


def _end_with_child(util):
    # The lowest of all priorities that are run: after everything that the program registered.
    util.Finalize(None, _end, exitpriority=-(10**9))
