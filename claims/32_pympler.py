"""pympler

Claim: pympler measures objects with all they refer to, and tracks what a program adds.
True: asizeof walks from an object to what it needs, and a tracker counts objects by type between two moments. Since
    CPython 3.11 measuring leaves a dict with each instance that did without one.
Expected:
    CPython 3.8+, heapkeeper: true
    CPython 3.6-3.7: not run, as numpy, which pympler looks for, needs a later CPython here
    CPython 2.7, PyPy, MicroPython, Jython: not run, as the packages here are for CPython 3
Packages: yes
Waits for: the profiler's drop-in for pympler
"""

import json
import tracemalloc

try:
    from pympler import asizeof, tracker
except ImportError:
    print(json.dumps({"verdict": "not installed"}))
    raise SystemExit from None


class Session:
    def __init__(self, number):
        self.data = bytearray(1000)


tracked = tracker.SummaryTracker()
tracked.diff()
sessions = [Session(number) for number in range(100)]
added = [row for row in tracked.diff() if row[0].endswith("Session")]

deep = [Session(number) for number in range(1000)]
tracemalloc.start()
smallest = min(asizeof.asizeof(session) for session in deep)
left_bytes = tracemalloc.get_traced_memory()[0]
facts = {"sessions_added": added[0][1] if added else 0, "size_covers_the_data": smallest > 1000}
facts["measuring_left_a_dict_with_each_instance"] = left_bytes > 50 * len(deep)
holds = [facts["sessions_added"] == 100, facts["size_covers_the_data"]]
print(json.dumps(dict(facts, verdict="true" if all(holds) else "partly" if any(holds) else "false")))
