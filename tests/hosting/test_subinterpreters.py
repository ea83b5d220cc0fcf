"""Subinterpreters: with the shared GIL on every version, with a GIL and a heap of their own from 3.12 on; made and destroyed without growth."""

import sys

import pytest

# What an interpreter is given to do: many objects, many of them in cycles.
WORK = """
import sys
class Node:
    def __init__(self, number):
        self.number, self.me = number, self
nodes = [Node(number) for number in range(2000)]
names = {str(node.number): [node] * (node.number % 9) for node in nodes}
assert sum(map(len, names.values())) == sum(number % 9 for number in range(2000))
"""

# `create(own_gil)`, `run(interpreter, code)` and `destroy(interpreter)` on every version.
INTERPRETERS = f"""
    WORK = {WORK!r}
    import gc, os, sys, threading
    try:
        import _interpreters as low
    except ImportError:
        import _xxsubinterpreters as low

    def create(own_gil):
        if sys.version_info >= (3, 13):
            return low.create("isolated" if own_gil else "legacy")
        return low.create(isolated=own_gil)

    def run(interpreter, code):
        failure = low.run_string(interpreter, code)
        assert failure is None, failure

    destroy = low.destroy

"""

own_gil_only = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="an interpreter has a GIL of its own from CPython 3.12 on"
)
each_kind = pytest.mark.parametrize("own_gil", [False, pytest.param(True, marks=own_gil_only)])

GROWTH = (
    INTERPRETERS
    + """
    def resident_bytes():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def turn():
        interpreter = create(OWN_GIL)
        run(interpreter, WORK + "import json, re, collections, enum")
        destroy(interpreter)

    for _ in range(15):
        turn()
    gc.collect()
    before = resident_bytes()
    for _ in range(60):
        turn()
    gc.collect()
    print((resident_bytes() - before) // 60)
"""
)


@each_kind
def test_work_in_many_interpreters(run, own_gil):
    answer = run(
        INTERPRETERS
        + f"""
    interpreters = [create({own_gil}) for _ in range(12)]
    for interpreter in interpreters * 3:
        run(interpreter, WORK)
    for interpreter in interpreters:
        destroy(interpreter)
    print(heapkeeper.status()["allocator"]["name"])
    """
    )
    assert answer.stdout == "heapkeeper\n"


@each_kind
def test_interpreters_come_and_go_without_growth(run, own_gil):
    """CPython itself leaves blocks behind for each dead interpreter: plain python's own growth is the measure."""
    program = GROWTH.replace("OWN_GIL", str(own_gil))
    ours = int(run(program).stdout)
    plain = int(run(program, heapkeeper=None).stdout)
    assert ours <= max(plain, 0) * 1.1 + 64 * 1024, f"bytes an interpreter: {ours} on our heap, {plain} plain"


@own_gil_only
def test_own_heaps_are_counted(run):
    answer = run(
        INTERPRETERS
        + """
    def heaps():
        return heapkeeper.status()["heap"]["interpreters"]

    print(heaps())
    interpreters = [create(True) for _ in range(5)]
    for interpreter in interpreters:
        run(interpreter, WORK)
    print(heaps())
    for interpreter in interpreters:
        destroy(interpreter)
    print(heaps())
    """
    )
    assert answer.stdout.split() == ["1", "6", "1"]


@own_gil_only
def test_what_an_interpreter_leaves_behind_stays(run):
    """Extension modules keep the names of a function's arguments as the first interpreter to call it made them (3.12)."""
    answer = run(
        INTERPRETERS
        + """
    import zlib

    for _ in range(3):
        interpreter = create(True)
        run(interpreter, WORK + "import zlib; zlib.compress(b'some', level=1, wbits=15)")
        destroy(interpreter)
    kept = [str(number) * 20 for number in range(300_000)]
    gc.collect()
    print(len(zlib.compress(b"some", level=1, wbits=15)), zlib.compress.__name__)
    """
    )
    assert answer.stdout == "12 compress\n"


@own_gil_only
def test_own_gils_allocate_at_the_same_time(run):
    answer = run(
        INTERPRETERS
        + """
    done = []

    def work():
        for _ in range(6):
            interpreter = create(True)
            for _ in range(4):
                run(interpreter, WORK)
            destroy(interpreter)
        done.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    main = [[number] * 50 for number in range(100_000)]
    for thread in threads:
        thread.join()
    assert all(each == [number] * 50 for number, each in enumerate(main))
    print(len(done))
    """
    )
    assert answer.stdout == "4\n"


@each_kind
def test_interpreters_alive_at_exit(run, own_gil):
    """CPython ends those that nobody destroyed (with a warning from 3.12 on, and only then)."""
    run(
        INTERPRETERS
        + f"""
    kept = [create({own_gil}) for _ in range(3)]
    for interpreter in kept:
        run(interpreter, WORK)
    """,
        quiet=False,
    )


@each_kind
def test_threads_inside_an_interpreter(run, own_gil):
    code = """
import threading
results = []
def work(seed):
    results.append(sum(len([seed] * number) for number in range(500)))
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert results == [sum(range(500))] * 4
"""
    run(
        INTERPRETERS
        + f"""
    for _ in range(10):
        interpreter = create({own_gil})
        run(interpreter, {code!r})
        destroy(interpreter)
    """
    )


@each_kind
def test_install_is_asked_for_inside_an_interpreter(run, own_gil):
    """heapkeeper may be imported there or refuse to; neither may end the process or move its allocator."""
    run(
        INTERPRETERS
        + f"""
    interpreter = create({own_gil})
    low.run_string(interpreter, "try:\\n    import heapkeeper; heapkeeper.install()\\nexcept ImportError: pass")
    run(interpreter, WORK)
    destroy(interpreter)
    kept = [str(number) * 9 for number in range(10_000)]
    assert heapkeeper.status()["allocator"]["name"] == "heapkeeper"
    """
    )
