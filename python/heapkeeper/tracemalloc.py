"""The standard module tracemalloc on our heap: the same names, the same results, a fraction of the cost.

A site's number lies beside each block, so there is no table of traces: `start()` with full stacks costs about what the
standard module's single frame does. Snapshots, filters and statistics are the standard library's own classes.

    from heapkeeper import tracemalloc      # instead of: import tracemalloc
    heapkeeper.tracemalloc.replace()        # or for the whole program: `import tracemalloc` is this module from now on

Differences, all of them deliberate:

* where a profile (`--profile exact`) or a Tracker counts already, it goes on counting: start(), stop() and clear_traces() leave
  it as it is;
* at most 128 frames of a stack are kept;
* an object that CPython takes from a free list keeps the traceback of whoever allocated the block first;
* what a snapshot itself allocates while it is taken is not counted.

Memory that C extensions report with PyTraceMalloc_Track is CPython's to record: the standard module runs beside us for that,
without its hooks in the allocators. Where somebody has started it before, it stays as it is, and what extensions report is
found there alone.

Where this process cannot be put on our heap, `start()` says so in a RuntimeWarning and the standard module does the work.
"""

import _tracemalloc
import sys
import tracemalloc as _standard
from tracemalloc import (
    BaseFilter,
    DomainFilter,
    Filter,
    Frame,
    Snapshot,
    Statistic,
    StatisticDiff,
    Trace,
    Traceback,
)

from heapkeeper import _native

__all__ = [
    "BaseFilter",
    "DomainFilter",
    "Filter",
    "Frame",
    "Snapshot",
    "Statistic",
    "StatisticDiff",
    "Trace",
    "Traceback",
    "clear_traces",
    "get_object_traceback",
    "get_traceback_limit",
    "get_traced_memory",
    "get_tracemalloc_memory",
    "is_tracing",
    "replace",
    "reset_peak",
    "start",
    "stop",
    "take_snapshot",
]

# As Modules/_tracemalloc.c has it.
_MAX_FRAMES = 65535

# Frames asked for by the last start(); 1 before the first, as the standard module says.
_limit = 1

# The standard module does the work, as this process is not on our heap.
_steps_back = False

# It records what extensions report, and nothing else.
_is_beside = False

# Our start() began the counting: it is ours to stop. Otherwise it is a profile's, or a Tracker's.
_is_ours = False


def start(nframe=1, /):
    """Count every allocation from now on, with tracebacks of up to `nframe` frames. While it is on, nothing changes."""
    if not 1 <= nframe <= _MAX_FRAMES:
        raise ValueError(f"the number of frames must be in range [1; {_MAX_FRAMES}]")
    if is_tracing():
        return
    global _limit, _steps_back, _is_ours
    _steps_back = not _is_installed()
    if _steps_back:
        _standard.start(nframe)
        return
    reason = _native.exact_start(nframe)
    if reason is not None:
        raise RuntimeError(reason)
    _limit = nframe
    _is_ours = True
    _begin_beside(nframe)
    _native.exact_restart()


def _begin_beside(nframe):
    """Let the standard module record what extensions report, unless it runs already: then it is somebody else's."""
    global _is_beside
    _is_beside = not _standard.is_tracing()
    if _is_beside:
        # Not before ours: what it allocates for itself is nobody's to look at.
        allocators = _native.allocators()
        _standard.start(nframe)
        _native.set_allocators(allocators)
        _standard.clear_traces()


def _is_installed():
    if _native.installed():
        return True
    import heapkeeper

    return heapkeeper.install(profile="off")


def stop():
    """Stop counting, and forget all traces."""
    global _is_beside, _is_ours
    if _steps_back or _is_beside:
        _standard.stop()
    if _is_ours:
        _native.exact_stop()
    _is_beside = _is_ours = False


def is_tracing():
    """Whether allocations are counted."""
    return _standard.is_tracing() if _steps_back else _native.exact_on()


def clear_traces():
    """Forget all traces, and go on."""
    if _steps_back or _is_beside:
        _standard.clear_traces()
    if _is_ours:
        _native.exact_restart()


def get_traced_memory():
    """Bytes of all traced blocks now, and at the peak, as a tuple."""
    if _steps_back:
        return _standard.get_traced_memory()
    live, peak, _, _, _ = _native.exact_usage()
    if not _is_beside:
        return live, peak
    # Not before ours, which would count the answer.
    reported = _standard.get_traced_memory()
    # The two peaks need not be at one moment: their sum is an upper bound, and exact where extensions report nothing.
    return live + reported[0], peak + reported[1]


def reset_peak():
    """Let the peak start again from what is live now."""
    if _steps_back or _is_beside:
        _standard.reset_peak()
    if not _steps_back:
        _native.exact_reset_peak()


def get_traceback_limit():
    """Frames of a traceback, as start() was asked for."""
    return _standard.get_traceback_limit() if _steps_back else _limit


def get_tracemalloc_memory():
    """Bytes of memory that the traces take."""
    if _steps_back:
        return _standard.get_tracemalloc_memory()
    return _native.exact_memory() + (_standard.get_tracemalloc_memory() if _is_beside else 0)


def _get_traces():
    traces = _native.exact_traces()
    if _is_beside:
        traces += _tracemalloc._get_traces()
    return traces


def _get_object_traceback(obj, /):
    found = _native.exact_traceback(obj)
    return None if found is None else found[0]


def __getattr__(name):
    """What else the standard module has: its helpers, and the modules that it imports."""
    return getattr(_standard, name)


def get_object_traceback(obj):
    """Where the memory block of an object was allocated, as a Traceback; None if it was not traced."""
    if _steps_back:
        return _standard.get_object_traceback(obj)
    found = _native.exact_traceback(obj)
    return None if found is None else Traceback(*found)


def take_snapshot():
    """All traces, as a Snapshot."""
    if not is_tracing():
        raise RuntimeError("the tracemalloc module must be tracing memory allocations to take a snapshot")
    if _steps_back:
        return _standard.take_snapshot()
    return Snapshot(_get_traces(), get_traceback_limit())


def replace():
    """Make `import tracemalloc` give this module, in the whole program.

    Modules that have imported the standard one already keep it. Where PYTHONTRACEMALLOC or -X tracemalloc has started the
    standard module, it is stopped, and this one started with as many frames.
    """
    sys.modules["tracemalloc"] = sys.modules[__name__]
    if _standard.is_tracing() and not is_tracing():
        frames = _standard.get_traceback_limit()
        _standard.stop()
        start(frames)
