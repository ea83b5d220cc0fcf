"""`@profile`: what each line says, to the byte where nothing but our own blocks is involved."""

import ctypes
import itertools
import sys

import pytest

MIB = 2**20

# Before 3.12 the interpreter makes a frame object and a dict of its variables for each frame that is traced.
SLACK_BYTES = 0 if sys.version_info >= (3, 12) else 2048


def increment_bytes(line):
    return round(line.increment_mib * MIB)


def near(figure, expected):
    return abs(figure - expected) <= SLACK_BYTES


BYTES = sys.getsizeof(b"")
START = "from heapkeeper.memory_profiler import profile\n"


def test_increments_are_exact(profiled):
    (table,) = profiled(
        START
        + """
@profile(precision=7)
def work():
    small = bytes(1000)
    large = bytes(10_000_000)
    del small
    large = None
    return large

work()
"""
    )
    assert near(increment_bytes(table["small = bytes(1000)"]), 1000 + BYTES)
    assert near(increment_bytes(table["large = bytes(10_000_000)"]), 10_000_000 + BYTES)
    assert near(increment_bytes(table["del small"]), -1000 - BYTES)
    assert near(increment_bytes(table["large = None"]), -10_000_000 - BYTES)
    assert near(increment_bytes(table["return large"]), 0)
    assert [table[text].occurrences for text in ("small = bytes(1000)", "return large")] == [1, 1]


def test_memory_is_the_size_at_the_start_and_what_grew(profiled):
    (table,) = profiled(
        START
        + """
@profile(precision=7)
def work():
    kept = bytes(10_000_000)
    more = bytes(20_000_000)
    return kept, more

work()
"""
    )
    first = table["@profile(precision=7)"]
    assert first.memory_mib > 1
    assert first.memory_mib == pytest.approx(first.increment_mib, abs=0.01)
    memory = first.memory_mib
    for text in ("kept = bytes(10_000_000)", "more = bytes(20_000_000)", "return kept, more"):
        memory += table[text].increment_mib
        assert table[text].memory_mib == pytest.approx(memory, abs=1e-3)


def test_comprehensions_issue_236(profiled):
    """The lines of a comprehension were compared with each other, and what the list took was lost."""
    (table,) = profiled(
        START
        + """
@profile(precision=7)
def work():
    ones = [1] * 1_000_000
    twos = [number + 1 for number in ones]
    return twos

work()
"""
    )
    ones = increment_bytes(table["ones = [1] * 1_000_000"])
    twos = table["twos = [number + 1 for number in ones]"]
    # The list itself may come from the free list, and the one that is repeated may go there.
    assert 8_000_000 <= ones <= 8_000_000 + 2 * sys.getsizeof([]) + SLACK_BYTES
    assert ones <= increment_bytes(twos) < 1.2 * ones
    assert twos.occurrences == 1


def test_memory_and_increment_agree_issue_253(profiled):
    (table,) = profiled(
        START
        + """
class Foo:
    pass

@profile(precision=7)
def allocate():
    print("Allocating foos")
    foos = [Foo() for _ in range(100_000)]
    print("Allocating bars")
    bars = [Foo() for _ in range(50_000)]
    return len(foos) + len(bars)

allocate()
"""
    )
    lines = [line for line in table.values() if line.memory_mib is not None]
    assert len(lines) == 6
    for before, line in itertools.pairwise(lines):
        assert line.memory_mib - before.memory_mib == pytest.approx(line.increment_mib, abs=1e-3)
    foos, bars = (
        table[f"{name} = [Foo() for _ in range({count})]"] for name, count in [("foos", "100_000"), ("bars", "50_000")]
    )
    assert foos.increment_mib == pytest.approx(2 * bars.increment_mib, rel=0.05)


