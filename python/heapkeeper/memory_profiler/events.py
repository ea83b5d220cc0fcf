"""What happens in profiled code, told to the profilers that are enabled in the thread where it happens.

On 3.12 and later by sys.monitoring, in watched code only, but for exceptions that end a frame; before, by sys.settrace in
the threads where a profiler is enabled. Either way a frame's events come in pairs: entered or resumed, then left.
"""

import inspect
import sys
import threading
from bisect import bisect_right

from heapkeeper.memory_profiler.clock import clock

# Tool ids of sys.monitoring that nobody is named for, and the profilers', which cProfile uses.
_TOOLS = (3, 4, 2)

# An int above this is made anew for a callback, and goes after it.
_LARGEST_CACHED_INT = 256
_INT_BYTES = sys.getsizeof(_LARGEST_CACHED_INT + 1)


class _Thread(threading.local):
    """profilers: those enabled, each once. previous: the trace function that ours stands in for."""

    profilers = ()
    previous = None


_thread = _Thread()

# id → code, and for how many profilers; holding the code keeps its id.
_watched = {}
_lock = threading.RLock()


def watch(codes):
    """Tell of this code, until as many calls of `unwatch`."""
    with _lock:
        for code in codes:
            count = _watched.get(id(code), (code, 0))[1]
            _watched[id(code)] = code, count + 1
            if count == 0:
                _source.watch(code)


def unwatch(codes):
    """The opposite of `watch`."""
    with _lock:
        for code in codes:
            count = _watched[id(code)][1] - 1
            if count:
                _watched[id(code)] = code, count
            else:
                del _watched[id(code)]
                _source.unwatch(code)


def begin(profiler):
    """A profiler is enabled in this thread."""
    if not _thread.profilers:
        _source.begin()
    _thread.profilers += (profiler,)


def end(profiler):
    """A profiler is disabled in this thread."""
    _thread.profilers = tuple(other for other in _thread.profilers if other is not profiler)
    if not _thread.profilers:
        _source.end()


def _tell(what, code, line, passed):
    """Call a method of each profiler. passed: the number that was made for the callback.

    Before the clock stops and after it starts nothing is allocated: it would be in a line.
    """
    passed_bytes = _INT_BYTES if passed > _LARGEST_CACHED_INT else 0
    share, collecting = clock.stop(passed_bytes)
    try:
        stop = False
        for profiler in _thread.profilers:
            stop = getattr(profiler, what)(code, line, share[0]) or stop
    finally:
        clock.start(collecting, passed_bytes)
    return stop


def _debug(frame):
    """Start the debugger in a frame. Returns its trace function."""
    import pdb

    print("The process's memory has reached the maximum.\nStepping into the debugger")
    debugger = pdb.Pdb()
    debugger.set_trace(frame)
    return debugger.trace_dispatch


class _Monitoring:
    """sys.monitoring.

    Once it is in use, the interpreter keeps 72 bytes for each code object that runs: a function's first call shows them.
    """

    def __init__(self, tool):
        self._tool = tool
        self._lines = {}
        named = sys.monitoring.events
        callbacks = {
            named.PY_START: self._start,
            named.PY_RESUME: self._resume,
            named.PY_RETURN: self._return,
            named.PY_YIELD: self._return,
            named.LINE: self._line,
            named.PY_THROW: self._throw,
            named.PY_UNWIND: self._unwind,
        }
        for event, callback in callbacks.items():
            sys.monitoring.register_callback(tool, event, callback)
        self._local = named.PY_START | named.PY_RESUME | named.PY_RETURN | named.PY_YIELD | named.LINE
        self._global = named.PY_THROW | named.PY_UNWIND

    def watch(self, code):
        self._lines[id(code)] = [(begin, line) for begin, _, line in code.co_lines()]
        sys.monitoring.set_local_events(self._tool, code, self._local)
        sys.monitoring.set_events(self._tool, self._global)
        self._run_callbacks()

    def _run_callbacks(self):
        """Once, for code that nobody watches, so that what the interpreter keeps for them is in no line."""
        code = self._run_callbacks.__code__
        for callback in (self._start, self._line):
            callback(code, 0)
        for callback in (self._return, self._throw, self._unwind):
            callback(code, 0, None)
        self._lines[id(code)] = [(0, 0)]
        self._resume(code, 0)

    def unwatch(self, code):
        del self._lines[id(code)]
        sys.monitoring.set_local_events(self._tool, code, 0)
        if not _watched:
            sys.monitoring.set_events(self._tool, 0)

    def begin(self):
        pass

    def end(self):
        pass

    def _start(self, code, offset):
        if _thread.profilers:
            _tell("entered", code, None, offset)

    def _resume(self, code, offset):
        if _thread.profilers:
            _tell("resumed", code, self._line_at(code, offset), offset)

    def _line(self, code, line):
        if _thread.profilers and _tell("reached", code, line, line):
            _debug(sys._getframe(1))

    def _return(self, code, offset, _):
        if _thread.profilers:
            _tell("left", code, None, offset)

    def _throw(self, code, offset, _):
        if _thread.profilers and id(code) in _watched:
            _tell("resumed", code, self._line_at(code, offset), offset)

    def _unwind(self, code, offset, _):
        if _thread.profilers and id(code) in _watched:
            _tell("left", code, None, offset)

    def _line_at(self, code, offset):
        lines = self._lines[id(code)]
        line = lines[bisect_right(lines, offset, key=lambda each: each[0]) - 1][1]
        return line or code.co_firstlineno


class _Tracing:
    """sys.settrace; another's trace function goes on being called."""

    def watch(self, code):
        pass

    def unwatch(self, code):
        pass

    def begin(self):
        _thread.previous = sys.gettrace()
        sys.settrace(self._trace)

    def end(self):
        # Whoever has set another meanwhile keeps it.
        if sys.gettrace() == self._trace:
            sys.settrace(_thread.previous)
        _thread.previous = None

    def _trace(self, frame, event, arg):
        previous = _thread.previous
        inner = None if previous is None else previous(frame, event, arg)
        if id(frame.f_code) not in _watched:
            return inner
        self._event(frame, event)
        if inner is None:
            return self._trace_inside

        def both(frame, event, arg):
            nonlocal inner
            if inner is not None:
                inner = inner(frame, event, arg)
            return self._event(frame, event) or both

        return both

    def _trace_inside(self, frame, event, arg):
        return self._event(frame, event) or self._trace_inside

    def _event(self, frame, event):
        """Returns a trace function that takes our place, if there is one now."""
        if not _thread.profilers:
            return None
        code = frame.f_code
        if event == "line":
            if _tell("reached", code, frame.f_lineno, 0):
                return _debug(frame)
        elif event == "return":
            _tell("left", code, None, 0)
        elif event == "call":
            if _begins(frame):
                _tell("entered", code, None, 0)
            else:
                _tell("resumed", code, frame.f_lineno, 0)
        return None


def _begins(frame):
    """Whether a frame's call event is its first, and not that of a generator or a coroutine that goes on."""
    code = frame.f_code
    if not code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return True
    if sys.version_info < (3, 11):
        return frame.f_lasti < 0
    return code.co_code[frame.f_lasti + 1] == 0  # The argument of RESUME: 0 at a function's start (3.11, Lib/dis.rst).


def _choose_source():
    if sys.version_info >= (3, 12):
        for tool in _TOOLS:
            try:
                sys.monitoring.use_tool_id(tool, "heapkeeper.memory_profiler")
            except ValueError:
                continue
            return _Monitoring(tool)
    return _Tracing()


_source = _choose_source()
