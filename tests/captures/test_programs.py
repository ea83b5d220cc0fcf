"""Captures of programs that do what programs do: threads, processes, coroutines, deep stacks, made code, and every way to end."""

import sys

import pytest
import recorded

# CPython 3.12 and later warn of forks in processes with threads, and count ours: see test_a_fork_is_not_warned_about.
QUIET = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}


def only(outcome, captures):
    """The one capture of a program that ended well."""
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    [capture] = captures
    return capture


def test_threads_have_their_own_sites_and_names(captured):
    capture = only(
        *captured("""
import gc, threading
kept = []
# The number of a thread that has ended may be given to the next.
together = threading.Barrier(3)

def work(number):
    kept.append([bytearray(1000 * number) for _ in range(100)])
    gc.collect(0)  # A collection learns the names of threads.
    if number < 4:
        together.wait()

threads = [threading.Thread(target=work, args=(number,), name=f"worker-{number}") for number in (1, 2, 3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
work(4)
""")
    )
    for number in (1, 2, 3):
        live = capture.sum("peak_bytes", "work", 8, thread=f"worker-{number}")
        assert 100_000 * number < live < 100_000 * number + 20_000, (number, live)
    assert 400_000 < capture.sum("peak_bytes", "work", 8, thread="MainThread") < 420_000