def test_loops_issue_219(profiled):
    """A line in a loop compared its memory with the highest that the line before it ever had."""
    (table,) = profiled(
        START
        + """
@profile(precision=7)
def work():
    kept = []
    for _ in range(5):
        block = bytes(3_000_000)
        kept.append(block)
        del kept[:]
        block = None
    return kept

work()
"""
    )
    assert near(increment_bytes(table["block = bytes(3_000_000)"]), 5 * (3_000_000 + BYTES))
    assert near(increment_bytes(table["block = None"]), -5 * (3_000_000 + BYTES))
    assert abs(increment_bytes(table["del kept[:]"])) < 1000
    assert [table[text].occurrences for text in ("for _ in range(5):", "block = None", "return kept")] == [6, 5, 1]


def test_freed_and_filled_again(profiled):
    """Memory that was freed before and is filled again shows: the resident size does not tell."""
    (table,) = profiled(
        START
        + """
@profile(precision=7)
def work():
    rows = [bytes(1000) for _ in range(1000)]
    rows = rows[::50]
    again = [bytes(1000) for _ in range(900)]
    return rows, again

work()
"""
    )
    assert increment_bytes(table["again = [bytes(1000) for _ in range(900)]"]) >= 900 * (1000 + BYTES)
    assert increment_bytes(table["rows = rows[::50]"]) <= -980 * (1000 + BYTES)


def test_coroutines_issue_161(profiled):
    """Tasks take turns: each has the lines of its own, and nothing of what others did while it waited."""
    program = """
import asyncio

@profile(precision=7)
async def work(size):
    await asyncio.sleep(0)
    block = bytes(size)
    await asyncio.sleep(0.01)
    return block

async def main():
    await asyncio.gather(work(1_000_000), work(7_000_000))

asyncio.run(main())
"""
    both = profiled(START + program)
    assert len(both) == 2
    for table, size in zip(both, (1_000_000, 7_000_000), strict=True):
        assert abs(increment_bytes(table["block = bytes(size)"]) - size) < 2000 + SLACK_BYTES
        assert abs(increment_bytes(table["await asyncio.sleep(0.01)"])) < 20_000
        assert table["await asyncio.sleep(0.01)"].occurrences == 1


def test_generators(profiled):
    program = """
@profile(precision=7)
def numbers():
    for size in (1_000_000, 2_000_000):
        block = bytes(size)
        sent = yield size
    return sent

noise = []
generator = numbers()
next(generator)
noise.append(bytes(50_000_000))
generator.send("x")
try:
    generator.send("last")
except StopIteration as end:
    assert end.value == "last"
assert numbers.__name__ == "numbers"
"""
    (table,) = profiled(START + program)
    # While `block` is bound again, the block before is still there; it goes on the same line.
    assert near(increment_bytes(table["block = bytes(size)"]), 2_000_000 + BYTES)
    assert near(increment_bytes(table["sent = yield size"]), 0)
    assert table["sent = yield size"].occurrences == 2


def test_a_generator_that_is_closed_early_is_reported(profiled):
    program = """
@profile
def endless():
    try:
        while True:
            yield bytes(1_000_000)
    finally:
        kept.append(bytes(3_000_000))

kept = []
for block in endless():
    break
"""
    (table,) = profiled(START + program)
    assert table["kept.append(bytes(3_000_000))"].increment_mib == 2.9


def test_asynchronous_generators(profiled):
    program = """
import asyncio

@profile(precision=7)
async def rows():
    try:
        for size in (1_000_000, 2_000_000):
            block = bytes(size)
            await asyncio.sleep(0)
            answer = yield size
            assert answer is None or answer == "hello"
    except KeyError:
        yield "caught"

async def main():
    assert [size async for size in rows()] == [1_000_000, 2_000_000]
    generator = rows()
    assert await generator.asend(None) == 1_000_000
    assert await generator.asend("hello") == 2_000_000
    assert await generator.athrow(KeyError()) == "caught"
    await generator.aclose()

asyncio.run(main())
"""
    tables = profiled(START + program)
    assert len(tables) == 2
    for table in tables:
        assert near(increment_bytes(table["block = bytes(size)"]), 2_000_000 + BYTES)
        assert table["answer = yield size"].occurrences == 2


