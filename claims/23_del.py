"""del

Claim: del frees an object.
True: It removes a name, or another reference. The object goes when that was the last one (in CPython at once, elsewhere at
    some later collection), and stays as long as there is another.
Expected:
    CPython 2.7, 3.6+, PyPy, Jython, Rust: false
    MicroPython: not run, as it has no weak references to watch objects with
"""

import gc
import json
import weakref


class Thing(object):
    pass


first = second = Thing()
reference = weakref.ref(first)
del first
gc.collect()
facts = {"there_after_del_of_one_name": reference() is not None}
del second
gc.collect()
gc.collect()
facts["there_after_del_of_the_last"] = reference() is not None

print(json.dumps(dict(facts, verdict="false" if facts["there_after_del_of_one_name"] else "true")))
