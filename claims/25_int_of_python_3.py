"""The integers of Python 3

Claim: Python 3's int is leaner than Python 2's.
True: It is larger. Python 2 had two types: int, a machine word in 24 bytes, and long. Python 3's int is the long, 28 bytes or
    more.
Expected:
    CPython 2.7, 3.6+: false
    PyPy, MicroPython, Jython: absent
"""

import json
import struct
import sys

try:
    python_3 = sys.getsizeof(long(1) if sys.version_info[0] == 2 else 1)  # noqa: F821
    # A reference count, a type, a C long; on Python 2 it is there to be measured.
    python_2 = sys.getsizeof(1) if sys.version_info[0] == 2 else struct.calcsize("PPl")
    facts = {"python_2_int_bytes": python_2, "python_3_int_bytes": python_3}
    verdict = "true" if python_3 < python_2 else "false"
except (AttributeError, TypeError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