def test_methods(profiled):
    program = """
class Shop:
    @profile
    def method(self):
        return bytes(1_000_000)

    @profile
    @classmethod
    def of_class(cls):
        return cls, bytes(2_000_000)

    @staticmethod
    @profile
    def static(size):
        return bytes(size)

shop = Shop()
assert len(shop.method()) == 1_000_000
assert shop.of_class()[0] is Shop
assert len(Shop.static(3_000_000)) == 3_000_000
"""
    tables = profiled(START + program)
    lines = ["return bytes(1_000_000)", "return cls, bytes(2_000_000)", "return bytes(size)"]
    assert [table[line].increment_mib for table, line in zip(tables, lines, strict=True)] == [1.0, 1.9, 2.9]


def test_recursion_counts_each_byte_once(profiled):
    program = """
@profile(precision=7)
def grow(depth, kept):
    kept.append(bytes(1_000_000))
    if depth:
        grow(depth - 1, kept)
    return kept

grow(9, [])
"""
    (table,) = profiled(START + program)
    # Each level leaves a few hundred bytes of the profiler's own.
    assert abs(increment_bytes(table["kept.append(bytes(1_000_000))"]) - 10_000_000) < 1000 + 10 * SLACK_BYTES
    assert abs(increment_bytes(table["grow(depth - 1, kept)"])) < 5000 + 10 * SLACK_BYTES
    assert [table[text].occurrences for text in ("grow(depth - 1, kept)", "return kept")] == [9, 10]


def test_a_profiled_function_counts_in_the_line_that_calls_it(profiled):
    program = """
@profile
def inner():
    return bytes(5_000_000)

@profile
def outer():
    block = inner()
    return block

outer()
"""
    inner, outer = profiled(START + program)
    assert inner["return bytes(5_000_000)"].increment_mib == 4.8
    assert outer["block = inner()"].increment_mib == 4.8


def test_exceptions(profiled):
    program = """
@profile(precision=7)
def fall(depth, kept):
    kept.append(bytes(1_000_000))
    if depth == 0:
        raise KeyError
    try:
        fall(depth - 1, kept)
    except KeyError:
        kept.append(bytes(3_000_000))
    return kept

fall(1, [])
try:
    fall(0, [])
except KeyError:
    pass
"""
    first, second = profiled(START + program)
    assert abs(increment_bytes(first["kept.append(bytes(3_000_000))"]) - 3_000_000) < 1000 + SLACK_BYTES
    assert first["return kept"].occurrences == 1
    assert abs(increment_bytes(second["kept.append(bytes(1_000_000))"]) - 1_000_000) < 1000 + SLACK_BYTES


def test_threads_have_lines_of_their_own(profiled):
    program = """
import threading, time

@profile(precision=7)
def work(size, mine, other):
    begun.wait()
    mine.wait()
    block = bytes(size)
    kept.append(block)
    other.set()
    done.wait()  # No table is printed, which takes megabytes, while the other one still works.

@profile
def warmed_up():
    pass

warmed_up()  # What measuring and printing need for the first time, they have.
kept = []
begun, done, first, second, last = threading.Barrier(3), threading.Barrier(2), threading.Event(), threading.Event(), threading.Event()
threads = [threading.Thread(target=work, args=arguments) for arguments in [(1_000_000, first, second), (9_000_000, second, last)]]
for thread in threads:
    thread.start()
begun.wait()
# A thread that comes to its line later would be given what the other one allocates.
while not (first._cond._waiters and second._cond._waiters):
    time.sleep(0.01)
first.set()
for thread in threads:
    thread.join()
"""
    _, *ours = profiled(START + program)
    by_size = sorted(ours, key=lambda table: table["block = bytes(size)"].increment_mib)
    for table, size in zip(by_size, (1_000_000, 9_000_000), strict=True):
        assert abs(increment_bytes(table["block = bytes(size)"]) - size) < 20_000
        # What threads that are not profiled allocate meanwhile counts here, but not the other one's block.
        assert abs(increment_bytes(table["mine.wait()"])) < 100_000


