"""Finalizers in cycles

Claim: Objects with `__del__` that are part of a cycle are never collected.
True: Wrong since CPython 3.4: the finalizers run, then the cycle goes. Python 2 kept such cycles for good, in gc.garbage.
Expected:
    CPython 2.7: true
    CPython 3.6+, PyPy, Jython, Rust: false
    MicroPython: not run, as it has no weak references to watch objects with
"""

import gc
import json
import time
import weakref

finalized = []


class Node(object):
    def __del__(self):
        finalized.append("finalized")


first, second = Node(), Node()
first.other, second.other = second, first
references = [weakref.ref(first), weakref.ref(second)]
del first, second
for _ in range(5):
    gc.collect()
    time.sleep(0.05)  # some run finalizers in a thread of their own

alive = len([each for each in references if each() is not None])
facts = {"finalizers_run": len(finalized), "objects_left": alive, "in_gc_garbage": len(getattr(gc, "garbage", []))}
print(json.dumps(dict(facts, verdict="true" if alive else "false")))
