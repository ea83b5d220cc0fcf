"""Small objects

Claim: The private heap serves objects below 512 bytes, uses freed blocks again, and opens a new pool when one is full.
True: Up to 512 bytes and including them; what is larger goes to the system allocator. On our heap larger objects have size
    classes too, up to 32 KiB, and beyond that a span of their own.
Expected:
    CPython 2.7, 3.6+, heapkeeper: partly
    PyPy, MicroPython, Jython: not run, as the program looks at addresses of C objects
"""

import json
import sys


def of_size(size_bytes):
    return bytes(bytearray(size_bytes - sys.getsizeof(b"")))


def by_system_allocator(thing):
    """Whether an object lies in malloc's own area, by the kernel's list of mappings."""
    with open("/proc/self/maps") as mappings:
        for line in mappings:
            start, end = [int(each, 16) for each in line.split()[0].split("-")]
            if start <= id(thing) < end:
                return "[heap]" in line


largest = max(size for size in range(500, 530) if not by_system_allocator(of_size(size)))
if "heapkeeper._native" in sys.modules:
    from heapkeeper import where

    largest = max(1 << bits for bits in range(9, 20) if where(of_size(1 << bits))["tier"] == "block")

kept = [of_size(400) for _ in range(1000)]
freed = id(kept[-1])
del kept[-1]
again = of_size(400)
pools = {id(each) // 16384 for each in kept}  # or smaller ones
facts = {
    "largest_object_served_bytes": largest,
    "freed_block_used_again": id(again) == freed,
    "new_pools_opened": len(pools) > 1,
}
holds = [largest == 511, facts["freed_block_used_again"], facts["new_pools_opened"]]
print(json.dumps(dict(facts, verdict="true" if all(holds) else "partly" if any(holds) else "false")))