def test_a_collection_of_cycles_shows_where_it_happens(profiled):
    program = """
import gc

@profile
def work():
    cycle = [bytes(5_000_000)]
    cycle.append(cycle)
    cycle = None
    gc.collect()

work()
assert gc.isenabled()
"""
    (table,) = profiled(START + program)
    assert table["cycle = None"].increment_mib == 0.0
    assert table["gc.collect()"].increment_mib < -4.7


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="this C library does not tell what malloc gave")
def test_what_c_libraries_take_from_malloc(profiled):
    """As numpy does for arrays."""
    program = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

@profile(precision=7)
def work():
    small = libc.malloc(10_000)
    large = libc.malloc(50_000_000)
    libc.free(small)
    libc.free(large)

work()
"""
    (table,) = profiled(START + program)
    assert 10_000 <= increment_bytes(table["small = libc.malloc(10_000)"]) < 12_000 + SLACK_BYTES
    assert 50_000_000 <= increment_bytes(table["large = libc.malloc(50_000_000)"]) < 50_010_000
    assert -12_000 - SLACK_BYTES < increment_bytes(table["libc.free(small)"]) <= -9_000
    assert increment_bytes(table["libc.free(large)"]) <= -49_990_000


def test_another_tracer_goes_on(profiled):
    """A debugger or a coverage tool that was there first."""
    program = """
import sys

def tracer(frame, event, arg):
    if frame.f_code.co_name == "work":
        seen.append(event)
    return tracer

@profile
def work():
    block = bytes(3_000_000)
    return len(block)

seen = []
sys.settrace(tracer)
work()
assert sys.gettrace() == tracer
sys.settrace(None)
assert seen.count("line") == 2 and seen[-1] == "return", seen
"""
    (table,) = profiled(START + program)
    assert table["block = bytes(3_000_000)"].increment_mib == 2.9


def test_line_profiler(profiled):
    program = """
import io
from heapkeeper.memory_profiler import LineProfiler, LogFile, show_results

def work():
    block = bytes(3_000_000)
    return block

profiler = LineProfiler()
assert len(profiler(work)()) == 3_000_000
((filename, lines),) = profiler.code_map.items()
lines = dict(lines)
increment, memory, occurrences = lines[work.__code__.co_firstlineno + 1]
assert 2.8 < increment < 2.9 < memory and occurrences == 1
assert profiler.enable_count == 0
assert list(profiler.code_map) == [work.__code__]

with profiler:
    work()
profiler.runctx("work()", globals(), {})
work()
assert dict(dict(profiler.code_map.items())[filename])[work.__code__.co_firstlineno][2] == 3
show_results(profiler, precision=3)
"""
    (table,) = profiled(program)
    assert table["block = bytes(3_000_000)"].increment_mib == 8.583


def test_log_file(driver):
    program = """
import logging, sys
from heapkeeper.memory_profiler import LogFile, profile
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)

@profile(stream=LogFile("memory", reportIncrementFlag=True))
def work():
    block = bytes(3_000_000)
    del block

work()
"""
    driver.write("program.py", program)
    outcome = driver.python("program.py")
    assert (outcome.status, outcome.stderr) == (0, "")
    rows = [line for line in outcome.stdout.splitlines() if line.strip()]
    assert rows[0].startswith("Filename: ") and rows[1].startswith("Line #")
    assert [row.split("   ")[-1].strip() for row in rows[2:]] == [
        '@profile(stream=LogFile("memory", reportIncrementFlag=True))',
        "block = bytes(3_000_000)",
    ]
