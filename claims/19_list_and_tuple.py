"""Lists and tuples

Claim: A list takes more memory than a tuple of the same items, and it over-allocates as it grows.
True: The list has a second block for its items, and room for an eighth more when it grows by append.
Expected:
    CPython 2.7, 3.6+: true
    PyPy, MicroPython, Jython: absent
Waits for: our crate (values that grow as CPython's do)
"""

import json
import struct
import sys

POINTER_BYTES = struct.calcsize("P")

try:
    items = []
    empty_bytes = sys.getsizeof(items)
    capacities = []
    for index in range(100):
        items.append(index)
        capacity = (sys.getsizeof(items) - empty_bytes) // POINTER_BYTES
        if capacity not in capacities:
            capacities.append(capacity)
    larger = sys.getsizeof(list((1, 2, 3))) - sys.getsizeof((1, 2, 3))
    facts = {"list_of_3_is_larger_by_bytes": larger, "room_for": capacities}
    holds = [larger > 0, len(capacities) < 100]
    verdict = "true" if all(holds) else "partly" if any(holds) else "false"
except (AttributeError, TypeError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
