"""memory_profiler's interface on our heap: lines are measured by what they allocate, to the byte.

    from heapkeeper.memory_profiler import profile, memory_usage

Same names, same arguments, same output. Counting begins with the first profiled function and lasts until the process ends.
docs/memory-profiler.md says what differs.
"""

import threading

from heapkeeper.memory_profiler import wrappers
from heapkeeper.memory_profiler.backends import choose as choose_backend
from heapkeeper.memory_profiler.clock import clock
from heapkeeper.memory_profiler.lines import CodeMap, LineProfiler
from heapkeeper.memory_profiler.results import LogFile, show_results
from heapkeeper.memory_profiler.timestamps import TimeStamper
from heapkeeper.memory_profiler.usage import memory_usage

__all__ = [
    "CodeMap",
    "LineProfiler",
    "LogFile",
    "TimeStamper",
    "choose_backend",
    "load_ipython_extension",
    "memory_usage",
    "profile",
    "show_results",
]


def profile(func=None, stream=None, precision=1, backend="psutil"):
    """As a decorator: print a table of the function's lines whenever a call of it has ended.

    Calls that a call makes of the same function are part of it. stream: **sys.stdout**. precision: digits after the point.
    """
    backend = choose_backend(backend)
    if func is None:
        return lambda func: profile(func, stream=stream, precision=precision, backend=backend)
    prototype = LineProfiler(backend=backend)
    prototype.add_function(func)
    thread = threading.local()
    return wrappers.wrap(func, lambda: _ReportedCall(prototype, thread, stream, precision))


class _ReportedCall:
    """A call of a function with a table at its end. thread.profiler is that of the call that runs in a thread."""

    def __init__(self, prototype, thread, stream, precision):
        self._prototype = prototype
        self._thread = thread
        self._show = {"stream": stream, "precision": precision}
        self._profiler = None
        self._outermost = False

    def __enter__(self):
        with clock.stopped():
            outer = getattr(self._thread, "profiler", None)
            if self._profiler is None:
                self._outermost = outer is None
                self._profiler = outer or self._prototype.fresh()
            self._outer = outer
            self._thread.profiler = self._profiler
        self._profiler.enable_by_count()

    def __exit__(self, *_):
        self._profiler.disable_by_count()
        self._thread.profiler = self._outer

    def finish(self):
        if self._outermost:
            with clock.stopped():
                show_results(self._profiler, **self._show)


def load_ipython_extension(shell):
    """`%load_ext heapkeeper.memory_profiler`: the magics %memit and %mprun."""
    from heapkeeper.memory_profiler.magics import MemoryProfilerMagics

    shell.register_magics(MemoryProfilerMagics)
