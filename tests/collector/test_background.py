"""`--gc background`: the search runs in a child that only looks, while the program goes on."""

import json

import pytest

# A heap of pairs in cycles, all of it old, and what it takes to have a full collection begin by itself.
HEAP = """
import gc, heapkeeper, os, time, weakref

class Node:
    __slots__ = ("name", "other", "__weakref__")

    def __init__(self, name, other=None):
        self.name, self.other = name, other

    def __del__(self):
        gone.add(self.name)

def pair(name):
    node = Node(name)
    node.other = Node(-name, node)
    return node

def background():
    return heapkeeper.gc.stats()["background"]

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, background()
        gc.collect(0)  # A child that is done is noticed at the next collection; one that begins by itself takes what it found.
        if background()["finished"] > finished:
            more = [[] for _ in range(5_000)]
        time.sleep(0.001)

def grow_until(condition):
    while not condition():
        grown.extend([] for _ in range(1_000))
        assert len(grown) < 1_000_000

def start():
    "Have a child begin to search the heap as it is."
    global finished
    before, finished = background()["started"], background()["finished"]
    grow_until(lambda: background()["started"] > before)

gone, grown, full = set(), [], []
gc.callbacks.append(lambda phase, info: full.append(info) if phase == "stop" and info["generation"] == 2 else None)
gc.disable()
kept = [pair(name) for name in range(1, 100_001)]
gc.collect()
gc.enable()
full.clear()
"""

# What the kernel knows of.
CHILDREN = """
def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read().split()
"""

CHECK = """
assert all(node.name == name and node.other.name == -name and node.other.other is node for name, node in enumerate(kept, 1) if node)
print("whole")
"""


@pytest.fixture
def whole(run):
    """Runs a program over the heap; what it says before the heap was found whole."""

    def under(program, **options):
        *told, last = run.under("background", HEAP + program + CHECK, **options).stdout.splitlines()
        assert last == "whole"
        return told

    return under


def test_what_dies_is_found_and_collected(whole):
    """By collections that start by themselves; each finalizer runs once, and the figures say who did it."""
    told = whole("""
for i in range(0, 100_000, 4):
    kept[i] = None
start()
assert not gone and full[-1]["collected"] == 0
until(lambda: len(gone) == 50_000)
told = background()
assert told["started"] >= told["finished"] >= 1 and told["search_s"] > 0 and told["start_s"] > 0, told
assert sum(info["collected"] for info in full) == 50_000, full
assert gone == {sign * name for name in range(1, 100_001, 4) for sign in (1, -1)}
stats = heapkeeper.gc.stats()
assert stats["mode"] == "background" and stats["generations"][2]["examined"] >= 200_000
print([(each["type_name"], each["objects"]) for each in stats["cycle_types"]][0])
""")
    assert told == ["('Node', 50000)"]


def test_what_comes_back_to_life_stays(whole):
    """A weak reference brings an object back after the child has begun; or while its finder's answer waits."""
    whole("""
names = range(1, 100_001, 10)
refs = {name: weakref.ref(kept[name - 1]) for name in names}
for name in names:
    kept[name - 1] = None
start()
revived = {name: ref() for name, ref in refs.items() if name % 20 == 1}
until(lambda: len(gone) == 10_000)
for name, node in revived.items():
    assert node.name == name and node.other.other is node and refs[name]() is node
assert not gone & set(revived)
""")


def test_memory_of_what_died_meanwhile_may_hold_anything(whole):
    """Found dead by the child, brought back by a weak reference, taken apart, and its memory used for other objects."""
    whole("""
names = range(1, 100_001, 2)
refs = [weakref.ref(kept[name - 1]) for name in names]
for name in names:
    kept[name - 1] = None
start()
for ref in refs:
    node = ref()
    node.other.other = None
    del node
assert len(gone) == 100_000
size = Node.__basicsize__ + 16
others = [bytes([i % 256]) * (size - 33) for i in range(30_000)]
others += [(i,) for i in range(30_000)] + [[i] for i in range(30_000)] + [{i: i} for i in range(10_000)]
before = len(full)
until(lambda: background()["finished"] == 1)
grow_until(lambda: len(full) > before)
assert len(gone) == 100_000
for i, other in enumerate(others[:30_000]):
    assert other == bytes([i % 256]) * (size - 33)
for i in range(30_000):
    assert others[30_000 + i] == (i,) and others[60_000 + i] == [i]
assert all(others[90_000 + i] == {i: i} for i in range(10_000))
""")


