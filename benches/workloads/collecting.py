"""What the workloads of the collector share: a timed collection, and what a process can say of its collector and memory.

A process says itself who collects in it and whose heap it is on, so that no figure is booked under a name it did not earn.
"""

import contextlib
import gc
import json
import os
import sys
import time

from alloc_mix import peak_resident_mib, resident_mib, served_by


def own_collector():
    """What heapkeeper says of its collector where it runs this process; nothing elsewhere."""
    if served_by() != "heapkeeper":
        return {}
    import heapkeeper

    return heapkeeper.status().get("collector") or {}


def collected_by():
    """Who runs full collections here: `heapkeeper`, `background`, or the interpreter's own name."""
    mode = own_collector().get("mode")
    return mode if mode in ("heapkeeper", "background") else sys.implementation.name


class Phases:
    """Where the time of our collections goes. Asking reads the whole heap's tables: never right before what is timed."""

    def __init__(self):
        self.so_far = self.all()

    @staticmethod
    def all():
        """Seconds that each phase has taken in this process; empty where the collector is another's."""
        return {name.removesuffix("_s"): seconds for name, seconds in own_collector().get("phases", {}).items()}

    def each(self, collections=1):
        """Seconds that each phase took in each of some collections, on average: those since this was last asked."""
        earlier, self.so_far = self.so_far, self.all()
        return {name: significant((self.so_far[name] - earlier[name]) / collections) for name in self.so_far}


def forget_peak():
    """Make the resident size of now the highest so far. False where the kernel refuses."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
        return True
    return False


def timed(generation=2):
    """Seconds of one collection, and what it found."""
    began = time.perf_counter()
    found = gc.collect(generation)
    return time.perf_counter() - began, found or 0


def collection():
    """A full collection: its seconds, what it found, and the memory that it took meanwhile (null: unknown)."""
    can_tell, resident = forget_peak(), resident_mib()
    seconds, found = timed()
    scratch = max(peak_resident_mib() - resident, 0) if can_tell else None
    return {"s": significant(seconds), "found": found, "scratch_mib": scratch and round(scratch, 2)}


def significant(number):
    """Six digits: more is noise."""
    return float(f"{number:.6g}")


def tracked():
    """How many objects the collector knows, and their bytes (null where the interpreter does not say)."""
    objects = gc.get_objects()
    try:
        return len(objects), sum(map(sys.getsizeof, objects))
    except TypeError:  # PyPy
        return len(objects), None


def finish(**figures):
    """Print a run's figures as one JSON line, with who earned them, and leave. Nobody waits for the heap to be taken down."""
    print(json.dumps({**figures, "collected_by": collected_by(), "served_by": served_by()}), flush=True)
    os._exit(0)
