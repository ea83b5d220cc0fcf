"""sys.getrefcount

Claim: After `a = []`, `sys.getrefcount(a)` is 2: one reference is the name, the other the function's own argument.
True: At module level it is. For a local variable it is 1 since CPython 3.14, where the argument borrows the variable's
    reference.
Expected:
    CPython 2.7, 3.6-3.13: true
    CPython 3.14+: partly
    PyPy, MicroPython, Jython: absent
"""

import json
import sys


def local_list():
    a = []
    return sys.getrefcount(a)


try:
    a = []
    counts = {"at_module_level": sys.getrefcount(a), "in_a_function": local_list()}
    right = [count == 2 for count in counts.values()]
    verdict = "true" if all(right) else "partly" if any(right) else "false"
except (AttributeError, NotImplementedError):
    verdict, counts = "absent", {}
print(json.dumps(dict(counts, verdict=verdict)))
