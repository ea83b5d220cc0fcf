"""Freed at zero

Claim: An object is freed at once when the last reference to it goes.
True: In CPython with the GIL, yes: its finalizer has run before the next line does, though lists, floats and others keep
    their block for the next of their kind. Elsewhere an object waits for the collector.
Expected:
    CPython 2.7, 3.6+, Rust: true
    PyPy, MicroPython, Jython: false
"""

import json

events = []


class Watched(object):
    def __del__(self):
        events.append("finalized")


watched = Watched()
events.append("last reference goes")
del watched
events.append("next line")

verdict = "true" if events == ["last reference goes", "finalized", "next line"] else "false"
print(json.dumps({"verdict": verdict, "events": events}))
