"""Context managers

Claim: Context managers release what they manage on time.
True: The resource, yes: a file is closed when the block ends, in every Python. Memory, no: the object and its buffers live as
    long as something refers to them. Only CPython closes a forgotten file as soon as nothing refers to it.
Expected:
    CPython 2.7, 3.6+, PyPy, MicroPython: partly
    Jython: not run, as the kernel's list of open files does not show what Java has closed
Waits for: the report of files that finalizers closed
"""

import json
import os


def open_files():
    return len(os.listdir("/proc/self/fd"))


class Report(object):
    """Holds a file while it is managed, and a buffer."""

    def __enter__(self):
        self.file = open("/proc/self/status")
        self.buffer = bytearray(1000000)
        return self

    def __exit__(self, *error):
        self.file.close()


before = open_files()
with Report() as report:
    during = open_files()
after = open_files()
forgotten = open("/proc/self/status")
del forgotten

facts = {
    "file_closed_after_the_block": during == before + 1 and after == before,
    "buffer_still_there": len(report.buffer) == 1000000,
    "forgotten_file_closed_at_once": open_files() == before,
}
if not facts["file_closed_after_the_block"]:
    verdict = "false"
else:
    verdict = "partly" if facts["buffer_still_there"] else "true"
print(json.dumps(dict(facts, verdict=verdict)))
