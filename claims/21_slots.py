"""Slots

Claim: `__slots__` saves memory, as an instance then has no dict.
True: In CPython it does, but less than it used to: instances share their dicts' keys since 3.3, and store the values without a
    dict since 3.11. PyPy stores instances that way by itself, and MicroPython ignores `__slots__`.
Expected:
    CPython 2.7, 3.6+: true
    PyPy, MicroPython: false
    Jython: not run, as a few objects do not show in the Java virtual machine's memory
Waits for: heap graphs (advice on slots)
"""

import gc
import json


class Plain(object):
    def __init__(self, number):
        self.x = self.y = self.z = number


class Slotted(object):
    __slots__ = ("x", "y", "z")

    def __init__(self, number):
        self.x = self.y = self.z = number


def used_bytes():
    """What is allocated, by whoever knows: MicroPython's gc, CPython's tracemalloc, or the kernel."""
    gc.collect()
    if hasattr(gc, "mem_alloc"):
        return gc.mem_alloc()
    if tracemalloc is not None:
        return tracemalloc.get_traced_memory()[0]
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS")][0]


try:
    import tracemalloc

    tracemalloc.start()
except (ImportError, AttributeError):
    tracemalloc = None

COUNT = 5000 if hasattr(gc, "mem_alloc") else 100000
numbers = list(range(COUNT))
kept = []


def bytes_each(kind):
    instances = [None] * COUNT
    kept.append(instances)
    before = used_bytes()
    for index in numbers:
        instances[index] = kind(None)
    return int(round((used_bytes() - before) / float(COUNT)))


facts = {"bytes_with_slots": bytes_each(Slotted), "bytes_without": bytes_each(Plain)}
saved = facts["bytes_without"] - facts["bytes_with_slots"]
print(json.dumps(dict(facts, verdict="true" if saved > 8 else "false")))
