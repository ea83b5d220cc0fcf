"""`memory_usage`: this process while it runs a function, and other processes."""

import sys

MIB = 2**20

START = """
import io, os, subprocess, sys, time
from heapkeeper.memory_profiler import memory_usage

def work(size, pause=0.0):
    block = bytes(size)
    time.sleep(pause)
    return len(block)
"""


def figures(driver, code):
    """What a program prints, a number a line."""
    outcome = driver.python("-c", START + code)
    assert (outcome.status, outcome.stderr) == (0, "")
    return [float(line) for line in outcome.stdout.split()]


def test_the_highest_is_found_between_two_measurements(driver):
    """The block is gone long before the interval ends, and the resident size would not tell how large it was."""
    code = """
before = memory_usage(max_usage=True)
highest, returned = memory_usage((work, (50_000_000,)), max_usage=True, retval=True)
print(before, highest, returned)
"""
    before, highest, returned = figures(driver, code)
    assert returned == 50_000_000
    # The program's own start lies between the two figures that it starts from.
    assert 50_000_000 / MIB <= highest - before < 50_000_000 / MIB + 8


def test_a_function_is_called_once(driver):
    code = """
calls = []
values = memory_usage((calls.append, (1,)), interval=0.01)
print(len(calls), len(values))
"""
    calls, values = figures(driver, code)
    assert calls == 1 and values >= 2


def test_measurements_follow_the_function(driver):
    code = """
values = memory_usage((work, (50_000_000, 0.5)), interval=0.05)
print(*values)
"""
    values = figures(driver, code)
    assert len(values) >= 4
    assert max(values) - values[0] > 47 or max(values) - values[-1] > 47
    # It is all freed in the end.
    assert max(values) - values[-1] > 47


def test_memory_outside_our_heap_counts(driver):
    """A C library's, or a mapping: what numpy would take."""
    code = """
import mmap
def outside(kept):
    mapping = mmap.mmap(-1, 64 << 20)
    for offset in range(0, 64 << 20, 4096):
        mapping[offset] = 1
    if kept is not None:
        kept.append(mapping)

for kept in (None, []):
    values = memory_usage((outside, (kept,)), interval=10)
    print(values[-1] - values[0])
"""
    gone, kept = figures(driver, code)
    assert gone < 16 and 48 < kept < 80


def test_what_a_function_raises_comes_through(driver):
    code = """
def fail():
    raise KeyError("x")
try:
    memory_usage(fail)
except KeyError:
    print(1)
import threading
print(threading.active_count())
"""
    assert figures(driver, code) == [1, 1]


def test_shapes(driver):
    """Each combination of options gives what memory_profiler gives."""
    code = """
kinds = {
    "list": memory_usage(),
    "one": memory_usage(timeout=0.02, interval=0.01, max_usage=True),
    "pairs": memory_usage(timeout=0.03, interval=0.01, timestamps=True),
    "nested": memory_usage(timeout=0.01, interval=0.01, multiprocess=True),
    "function": memory_usage(work.__call__ and (work, [100])),
    "named": memory_usage((work, (), {"size": 100}), timestamps=True),
    "text": memory_usage(str(os.getpid())),
}
assert [type(value) for value in kinds["list"]] == [float]
assert type(kinds["one"]) is float
assert len(kinds["pairs"]) == 3 and all(abs(at - time.time()) < 60 for _, at in kinds["pairs"])
assert len(kinds["nested"]) == 1 and type(kinds["nested"][0]) is list
assert all(type(value) is float for value in kinds["function"])
assert all(len(pair) == 2 for pair in kinds["named"])
assert len(kinds["text"]) == 1
stream = io.StringIO()
assert memory_usage(timeout=0.02, interval=0.01, stream=stream) is None
assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["MEM", "MEM"]
for wrong in [(), (work, (), {}, 1)]:
    try:
        memory_usage(wrong)
    except ValueError:
        print(1)
try:
    memory_usage(backend="guess")
except ValueError as error:
    print("psutil_pss" in str(error))
""".replace('print("psutil_pss" in str(error))', "print(int('psutil_pss' in str(error)))")
    assert figures(driver, code) == [1, 1, 1]


def test_other_processes(driver):
    code = f"""
child = subprocess.Popen([{sys.executable!r}, "-c", "import time; block = b'x' * 80_000_000; time.sleep(1)"])
time.sleep(0.5)
alone = memory_usage()[0]
with_children = memory_usage(include_children=True)[0]
nested = memory_usage(multiprocess=True)[0]
values = memory_usage(child, interval=0.05)
print(with_children - alone, len(nested), nested[1], max(values), max(memory_usage(child.pid)) if child.poll() is None else 0)
for metric in ("psutil_pss", "psutil_uss", "posix"):
    print(memory_usage(backend=metric)[0])
try:
    memory_usage(child.pid)
except ProcessLookupError:
    print(1)
"""
    children, count, nested, of_popen, _, pss, uss, posix, gone = figures(driver, code)
    assert min(children, nested, of_popen) > 76
    assert count == 2
    assert 0 < uss <= pss <= posix + 1
    assert gone == 1


def test_a_profiler_meanwhile_sees_the_same(driver):
    """Each has a peak of its own."""
    code = """
import heapkeeper
with heapkeeper.Tracker() as outer:
    block = bytes(30_000_000)
    del block
    highest = memory_usage((work, (10_000_000,)), max_usage=True) - memory_usage((work, (0,)), max_usage=True)
print(outer.peak_bytes, highest)
"""
    peak, highest = figures(driver, code)
    assert 30_000_000 < peak < 30_100_000
    assert highest < 20
