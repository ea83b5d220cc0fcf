"""Weak references

Claim: A weak reference does not keep its object alive.
True: It answers None once the object has gone; a cache of weak references empties itself. MicroPython has none.
Expected:
    CPython 2.7, 3.6+, PyPy, Jython, Rust: true
    MicroPython: absent
"""

import gc
import json


class Picture(object):
    pass


try:
    import weakref

    picture = Picture()
    reference = weakref.ref(picture)
    cache = weakref.WeakValueDictionary(cover=picture)
    before = reference() is picture and "cover" in cache
    del picture
    gc.collect()
    gc.collect()
    facts = {"there_while_in_use": before, "there_after": reference() is not None, "cached_after": "cover" in cache}
    verdict = "true" if before and not facts["there_after"] and not facts["cached_after"] else "false"
except ImportError:
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
