"""Where memory figures come from, by the names that memory_profiler gives its backends.

Lines and functions are measured by what they allocate. The backend says what the figure starts from, and how other
processes are measured: resident size ("psutil", "posix"), "psutil_pss", "psutil_uss", or nothing ("tracemalloc").
"""

import os

from heapkeeper import NotInstalledError, _exact, process_memory

METRICS = {"psutil": "rss", "posix": "rss", "psutil_pss": "pss", "psutil_uss": "uss", "tracemalloc": None}
DEFAULT = "psutil"


def choose(name=None):
    """The backend of that name; None stands for the default."""
    if name is None:
        return DEFAULT
    if name not in METRICS:
        raise ValueError(f"{name!r} is none of the backends {', '.join(METRICS)}")
    return name


def process_bytes(backend, pid=None):
    """Memory of a process, this one by default."""
    metric = METRICS[backend]
    if metric is not None:
        return process_memory.process_bytes(pid or os.getpid(), metric)
    if pid in (None, os.getpid()):
        return 0
    raise ValueError("backend 'tracemalloc' tells of this process only")


def children_bytes(backend, pid=None):
    """Memory of all processes that a process started, this one by default."""
    metric = METRICS[backend] or "rss"
    return sum(size for _, size in process_memory.descendants_bytes(pid or os.getpid(), metric))


def live_reader():
    """What to call for the bytes that this process has allocated, from now on and until it ends.

    They are those of our heap, and what C libraries have from malloc, both to the byte. Nothing that a call allocates is
    left when it returns. Where our heap cannot serve this interpreter, which a warning has told, it is the resident size.
    """
    try:
        _exact.begin()
    except NotInstalledError:
        return lambda: process_memory.process_bytes(os.getpid())
    from heapkeeper import _native

    usage, malloc = _native.exact_usage, process_memory.malloc_reader()
    if malloc is None:
        return lambda: usage()[0]
    return lambda: usage()[0] + malloc()
