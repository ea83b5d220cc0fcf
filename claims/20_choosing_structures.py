"""Choosing structures

Claim: Dictionaries are costly; the choice of data structures decides how much memory a program needs.
True: A dict with three entries takes two to four times the memory of a tuple, the more the older the Python: they became
    compact in 3.6 and smaller in 3.11.
Expected:
    CPython 2.7, 3.6+: true
    PyPy, MicroPython, Jython: absent
Waits for: heap graphs (advice on structures)
"""

import collections
import json
import sys

try:
    sys.getsizeof(())
    Point = collections.namedtuple("Point", "x y z")
    x, y, z = 1, 2, 3
    structures = [("tuple", (x, y, z)), ("namedtuple", Point(x, y, z)), ("list", [x, y, z]), ("set", {x, y, z})]
    structures.append(("dict", {"x": x, "y": y, "z": z}))
    sizes = collections.OrderedDict((name, sys.getsizeof(structure)) for name, structure in structures)
    verdict = "true" if sizes["dict"] > 2 * sizes["tuple"] else "false"
except (AttributeError, TypeError):
    verdict, sizes = "absent", {}
print(json.dumps(dict(sizes, verdict=verdict)))
