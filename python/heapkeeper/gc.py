"""The collector of cycles: who does full collections, what collections did, and a pause in them.

The standard module `gc` stays what it is, under our collector too. All of this is about the interpreter that asks.
"""

import _thread
import contextlib
import gc
import json
import os

__all__ = ["mode", "paused", "stats"]


def mode():
    """Who does full collections: "cpython", "heapkeeper", "background" for ours in a child process, or "verify" for ours,
    compared with CPython's.
    """
    return stats()["mode"]


def stats():
    """What the collector did, as a dict; the same as "collector" in ``heapkeeper.status()``.

    mode: as `mode()` gives it. reason: why CPython's collector is at work though ours was asked for, or None.

    generations: three dicts, by the oldest generation that was collected. collections: how many, since the interpreter
    started. examined: objects that we looked at; None where CPython collects and nobody counts. collected: objects freed.
    uncollectable: objects left in gc.garbage. pauses: how long the program stood still, callbacks and finalizers
    included, as a dict; None where nobody measured. Its count is of collections since ours was installed; total_s,
    longest_s, p50_s and p99_s are seconds, the last two at most a sixteenth off and never above the longest; buckets is a
    histogram: entry i counts the pauses of 2**i to 2**(i+1) nanoseconds.

    pauses: the same of all generations together.

    phases: seconds that our full collections spent so far. walk_s: listing the objects. roots_s: marking from known roots.
    count_s: counting references from elsewhere. mark_s: marking what these lead to. order_s: putting the list into order.
    untrack_s: untracking tuples and dicts that cannot be in a cycle. dispose_s: weak references, callbacks, finalizers,
    freeing.

    scratch_peak_bytes: the most memory that one of our searches took for itself; it keeps none of it.
    cycle_types: the types found most often in cycles by our full collections, as dicts. type_name; objects: how many were
    found; is_estimate: whether that is an estimate, as where one collection found more than 65,536; site: the call site that
    made most of those that were sampled, as in ``heapkeeper.status()``, or None.

    frozen: objects that gc.freeze() took out of collections. enabled: gc.isenabled(). counts: gc.get_count(). thresholds:
    gc.get_threshold(). long_lived: survivors of the last full collection; 0 before the first, and where nobody knows.
    background: None but in that mode; started: child processes that were to search; finished: those that were done before the
    program asked for a collection or the next one was due; start_s: how long the program stood still for their start;
    search_s: how long those that were done searched, while the program ran on.
    verified: None but in mode "verify"; collections: how many were compared; differences: how many of them found
    something else than CPython's, the first of which ended ours.
    """
    try:
        from heapkeeper import _native
    except ImportError:
        return _known_to_python()
    return json.loads(_native.gc_status_json()) or _known_to_python()


def _known_to_python():
    """The same dict where the native part knows nothing: what CPython tells of its own collector."""
    phases = ("walk_s", "roots_s", "count_s", "mark_s", "order_s", "untrack_s", "dispose_s")
    counted = ("collections", "collected", "uncollectable")
    return {
        "mode": "cpython",
        "reason": None,
        "generations": [
            {"examined": None, "pauses": None} | {name: generation[name] for name in counted}
            for generation in gc.get_stats()
        ],
        "pauses": None,
        "phases": dict.fromkeys(phases, 0.0),
        "scratch_peak_bytes": 0,
        "cycle_types": [],
        "frozen": gc.get_freeze_count(),
        "enabled": gc.isenabled(),
        "counts": list(gc.get_count()),
        "thresholds": list(gc.get_threshold()),
        "long_lived": 0,
        "background": None,
        "verified": None,
    }


@contextlib.contextmanager
def paused():
    """A context in which no collection starts by itself; `gc.collect()` still collects.

    When it ends, collections start by themselves again if they did before: `gc.isenabled()` is what it was, however the
    program left it. Contexts nest. They may overlap as well: in several threads, or in coroutines. Like `gc.disable()` a
    context is for the whole interpreter, so collections stay off until all of them have ended. A forked child goes on with
    the contexts of the thread that forked.
    """
    pause = _Pause()
    pause.begin()
    try:
        yield
    finally:
        pause.end()


# Those that have begun and not ended, the earliest first: a stack, but where they overlap.
_pauses = []

# Reentrant, as a signal's handler or a finalizer may run in here and pause collections too.
_lock = _thread.RLock()


class _Pause:
    __slots__ = ("enabled", "thread")

    def begin(self):
        with _lock:
            self.thread = _thread.get_ident()
            self.enabled = gc.isenabled()
            gc.disable()
            _pauses.append(self)

    def end(self):
        with _lock:
            place = _pauses.index(self)
            del _pauses[place]
            if place < len(_pauses):  # A later one goes on; what we found is for it to restore.
                _pauses[place].enabled = self.enabled
            elif self.enabled:
                gc.enable()
            else:
                gc.disable()


def _after_fork_in_child():
    """The other threads are gone, and their pauses with them."""
    global _lock
    _lock = _thread.RLock()
    for pause in _pauses.copy():
        if pause.thread != _thread.get_ident():
            pause.end()


os.register_at_fork(after_in_child=_after_fork_in_child)
