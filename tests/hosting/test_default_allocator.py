"""Moments in which CPython's own raw allocator is back in the place of our hooks, as CPython itself puts it back.

`_PyMem_SetDefaultAllocator` does so while it makes an interpreter (up to 3.12) and while it ends, for the whole process. Here a
program does the same, with the allocator that it found before heapkeeper came.
"""

import sys

import pytest
from processes import ON_OUR_HEAP

own_gil_only = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="an interpreter has a GIL of its own from CPython 3.12 on"
)

exported_only = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="CPython 3.13 keeps _PyMem_SetDefaultAllocator to itself"
)

# `default()` is a context in which CPython's own allocator serves the raw domain.
DEFAULT = (
    """\
import contextlib, ctypes

class Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]

api = ctypes.pythonapi
for name in ("Malloc", "Calloc", "Realloc"):
    getattr(api, "PyMem_Raw" + name).restype = ctypes.c_void_p
RAW = 0
cpythons, ours = Allocator(), Allocator()
api.PyMem_GetAllocator(RAW, ctypes.byref(cpythons))

import heapkeeper
heapkeeper.install()
api.PyMem_GetAllocator(RAW, ctypes.byref(ours))

@contextlib.contextmanager
def default():
    api.PyMem_SetAllocator(RAW, ctypes.byref(cpythons))
    try:
        yield
    finally:
        api.PyMem_SetAllocator(RAW, ctypes.byref(ours))

def new(size, fill=b""):
    block = ctypes.c_void_p(api.PyMem_RawMalloc(ctypes.c_size_t(size)))
    ctypes.memmove(block, fill, len(fill))
    return block

def resized(block, size):
    return ctypes.c_void_p(api.PyMem_RawRealloc(block, ctypes.c_size_t(size)))

def live_bytes():
    return heapkeeper.status()["heap"]["live_bytes"]

"""
    + ON_OUR_HEAP
)
SIZES = (1, 24, 500, 4000, 100_000, 3 << 20)


def test_blocks_of_ours_are_freed(run):
    """They come back to our heap, and are not lost to it."""
    answer = run(
        DEFAULT
        + f"""
before = live_bytes()
for _ in range(20):
    blocks = [new(size) for size in {SIZES} * 3]
    with default():
        for block in blocks:
            api.PyMem_RawFree(block)
print((live_bytes() - before) >> 20)
""",
        heapkeeper=None,
    )
    assert answer.stdout == "0\n"


def test_blocks_of_ours_are_resized(run):
    run(
        DEFAULT
        + f"""
import itertools
for size, other in itertools.product({SIZES}, repeat=2):
    fill = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    block = new(size, fill)
    with default():
        block = resized(block, other)
    assert ctypes.string_at(block, min(size, other)) == fill[:other]
    api.PyMem_RawFree(block)
""",
        heapkeeper=None,
    )


def test_blocks_of_libc_stay_with_libc(run):
    """Taken in such a moment, they outlive it; resized in the next one, or freed there."""
    run(
        DEFAULT
        + f"""
for size in {SIZES} * 3:
    with default():
        blocks = [new(size, b"x" * size) for _ in range(4)]
    api.PyMem_RawFree(blocks[0])
    blocks[1] = resized(blocks[1], size + 1000)
    with default():
        blocks[2] = resized(blocks[2], size + 1000)
        api.PyMem_RawFree(blocks[3])
    for block in blocks[1:3]:
        assert ctypes.string_at(block, size) == b"x" * size
        api.PyMem_RawFree(block)
""",
        heapkeeper=None,
    )


def test_pages_of_the_interpreter_stay_as_protected(run):
    """Those with the addresses of imported functions are read-only wherever the interpreter was linked so."""
    answer = run(
        """
import os, sys, heapkeeper

def protections():
    with open("/proc/self/maps") as file:
        mappings = [line.split() for line in file]
    images = [each for each in mappings if "/libpython3." in each[-1] or each[-1] == os.path.realpath(sys.executable)]
    assert images
    return images

before = protections()
heapkeeper.install()
assert heapkeeper.status()["allocator"]["name"] == "heapkeeper"
after = protections()
assert after == before, (before, after)
""",
        heapkeeper=None,
    )
    assert answer.stdout == ""


