"""Arenas, pools and blocks

Claim: Arenas of 256 KiB hold pools of 4 KiB, and a pool holds blocks of one size.
True: The nesting holds, but since CPython 3.10 an arena has 1 MiB and a pool 16 KiB. Blocks come in steps of 16
    bytes in all that was measured here (8 in older releases). Ours: arenas of 2 MiB, pools of 16 KiB, steps of 16 bytes.
Expected:
    CPython 2.7, 3.6-3.9: true
    CPython 3.10+, heapkeeper: partly
    PyPy, MicroPython, Jython: not run, as the program looks at addresses of C objects
"""

import json
import sys


def address_space_kib():
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) for line in status if line.startswith("VmSize")][0]


def granule(kind):
    """The smallest power of two that holds all objects of one arena or pool, as our heap numbers them."""
    places = [(where(each)[kind], id(each)) for each in objects[::10]]
    sizes = [1 << bits for bits in range(12, 24)]
    return min(size for size in sizes if len({(n, a // size) for n, a in places}) == len({n for n, _ in places}))


# How the address space grows, while nothing is made but small objects.
objects = [None] * 200000
growth_kib = []
for index in range(len(objects)):
    objects[index] = object()
    if index % 500 == 0:
        growth_kib.append(address_space_kib())
steps_kib = [after - before for before, after in zip(growth_kib, growth_kib[1:]) if after > before]

if "heapkeeper._native" in sys.modules:
    from heapkeeper import where

    arena_kib, pool_bytes = granule("arena") // 1024, granule("pool")
else:
    # A pool begins with its header, which no block overlaps.
    sizes = [4096, 8192, 16384, 32768]
    arena_kib = max(set(steps_kib), key=steps_kib.count)
    pool_bytes = min(size for size in sizes if all(id(each) % size >= 32 for each in objects[-50000:]))

# Strings of 40 bytes, most of them neighbours: how far are they apart?
places = sorted(id(each) for each in [bytes(bytearray(40 - sys.getsizeof(b""))) for _ in range(5000)])
gaps = [after - before for before, after in zip(places, places[1:])]
facts = {"arena_KiB": arena_kib, "pool_bytes": pool_bytes, "block_bytes_for_40": max(set(gaps), key=gaps.count)}
print(json.dumps(dict(facts, verdict="true" if (arena_kib, pool_bytes) == (256, 4096) else "partly")))