def test_forks_count_for_themselves(captured):
    outcome, captures = captured(
        """
import os
def before():
    return [bytearray(1000) for _ in range(500)]

def in_child():
    return [bytearray(1000) for _ in range(2000)]

def in_parent():
    return [bytearray(1000) for _ in range(300)]

kept = before()
pid = os.fork()
if pid == 0:
    kept = in_child()
    raise SystemExit(0)
os.waitpid(pid, 0)
more = in_parent()
print(pid)
""",
        env=QUIET,
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    parent, child = captures
    assert child.pid == int(outcome.stdout) and int(child.header["parent_pid"]) == parent.pid
    assert parent.ended and child.ended
    assert parent.sum("total_bytes", "in_child") == 0 and child.sum("total_bytes", "in_parent") == 0
    assert 2_000_000 < child.sum("peak_bytes", "in_child") < 2_200_000
    assert 300_000 < parent.sum("peak_bytes", "in_parent") < 340_000
    # The child has inherited it, and frees it without its parent's losing it.
    assert child.sum("total_bytes", "before") == parent.sum("total_bytes", "before")
    assert 500_000 < parent.sum("peak_bytes", "before") < 550_000


def test_forks_with_threads_running(captured):
    outcome, captures = captured(
        """
import os, threading
stop = threading.Event()

def work():
    while not stop.is_set():
        kept = [bytearray(number) for number in range(300)]

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        kept = [bytearray(10_000) for _ in range(100)]
        # Threads did not come along, and must not be waited for.
        __import__("heapkeeper")._native.capture_stop(True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
""",
        env=QUIET,
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    assert len(captures) == 9 and all(capture.ended for capture in captures)


@pytest.mark.xfail(
    sys.version_info >= (3, 12), reason="CPython counts the thread that writes the capture", strict=False
)
def test_a_fork_is_not_warned_about(captured):
    """A program without threads may fork, with a capture as without."""
    outcome, captures = captured("""
import os, warnings
warnings.simplefilter("always")
pid = os.fork()
if pid == 0:
    raise SystemExit(0)
assert os.waitpid(pid, 0)[1] == 0
""")
    assert (outcome.status, outcome.stderr, len(captures)) == (0, "", 2)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_write_a_capture_each(captured, driver, method):
    outcome, captures = captured(
        f"""
import multiprocessing, os, time

def work(number):
    kept = [bytearray(10_000) for _ in range(100)]
    time.sleep(0.05)
    return os.getpid()

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with context.Pool(3) as pool:
        pids = set(pool.map(work, range(12), chunksize=1))
        pool.close()
        pool.join()
    print(*pids)
""",
        env=QUIET,
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    pids = {int(pid) for pid in outcome.stdout.split()}
    workers = [capture for capture in captures if capture.sum("total_bytes", "work")]
    assert {capture.pid for capture in workers} == pids
    assert all(capture.ended for capture in workers)
    assert sum(capture.sum("total_blocks", "work", 5) for capture in workers) >= 2400
    named = {recorded.pid_in(path) for path in driver.folder.glob("run.*.hk")}
    assert named == {capture.pid for capture in captures[1:]}


def test_another_python_comes_along(captured):
    """By subprocess, and by exec: there the pid is the same, and the name is taken."""
    outcome, captures = captured("""
import os, subprocess, sys
if len(sys.argv) == 1:
    subprocess.run([sys.executable, "-c", "kept = bytearray(300_000)"], check=True)
    os.execv(sys.executable, [sys.executable, __file__, "again"])
def again():
    return bytearray(500_000)
kept = again()
""")
    assert (outcome.status, outcome.stderr) == (0, "")
    first, *others = captures
    assert len(captures) == 3
    assert not first.ended
    [after] = [capture for capture in others if recorded.command(capture)[-1] == "again"]
    assert after.pid == first.pid and after.ended and after.sum("peak_bytes", "again") > 500_000
    [child] = [capture for capture in others if capture is not after]
    assert int(child.header["parent_pid"]) == first.pid and child.sum("peak_bytes", "<module>") > 300_000


def test_asyncio_service(captured):
    capture = only(
        *captured("""
import asyncio
cache = {}

async def remember(key):
    await asyncio.sleep(0)
    cache[key] = bytearray(5000)

async def handle(reader, writer):
    line = await reader.readline()
    await remember(line)
    writer.write(b"ok")
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for number in range(100):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"%d\\n" % number)
        assert await reader.read() == b"ok"
        writer.close()
    server.close()

asyncio.run(main())
""")
    )
    assert 500_000 < capture.sum("total_bytes", "remember", 7) < 530_000
    holders = [site for site in capture.sites if site.has("remember", 7) and site.total_bytes > 100_000]
    assert all(site.has("handle", 11) for site in holders) and holders


def test_generators_count_where_they_run(captured):
    capture = only(
        *captured("""
def numbers():
    for number in range(100):
        yield bytearray(1000)

def delegate():
    yield from numbers()

def first():
    return [next(source) for _ in range(50)]

def second():
    return list(source)

source = delegate()
kept = first(), second()
""")
    )
    assert 50_000 < capture.sum("peak_bytes", "first") < 60_000
    assert 50_000 < capture.sum("peak_bytes", "second") < 60_000
    assert 100_000 < capture.sum("peak_bytes", "numbers", 4) <= capture.sum("peak_bytes", "delegate", 7)


def test_recursion_ten_thousand_deep(captured):
    capture = only(
        *captured("""
import sys, threading
sys.setrecursionlimit(50_000)
threading.stack_size(512 * 2**20)

def recurse(levels):
    if levels == 0:
        return bytearray(1_000_000)
    kept = bytearray(100)
    return recurse(levels - 1)

def work():
    global kept
    kept = recurse(10_000)

thread = threading.Thread(target=work)
thread.start()
thread.join()
""")
    )
    assert capture.sum("peak_bytes", "recurse", 8) >= 1_000_000
    deep = [site for site in capture.sites if site.has("recurse", 8)]
    assert all(site.truncated or any(name == "<recursion>" for name, *_ in site.frames) for site in deep)
    # A site for each level would be ten thousand.
    assert sum(site.has("recurse") for site in capture.sites) < 1000


def test_branching_recursion_is_folded(captured):
    capture = only(
        *captured("""
def left(levels):
    return [bytearray(100), walk(levels - 1)]

def right(levels):
    return [walk(levels - 1), bytearray(100)]

def walk(levels):
    if levels:
        return left(levels), right(levels)

kept = walk(12)
""")
    )
    # Lists, tuples and the bytes of the arrays.
    assert capture.sum("total_blocks", "walk") >= 5 * 2**12
    assert capture.sum("peak_bytes", "walk") > 2**13 * 100
    assert sum(site.has("walk") for site in capture.sites) < 500


def test_made_code_has_its_names(captured):
    capture = only(
        *captured(
            """
from collections import namedtuple
source = "def made():\\n    pass\\n    return bytearray(100_000)\\n"
space = {}
exec(compile(source, "made.py", "exec"), space)
Point = namedtuple("Point", "x y")

def evaluate():
    return eval("bytearray(200_000)")

def points():
    return [Point(number, 10**9 + number) for number in range(1000)]

kept = space["made"](), evaluate(), points()
for number in range(3000):
    exec(f"def other(): return bytearray({number})", space)
    space["other"]()
"""
        )
    )
    assert any(site.frames[:1] == [("made", "made.py", 3)] and site.peak_bytes > 100_000 for site in capture.sites)
    [evaluated] = [site for site in capture.sites if site.has("evaluate", 9) and site.peak_bytes > 200_000]
    assert evaluated.frames[0] == ("<module>", "<string>", 1)
    assert capture.sum("peak_bytes", "points", 12) > 1000 * 32
    # The same text over and over is not kept over and over; texts that differ are told apart, until the tables are full.
    assert capture.sum("total_bytes", "other") >= sum(range(3000))


def test_frames_of_c_functions_are_their_callers(captured):
    capture = only(
        *captured("""
def key(number):
    return b"k" * (1000 + number)

def order():
    return sorted(range(500), key=key)

def mapped():
    return list(map(key, range(500)))

kept = order(), mapped()
""")
    )
    assert capture.sum("total_bytes", "order", 6) > 500 * 1000
    for site in capture.sites:
        if site.has("key") and site.total_blocks >= 500:
            assert [name for name, *_ in site.frames] in (["key", "order", "<module>"], ["key", "mapped", "<module>"])


ENDINGS = {
    "end": ("", 0, "", True),
    "sys.exit": ("sys.exit(3)", 3, "", True),
    "os._exit": ("os._exit(4)", 4, "", False),
    "exception": ("raise ValueError('unhandled')", 1, "ValueError: unhandled", True),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", -2, "KeyboardInterrupt", True),
    "SystemExit with words": ("sys.exit('words')", 1, "words", True),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_way_to_end(captured, ending):
    code, status, said, orderly = ENDINGS[ending]
    outcome, [capture] = captured(f"""
import atexit, os, sys, threading, time

def held():
    return [bytearray(1000) for _ in range(1000)]

def at_exit():
    global more
    more = [bytearray(2000) for _ in range(1000)]

def daemon():
    while True:
        kept = [bytearray(number) for number in range(100)]

atexit.register(at_exit)
threading.Thread(target=daemon, daemon=True).start()
kept = held()
time.sleep(0.05)
{code}
""")
    assert outcome.status == status and said in outcome.stderr and "heapkeeper" not in outcome.stderr
    assert capture.ended == orderly
    if orderly:
        assert capture.sum("live_bytes", "held") > 1_000_000
        assert capture.sum("live_bytes", "at_exit") > 2_000_000


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no way to ask for a GIL of its own before CPython 3.12")
def test_interpreters_with_their_own_gil(captured):
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    create = "create('isolated')" if sys.version_info >= (3, 13) else "create(isolated=True)"
    check_interpreters(captured, name, create, own=True)


def test_interpreters_that_share_the_gil(captured):
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    create = "create('legacy')" if sys.version_info >= (3, 13) else "create(isolated=False)"
    check_interpreters(captured, name, create, own=False)


def check_interpreters(captured, name, create, own):
    code = "\\n".join(["def inside():", "    return [bytearray(1000) for _ in range(1000)]", "kept = inside()"])
    run = "run_string"
    capture = only(
        *captured(f"""
import {name} as interpreters
number = interpreters.{create}
interpreters.{run}(number, "{code}")
def main():
    return bytearray(100_000)
kept = main()
import time
__import__("heapkeeper").mark("inside")
interpreters.destroy(number)
""")
    )
    assert capture.sum("peak_bytes", "main") > 100_000
    if own:
        assert any(
            site.frames and site.frames[-1][0].startswith("<interpreter") and site.peak_bytes > 1_000_000
            for site in capture.sites
        )
    else:
        assert capture.sum("peak_bytes", "inside", 2) > 1_000_000
    # What an interpreter held is gone with it.
    assert capture.ticks[-1]["live_bytes"] < capture.ticks[-1]["peak_bytes"] - 900_000