def test_a_list_of_somebody_elses_is_no_list_of_objects(whole):
    """CPython's time zones are kept in a list of C structures, whose links lie where an object's would."""
    whole("""
import zoneinfo
zones = sorted(zoneinfo.available_timezones())[:60] or ["UTC"]
class Small:
    __slots__ = ()
class Holder:
    def __init__(self):
        self.me, self.held = self, [Small() for _ in range(500)]
holders = [Holder() for _ in range(100)]
gc.collect()
refs = [weakref.ref(holder) for holder in holders]
kept[0] = None
del holders
start()
for ref in refs:
    holder = ref()
    holder.me = holder.held = None
    del holder
for _ in range(30):
    zoneinfo.ZoneInfo.clear_cache()
    for zone in zones:
        try:
            zoneinfo.ZoneInfo(zone)
        except zoneinfo.ZoneInfoNotFoundError:
            pass  # No time zones on this machine.
before = len(full)
until(lambda: background()["finished"] == 1)
grow_until(lambda: len(full) > before)
assert gone == {1, -1}
""")


def test_collections_that_begin_late(whole):
    """3.12 and later collect some time after the threshold was exceeded, when temporary objects may be gone again."""
    whole("""
numbers = list(range(10))
def grow():
    for _ in range(6):
        sum(numbers)
    grown.append([])
while len(full) < 3:
    grow()
assert background()["started"] >= 1, background()
""")


def test_garbage_older_than_our_heap(run):
    """What lies elsewhere is left to a collection of the whole, which comes next."""
    told = run(
        """
import gc
class Node:
    def __init__(self):
        self.me = self
    def __del__(self):
        gone.append(self)
gone = []
gc.disable()
old = [Node() for _ in range(1000)]
import heapkeeper
assert heapkeeper.install(gc="background", profile="off")
kept = [[[]] for _ in range(100_000)]
gc.collect()
gc.enable()
old, grown = None, []
while not gone:
    grown.extend([] for _ in range(1_000))
    assert len(grown) < 1_000_000
print(len(gone), heapkeeper.gc.stats()["background"]["started"] > 0)
""",
        heapkeeper=None,
    )
    assert told.stdout == "1000 True\n"


def test_a_threshold_that_is_raised_meanwhile(whole):
    whole("""
kept[0] = None
start()
before = len(full)
gc.set_threshold(gc.get_threshold()[0], 10, 1_000_000)
until(lambda: background()["finished"] == 1)
more = [[[]] for _ in range(100_000)]
assert len(full) == before and not gone
gc.set_threshold(gc.get_threshold()[0], 10, 10)
grow_until(lambda: len(full) > before)
assert len(gone) == 2
""")


def test_another_collector_takes_over(whole):
    whole("""
kept[0] = None
start()
heapkeeper.install(gc="cpython")
assert gc.collect() == 2 and len(gone) == 2
heapkeeper.install(gc="background")
kept[1] = None
start()
until(lambda: len(gone) == 4)
""")


def test_a_program_that_becomes_another_one(run):
    """It has no children to wait for, of whatever kind."""
    told = run.under(
        "background",
        HEAP
        + """
import sys
kept[0] = None
start()
look = "import os; print(open(f'/proc/self/task/{os.getpid()}/children').read() or 'none')"
os.execv(sys.executable, [sys.executable, "-I", "-c", look])
""",
    )
    assert told.stdout == "none\n"


def test_a_collection_that_is_asked_for_is_whole(whole):
    """While a child searches, and while what it found waits."""
    whole("""
kept[0] = None
start()
assert gc.collect() == 2 and gone == {1, -1}
kept[1] = None
start()
threshold = gc.get_threshold()
until(lambda: background()["finished"] == 1)
gc.disable()
kept[2] = None
assert gc.collect() >= 2 and gone == {1, -1, 2, -2, 3, -3}
gc.enable()
assert gc.collect() == 0 and gc.get_threshold() == threshold
""")


