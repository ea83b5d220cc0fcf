"""The memory of a process as Linux tells it in /proc, and of this one as its C library tells it.

Figures are bytes. A process that is gone, or that may not be looked into, is a ProcessLookupError or a PermissionError.
Called by `memory_profiler` for processes other than this one, for what a figure starts from, and for what C libraries take.
"""

import ctypes
import os

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# What a metric of a process adds up, by the names of /proc/PID/smaps_rollup.
_ROLLUP_FIELDS = {"pss": ("Pss",), "uss": ("Private_Clean", "Private_Dirty")}

METRICS = ("rss", *_ROLLUP_FIELDS)


def process_bytes(pid, metric="rss"):
    """Memory of a process. metric: "rss" resident; "pss" with shared pages split among their users; "uss" unshared."""
    if metric == "rss":
        return int(_read(pid, "statm").split()[1]) * _PAGE_BYTES
    fields = _ROLLUP_FIELDS[metric]
    total_bytes = 0
    for line in _read(pid, "smaps_rollup").splitlines()[1:]:
        name, value = line.split(":")
        if name in fields:
            total_bytes += int(value.split()[0]) * 1024
    return total_bytes


def descendants(pid):
    """The pids of a process's children, their children, and so on, oldest generation first."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                # The command's name, in brackets, may hold anything.
                parent = int(_read(name, "stat").rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found = []
    queue = [pid]
    while queue:
        below = children.pop(queue.pop(0), [])
        found += below
        queue += below
    return found


def descendants_bytes(pid, metric="rss"):
    """(pid, memory) of each descendant; one that ends meanwhile is left out."""
    for child in descendants(pid):
        try:
            yield child, process_bytes(child, metric)
        except OSError:
            continue


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` (malloc.h of glibc 2.33)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def malloc_reader():
    """What to call for the bytes that the C libraries of this process have from malloc; None where nothing tells."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:  # musl, and glibc before 2.33
        return None
    mallinfo2.restype = _Mallinfo2

    def malloc_bytes():
        info = mallinfo2()
        return info.uordblks + info.hblkhd

    return malloc_bytes


def _read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
