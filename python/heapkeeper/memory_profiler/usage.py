"""`memory_usage`: the memory of a process over time, or of this one while it runs a function."""

import json
import os
import subprocess
import threading
import time

from heapkeeper import NotInstalledError
from heapkeeper.memory_profiler import backends
from heapkeeper.process_memory import descendants_bytes
from heapkeeper.tracker import Tracker

__all__ = ["memory_usage"]

MIB = 2**20

# A stream is written through after so many measurements, so that somebody may read along.
_FLUSH_EVERY = 50


def memory_usage(
    proc=-1,
    interval=0.1,
    timeout=None,
    timestamps=False,
    include_children=False,
    multiprocess=False,
    max_usage=False,
    retval=False,
    stream=None,
    backend=None,
    max_iterations=None,
):
    """Measure a process every so often. Returns a list of MiB, or with max_usage the highest alone.

    proc: a pid, -1 for this process, a subprocess.Popen, or a function to call: itself, (f,), (f, args) or (f, args, kw). A
    function is called once. Its figures are the process's size when it began, what our heap grew by since, and what grew
    outside our heap; the highest of them is that of the heap, to the byte, whatever the interval.

    interval: seconds between two measurements, **0.1**. timeout: seconds to measure for, of a process; **once**, or as long
    as a Popen or a function runs. timestamps: (MiB, time) instead of MiB. include_children: with all processes that it
    started. multiprocess: of a process, [MiB, MiB of a child, …] instead of MiB. retval: of a function, (measurements, what
    it returned). stream: lines "MEM MiB time" are written there, and None is returned for measurements. backend: "psutil"
    or "posix" for resident size, "psutil_pss", "psutil_uss", or "tracemalloc" for what our heap grew by alone; **"psutil"**.
    max_iterations: taken, and of no use, as a function is called once.

    Raises ProcessLookupError where there is no such process.
    """
    backend = backends.choose(backend)
    record = Record(timestamps, max_usage, stream)
    if callable(proc):
        proc = (proc,)
    if isinstance(proc, (list, tuple)):
        if not 1 <= len(proc) <= 3:
            raise ValueError("a function to call is (f,), (f, args) or (f, args, kw)")
        returned = call(record, *proc, interval=interval, backend=backend, include_children=include_children)
        measured = record.result()
        return (measured, returned) if retval else measured
    if isinstance(proc, subprocess.Popen):
        pid, running = proc.pid, lambda: proc.poll() is None
        count = None if timeout is None else max(1, round(timeout / interval))
    else:
        pid, running = int(proc), lambda: True
        count = 1 if timeout is None else max(1, round(timeout / interval))
    if pid == -1:
        pid = os.getpid()
    while True:
        try:
            children = list(descendants_bytes(pid)) if multiprocess or include_children else []
            memory_bytes = backends.process_bytes(backend, pid)
        except OSError:
            if record.count and not running():
                break  # It ended while we looked.
            raise
        if include_children:
            memory_bytes += sum(size for _, size in children)
        record.add(memory_bytes, children if multiprocess else None)
        if count == record.count:
            break
        time.sleep(interval)
        if not running():
            break
    return record.result()


class Record:
    """What was measured, in the form that was asked for; the first figure and the largest in any case."""

    def __init__(self, timestamps=False, max_usage=False, stream=None):
        self.count = 0
        self.first_bytes = None
        self.largest_bytes = 0
        self._timestamps = timestamps or stream is not None
        self.highest = max_usage
        self._stream = stream
        self._values = []

    def add(self, memory_bytes, children=None):
        """children: (pid, bytes) of each, where they are told apart."""
        now = time.time()
        self.count += 1
        if self.first_bytes is None:
            self.first_bytes = memory_bytes
        self.largest_bytes = max(self.largest_bytes, memory_bytes)
        value = memory_bytes / MIB
        if self._stream is not None:
            self._stream.write(f"MEM {value:.6f} {now:.4f}\n")
            for pid, child_bytes in children or ():
                self._stream.write(f"CHLD {pid} {child_bytes / MIB:.6f} {now:.4f}\n")
            if self.count % _FLUSH_EVERY == 0:
                self._stream.flush()
            return
        if self._timestamps:
            value = value, now
        if self.highest:
            self._values = [max(self._values + [value])]
        elif children is None:
            self._values.append(value)
        else:
            self._values.append([value] + [child_bytes / MIB for _, child_bytes in children])

    def result(self):
        if self._stream is not None:
            return None
        return self._values[0] if self.highest else self._values


def call(record, func, args=(), kw=None, *, interval=0.1, backend=backends.DEFAULT, include_children=False):
    """Call a function and measure meanwhile, into a Record. Returns what it returned."""
    origin_bytes = backends.process_bytes(backend)
    try:
        tracker = Tracker()
        tracker.__enter__()
    except NotInstalledError:
        tracker = None  # Which a warning has told: the resident size is all there is.
    outside_bytes = _outside_bytes(backend) if tracker is not None else 0
    ended = threading.Event()

    def memory_bytes(grown_bytes):
        children_bytes = backends.children_bytes(backend) if include_children else 0
        if tracker is None:
            return backends.process_bytes(backend) + children_bytes
        return origin_bytes + grown_bytes + _outside_bytes(backend) - outside_bytes + children_bytes

    def measure():
        while True:
            record.add(memory_bytes(tracker and tracker.live_bytes))
            if ended.wait(interval):
                return

    thread = threading.Thread(target=measure, name="memory_usage", daemon=True)
    thread.start()
    try:
        returned = func(*args, **(kw or {}))
    finally:
        live_bytes, peak_bytes = (tracker.live_bytes, tracker.peak_bytes) if tracker is not None else (0, 0)
        ended.set()
        thread.join()
        if tracker is not None:
            tracker.__exit__()
    if record.highest:
        record.add(memory_bytes(peak_bytes))
    record.add(memory_bytes(live_bytes))
    return returned


def _outside_bytes(backend):
    """Resident memory outside our heap, where it counts."""
    if backend == "tracemalloc":
        return 0
    from heapkeeper import _native

    return json.loads(_native.status_json(""))["process"]["outside_bytes"]