def test_tuned_disabled_and_frozen(whole):
    """No collection starts where the program has switched them off, and frozen objects stay as they are."""
    whole("""
kept[0] = None
start()
gc.disable()
time.sleep(0.5)
before = len(full)
more = [[] for _ in range(100_000)]
assert len(full) == before and not gone
gc.enable()
until(lambda: len(gone) == 2)
kept[1] = more = None
start()
gc.freeze()
frozen = gc.get_freeze_count()
more = [[[]] for _ in range(100_000)]
time.sleep(0.5)
more = [[[]] for _ in range(100_000)]
assert gc.get_freeze_count() == frozen and len(gone) == 2
gc.unfreeze()
gc.collect()
assert len(gone) == 4
""")


def test_the_child_is_nobodys_business(whole):
    """No SIGCHLD, nothing to wait for, no open files, and signals are the program's."""
    whole(
        CHILDREN
        + """
import signal
os.setsid()
noticed = []
signal.signal(signal.SIGCHLD, lambda *_: noticed.append("SIGCHLD"))
signal.signal(signal.SIGINT, lambda *_: noticed.append("SIGINT"))
kept[0] = None
reading, writing = os.pipe()
start()
os.close(writing)
began = time.monotonic()
assert os.read(reading, 1) == b"" and time.monotonic() - began < 5
try:
    raise SystemExit(f"waited for {os.waitpid(-1, os.WNOHANG)}")
except ChildProcessError:
    pass
os.killpg(0, signal.SIGINT)
until(lambda: len(gone) == 2)
assert noticed == ["SIGINT"], noticed
until(lambda: not children())
""",
    )


def test_a_child_that_does_not_come_back(whole):
    """The next collection that is due is searched at once."""
    whole(
        CHILDREN
        + """
kept[0] = None
start()
for child in children():
    os.kill(int(child), 9)
grow_until(lambda: len(gone) == 2 or background()["started"] > 1)
assert len(gone) == 2, background()
"""
    )


def test_a_system_that_allows_no_children(whole):
    """A sandbox that refuses `clone`: searches are done at once, from then on."""
    told = whole("""
import ctypes, platform, struct
number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
# Load the system call's number; if it is clone, the answer is EPERM; everything else is allowed.
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(4, ctypes.addressof(program))), 0, 0) == 0
kept[0] = None
grow_until(lambda: len(gone) == 2)
kept[1] = None
grow_until(lambda: len(gone) == 4)
print(background()["finished"], background()["started"])
""")
    assert told == ["0 1"]


def test_a_fork_while_the_child_searches(whole):
    """The program's own child collects for itself; the parent's search goes on."""
    told = whole("""
kept[0] = None
start()
if (pid := os.fork()) == 0:
    assert gc.collect() == 2 and gone == {1, -1}
    kept[1] = None
    start()
    until(lambda: -2 in gone)
    print("child", flush=True)
    os._exit(0)
assert os.waitpid(pid, 0) == (pid, 0)
until(lambda: len(gone) == 2)
""")
    assert told == ["child"]


def test_the_end_while_the_child_searches(run):
    told = run.under("background", HEAP + 'kept[0] = None\nstart()\nprint("end")\n')
    assert told.stdout == "end\n" and told.stderr == ""


def test_small_heaps_are_searched_at_once(run):
    told = run.under(
        "background",
        """
import gc, heapkeeper, json
kept = []
for _ in range(20_000):
    kept.append([[]])
before = heapkeeper.gc.stats()["generations"][2]["collections"]
gc.set_threshold(100, 2, 2)
kept.extend([[]] for _ in range(20_000))
stats = heapkeeper.gc.stats()
print(json.dumps([stats["background"], stats["generations"][2]["collections"] - before]))
""",
    )
    background, collections = json.loads(told.stdout)
    assert background == {"started": 0, "finished": 0, "start_s": 0.0, "search_s": 0.0} and collections > 0


def test_several_interpreters_are_searched_at_once(run):
    """Objects of two interpreters may share a heap."""
    pytest.importorskip("_xxsubinterpreters")
    told = run.under(
        "background",
        HEAP
        + """
import _xxsubinterpreters
other = _xxsubinterpreters.create()
kept[0] = None
grow_until(lambda: len(gone) == 2)
print(background()["started"])
_xxsubinterpreters.destroy(other)
""",
    )
    assert told.stdout == "0\n"
