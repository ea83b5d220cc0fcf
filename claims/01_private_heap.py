"""A private heap

Claim: Memory is managed automatically, from a private heap of the interpreter that lies over the system allocator.
True: Small objects lie in CPython's arenas, but what needs more than 512 bytes comes straight from the system allocator,
    and built-in types are part of the interpreter's image. On our heap objects of every size lie on the heap; built-in
    types stay where they are.
Expected:
    CPython 2.7, 3.6+, heapkeeper: partly
    PyPy, MicroPython, Jython: not run, as the program looks at addresses of C objects
"""

import json
import sys


def place(address):
    """Who holds the memory at an address, by the kernel's list of mappings."""
    with open("/proc/self/maps") as mappings:
        for line in mappings:
            fields = line.split()
            start, end = [int(each, 16) for each in fields[0].split("-")]
            if start <= address < end:
                name = " ".join(fields[5:])
                if name.startswith("/"):
                    return "the interpreter's image"
                return "system allocator" if name == "[heap]" else "private heap"


small, large = object(), bytes(bytearray(4000))
places = {"small_object": place(id(small)), "object_of_4000_bytes": place(id(large)), "type_int": place(id(int))}

if "heapkeeper._native" in sys.modules:
    from heapkeeper import where

    words = {"heapkeeper": "private heap", "static": "the interpreter's image", "cpython": "system allocator"}
    measured = {"small_object": small, "object_of_4000_bytes": large, "type_int": int}
    places = {name: words[where(each)["owner"]] for name, each in measured.items()}

private = [each == "private heap" for each in places.values()]
verdict = "true" if all(private) else "partly" if any(private) else "false"
print(json.dumps(dict(places, verdict=verdict)))