INTERPRETERS = (
    DEFAULT
    + """
import sys, threading
try:
    import _interpreters as low
except ImportError:
    import _xxsubinterpreters as low

def create():
    return low.create("isolated") if sys.version_info >= (3, 13) else low.create(isolated=True)

def heaps():
    return heapkeeper.status()["heap"]["interpreters"]

def work(interpreter):
    failure = low.run_string(interpreter, "kept = [[number] * 50 for number in range(50_000)]")
    assert failure is None, failure

def work_in_all(interpreters):
    threads = [threading.Thread(target=work, args=(each,)) for each in interpreters]
    for thread in threads:
        thread.start()
    main = [[number] * 50 for number in range(100_000)]
    for thread in threads:
        thread.join()
    assert all(each == [number] * 50 for number, each in enumerate(main))
"""
)


@own_gil_only
def test_interpreters_made_then_have_heaps_of_their_own(run):
    """Their state is libc's, and the interpreter that told us of interpreters with a GIL of their own is gone before they work."""
    answer = run(
        INTERPRETERS
        + """
for _ in range(3):
    first = create()
    with default():
        others = [create() for _ in range(2)]
    low.destroy(first)
    work_in_all(others)
    print(heaps())
    low.destroy(others[0])
    with default():
        low.destroy(others[1])
    print(heaps())
""",
        heapkeeper=None,
    )
    assert answer.stdout.split() == ["3", "1"] * 3


@own_gil_only
def test_interpreters_when_the_default_stays(run):
    """Two of CPython's moments that overlap leave it in; then we hear of no interpreter's beginning."""
    answer = run(
        INTERPRETERS
        + """
first = create()
with default():
    low.destroy(first)
    for _ in range(3):
        others = [create() for _ in range(2)]
        work_in_all(others)
        print(heaps())
        for other in others:
            low.destroy(other)
        print(heaps())
""",
        heapkeeper=None,
    )
    assert answer.stdout.split() == ["3", "1"] * 3


@exported_only
@pytest.mark.parametrize("tracing", [False, True])
def test_moments_of_cpythons_own_making(run, tracing):
    """With tracemalloc running, its hook goes too, and comes back."""
    answer = run(
        DEFAULT
        + """
before = live_bytes()
blocks = [new(1 << 20) for _ in range(20)]
found = Allocator()
api._PyMem_SetDefaultAllocator(RAW, ctypes.byref(found))
for block in blocks:
    api.PyMem_RawFree(resized(block, 3 << 20))
api.PyMem_SetAllocator(RAW, ctypes.byref(found))
assert bytes(found) == bytes(ours)
print((live_bytes() - before) >> 20)
""",
        heapkeeper=None,
        environment={"PYTHONTRACEMALLOC": "1"} if tracing else {},
    )
    assert answer.stdout == "0\n"


@exported_only
def test_blocks_of_the_debug_hooks_are_left_alone(run):
    """Such a block begins inside one of ours. Plain python ends with "free(): invalid pointer"."""
    answer = run(
        DEFAULT
        + """
block, other, found = new(1000), new(1000, b"as it was"), Allocator()
api._PyMem_SetDefaultAllocator(RAW, ctypes.byref(found))
api.PyMem_RawFree(block)
moved = resized(other, 2000)
api.PyMem_SetAllocator(RAW, ctypes.byref(found))
assert not moved
print(ctypes.string_at(other, 9))
api.PyMem_RawFree(other)
""",
        heapkeeper=None,
        environment={"PYTHONMALLOC": "debug"},
    )
    assert answer.stdout == "b'as it was'\n"


@own_gil_only
def test_interpreters_come_and_go_while_threads_end(run):
    """Nothing staged: each interpreter that is made brings such a moment in 3.12, each end of a thread frees raw blocks without a GIL."""
    answer = run(
        """
import threading, zlib
try:
    import _interpreters as low
except ImportError:
    import _xxsubinterpreters as low

making = True

def make():
    for _ in range(100):
        low.destroy(low.create())

def begin_and_end():
    while making:
        threads = [threading.Thread(target=zlib.compress, args=(bytes(1000),)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

makers = [threading.Thread(target=make) for _ in range(4)]
others = [threading.Thread(target=begin_and_end) for _ in range(2)]
for thread in makers + others:
    thread.start()
for thread in makers:
    thread.join()
making = False
for thread in others:
    thread.join()
print(heapkeeper.status()["heap"]["interpreters"])
"""
    )
    assert answer.stdout == "1\n"
