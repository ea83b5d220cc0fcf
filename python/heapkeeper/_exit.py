"""The report at exit, written to file descriptor 2 after everything the program itself writes.

Registered before the program's first line and therefore the last of the atexit handlers to run. The program's exit
status, output and errors stay as they are: where the report cannot be written, nothing is.
"""

import _signal  # `signal` would import enum, which every process that reports would pay for at start-up.
import atexit
import os
import sys

from heapkeeper import _interpreter

# Columns of a report that goes to no terminal.
PLAIN_COLUMNS = 100

# How long a full non-blocking pipe is waited for before the rest of the report is given up.
_PATIENCE_S = 5.0


def register(settings):
    """Report when this interpreter exits, to what is standard error now."""
    if sys.__stderr__ is None:
        return
    try:
        identity = _identity()
        # Now, as a program may leave an interpreter behind that imports nothing any more.
        from heapkeeper import _native
    except (ImportError, OSError):
        return
    atexit.register(_report, settings, identity, _native)


def _report(settings, identity, native):
    try:
        if settings.report and settings.report != os.getpid():
            return  # A forked child that left through sys.exit.
        # The text first, so that the report's own work is not in the way of signals.
        text = _text(settings, native)
        with _Quiet():
            _flush()
            if _identity() == identity:  # Otherwise descriptor 2 is a file the program opened.
                _write(text)
    except BaseException:
        # An atexit handler's exception would be printed. The report is lost, the program's exit is not changed.
        pass


class _Quiet:
    """SIGINT ends the process instead of raising in here, a closed pipe is an error instead of SIGPIPE's death.

    Handlers of the program's own are left alone.
    """

    def __enter__(self):
        self._restore = []
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            self._set(_signal.SIGINT, _signal.SIG_DFL)
        if _signal.getsignal(_signal.SIGPIPE) == _signal.SIG_DFL:
            self._set(_signal.SIGPIPE, _signal.SIG_IGN)

    def __exit__(self, *_):
        for number, handler in self._restore:
            _signal.signal(number, handler)

    def _set(self, number, handler):
        self._restore.append((number, _signal.signal(number, handler)))


def _text(settings, native):
    program = _interpreter.program()
    if settings.json:
        text = native.status_json(program) + "\n"
    else:
        columns, color = terminal(2)
        text = native.report(program, columns, color)
    return text.encode(errors="backslashreplace")


def terminal(descriptor):
    """Columns to fill in what is written to a file descriptor, and whether colour may be used."""
    if not os.isatty(descriptor):
        return PLAIN_COLUMNS, False
    try:
        columns = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(descriptor).columns
        except OSError:
            columns = 0
    # https://no-color.org: present and not empty.
    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return columns or 80, color


def _identity():
    """What file descriptor 2 is."""
    found = os.fstat(2)
    return found.st_dev, found.st_ino, found.st_rdev


def _flush():
    """The interpreter flushes these after atexit, which would put the program's last words behind the report.

    An error is left for the interpreter to meet again: the text stays in the buffer.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        # A stand-in of the program's might do anything when flushed once more.
        if stream is not None and stream is getattr(sys, f"__{name}__", None):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass


def _write(text):
    rest = memoryview(text)
    while rest:
        try:
            rest = rest[os.write(2, rest) :]
        except BlockingIOError:
            import select

            if not select.select([], [2], [], _PATIENCE_S)[1]:
                return
