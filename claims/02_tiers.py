"""Tiers

Claim: The heap is tiered: the operating system, a raw allocator, the private heap, allocators of single types.
True: CPython asks in three domains: raw goes to the system allocator, the other two to the arenas of the private heap, and
    types such as list keep freed blocks for themselves. Python 2 has no raw domain. On our heap every domain ends in
    pools of arenas, and the types' free lists stay.
Expected:
    CPython 2.7: partly
    CPython 3.6+, heapkeeper: true
    PyPy, MicroPython, Jython: not run, as the tiers are those of CPython's C interface
"""

import ctypes
import json
import sys


def place(address):
    """Who holds the memory at an address, by the kernel's list of mappings."""
    with open("/proc/self/maps") as mappings:
        for line in mappings:
            start, end = [int(each, 16) for each in line.split()[0].split("-")]
            if start <= address < end:
                return "system allocator" if "[heap]" in line else "private heap"


def served_by(function):
    """Who serves 64 bytes asked for through a function of the C interface."""
    allocate = getattr(ctypes.pythonapi, function, None)
    if allocate is None:
        return "no such domain"
    allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    return place(allocate(64))


domains = {"raw": "PyMem_RawMalloc", "mem": "PyMem_Malloc", "object": "PyObject_Malloc"}
facts = {name: served_by(function) for name, function in domains.items()}

address = id([])  # of a list that is freed at once
pairs = tuple(
    (each, each) for each in range(200)
)  # as large as a list object: these would take a block that is free for all
facts["list_kept_by_its_type"] = id([]) == address

tiers = [facts["object"] == "private heap", facts["list_kept_by_its_type"]]
tiers.append(facts["raw"] == ("private heap" if "heapkeeper._native" in sys.modules else "system allocator"))
verdict = "true" if all(tiers) else "partly" if any(tiers) else "false"
print(json.dumps(dict(facts, verdict=verdict)))
