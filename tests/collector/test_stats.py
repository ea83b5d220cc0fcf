"""`heapkeeper.gc`: what it tells of the collector, and its pause."""

import gc
import json
import threading

import heapkeeper
import pytest

FIELDS = {
    "mode",
    "reason",
    "generations",
    "pauses",
    "phases",
    "scratch_peak_bytes",
    "cycle_types",
    "frozen",
    "enabled",
    "counts",
    "thresholds",
    "long_lived",
    "background",
    "verified",
}
GENERATION_FIELDS = {"collections", "examined", "collected", "uncollectable", "pauses"}
PHASE_FIELDS = {"walk_s", "roots_s", "count_s", "mark_s", "order_s", "untrack_s", "dispose_s"}
BACKGROUND_FIELDS = {"started", "finished", "start_s", "search_s"}
PAUSE_FIELDS = {"count", "total_s", "longest_s", "p50_s", "p99_s", "buckets"}


# Without our heap, and on it.
each_process = pytest.mark.parametrize("variable", ["off", "gc=cpython"])


def inside(driver, variable, code, complains=False):
    """What a program prints in JSON that has heapkeeper.gc as `ours` and the standard module as `gc`."""
    prefix = "import gc, json\nimport heapkeeper.gc as ours\n"
    outcome = driver.python("-c", prefix + code, env={"HEAPKEEPER": variable})
    assert (outcome.status, outcome.stderr != "") == (0, complains)
    return json.loads(outcome.stdout)


@pytest.mark.parametrize("variable", ["off", "1", "gc=heapkeeper", "gc=background", "gc=verify"])
def test_stats_have_all_fields(driver, variable):
    stats = inside(driver, variable, "print(json.dumps(ours.stats()))")
    assert stats.keys() == FIELDS
    assert [generation.keys() for generation in stats["generations"]] == [GENERATION_FIELDS] * 3
    assert stats["phases"].keys() == PHASE_FIELDS
    if variable == "gc=background":
        assert stats["background"].keys() == BACKGROUND_FIELDS
    for generation in stats["generations"]:
        assert generation["pauses"] is None or generation["pauses"].keys() == PAUSE_FIELDS


def test_every_field_is_documented():
    words = set(heapkeeper.gc.stats.__doc__.replace(",", " ").replace(":", " ").replace(";", " ").split())
    documented = {word.rstrip(".") for word in words}
    assert FIELDS | GENERATION_FIELDS | PHASE_FIELDS | PAUSE_FIELDS | BACKGROUND_FIELDS <= documented
    assert {"type_name", "objects", "is_estimate", "site", "differences"} <= documented


@each_process
def test_cpythons_own_figures(driver, variable):
    stats, generations, state = inside(
        driver,
        variable,
        """
class Node: pass
gc.collect()
for _ in range(10):
    node = Node(); node.me = node
del node
gc.collect(); gc.collect(0); gc.freeze(); gc.set_threshold(500, 7, -1); gc.disable()
stats = ours.stats()
print(json.dumps([stats, gc.get_stats(), [gc.get_freeze_count(), gc.isenabled(), list(gc.get_threshold())]]))
""",
    )
    assert (stats["mode"], stats["reason"], stats["verified"]) == ("cpython", None, None)
    for ours, theirs in zip(stats["generations"], generations, strict=True):
        assert {name: ours[name] for name in theirs} == theirs
        assert (ours["examined"], ours["pauses"]) == (None, None)
    assert stats["generations"][2]["collected"] >= 10
    assert [stats["frozen"], stats["enabled"], stats["thresholds"]] == state
    assert state[1:] == [False, [500, 7, -1]] and state[0] > 0
    assert len(stats["counts"]) == 3 and not stats["cycle_types"]


# Ten young collections, then two full ones that free 3000 and 2000 objects.
COLLECT = """
class Node: pass

def make(number):
    for _ in range(number):
        node = Node(); node.me = node

gc.collect()
gc.disable()
before = ours.stats()
for _ in range(10):
    gc.collect(0)
make(3000)
gc.collect()
make(2000)
gc.collect()
print(json.dumps([before, ours.stats(), gc.get_stats()]))
"""


@pytest.mark.parametrize("mode", ["heapkeeper", "verify"])
def test_our_figures(driver, mode):
    before, after, generations = inside(driver, f"gc={mode}", COLLECT)
    assert (after["mode"], after["reason"]) == (mode, None)
    for index, (old, new, theirs) in enumerate(
        zip(before["generations"], after["generations"], generations, strict=True)
    ):
        assert {name: new[name] for name in theirs} == theirs
        pauses = new["pauses"]
        assert pauses["count"] - old["pauses"]["count"] == (10, 0, 2)[index] == new["collections"] - old["collections"]
        assert pauses["count"] == sum(pauses["buckets"]) <= new["collections"]
        assert pauses["p50_s"] <= pauses["p99_s"] <= pauses["longest_s"] <= pauses["total_s"]
    together = after["pauses"]
    of = [generation["pauses"] for generation in after["generations"]]
    assert together["count"] == sum(pauses["count"] for pauses in of)
    assert together["longest_s"] == max(pauses["longest_s"] for pauses in of)
    assert together["p50_s"] <= together["p99_s"] <= together["longest_s"]
    full = after["generations"][2]
    assert full["collected"] - before["generations"][2]["collected"] >= 5000
    assert sum(after["phases"].values()) <= full["pauses"]["total_s"] + 1e-6
    if mode == "heapkeeper":
        assert full["examined"] - before["generations"][2]["examined"] >= 5000
        found = {each["type_name"]: each["objects"] for each in after["cycle_types"]}
        assert found["Node"] == 5000
        assert not any(each["is_estimate"] for each in after["cycle_types"])
        objects = [each["objects"] for each in after["cycle_types"]]
        assert objects == sorted(objects, reverse=True)
        assert after["scratch_peak_bytes"] > 0 and after["phases"]["dispose_s"] > 0
        assert after["verified"] is None
    else:
        verified = after["verified"]["collections"] - before["verified"]["collections"]
        assert (verified, after["verified"]["differences"]) == (2, 0)


GREAT_MANY = """
class Left: __slots__ = ("other", "__weakref__")
class Right: __slots__ = ("other", "__weakref__")
gc.disable()
gc.collect()
for _ in range(150_000):
    left, right = Left(), Right()
    left.other, right.other = right, left
    right = Right()
    right.other = right
del left, right
gc.collect()
print(json.dumps(ours.stats()["cycle_types"]))
"""


def test_types_of_a_great_many(driver):
    """Estimated: three objects in turn, of two types."""
    types = inside(driver, "gc=heapkeeper", GREAT_MANY)
    assert all(each["is_estimate"] for each in types if each["type_name"] in ("Left", "Right"))
    found = {each["type_name"]: each["objects"] for each in types}
    assert sum(found[name] for name in ("Left", "Right")) == pytest.approx(450_000, abs=1000)
    assert found["Left"] == pytest.approx(150_000, rel=0.05)
    assert found["Right"] == pytest.approx(300_000, rel=0.05)


@pytest.mark.parametrize("mode", ["cpython", "heapkeeper", "verify"])
def test_mode(driver, mode):
    look = "print(json.dumps(ours.mode()))"
    assert inside(driver, f"gc={mode}", look) == mode
    without_heap = inside(driver, f"allocator=cpython,gc={mode}", look, complains=mode != "cpython")
    assert without_heap == "cpython"


def test_stats_without_the_native_part(driver):
    code = "import sys; sys.modules['heapkeeper._native'] = None; print(json.dumps([ours.mode(), ours.stats()]))"
    mode, stats = inside(driver, "off", code)
    assert mode == "cpython" and stats.keys() == FIELDS


def test_stats_are_those_of_the_status(driver):
    ours, status = inside(
        driver, "1", "import heapkeeper\nprint(json.dumps([ours.stats(), heapkeeper.status()['collector']]))"
    )
    assert status is None or status.keys() == ours.keys()


def test_the_module_comes_when_it_is_asked_for(driver):
    code = """
import sys, heapkeeper
before = "heapkeeper.gc" in sys.modules
import gc
from heapkeeper import *
print(before, gc is sys.modules["gc"], heapkeeper.gc.mode(), heapkeeper.gc is sys.modules["heapkeeper.gc"])
from heapkeeper import gc
print(gc is heapkeeper.gc)
"""
    outcome = driver.python("-c", code)
    assert (outcome.stdout, outcome.stderr) == ("False True cpython True\nTrue\n", "")


@pytest.fixture(params=[True, False], ids=["enabled", "disabled"])
def enabled(request):
    """What the program has set; it is restored after the test."""
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_a_pause_restores_what_it_found(enabled):
    with heapkeeper.gc.paused():
        assert not gc.isenabled()
        with heapkeeper.gc.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() is enabled


def test_a_pause_restores_what_the_program_changed_meanwhile(enabled):
    with heapkeeper.gc.paused():
        gc.enable()
        with heapkeeper.gc.paused():
            assert not gc.isenabled()
        assert gc.isenabled()
    assert gc.isenabled() is enabled
    with heapkeeper.gc.paused():
        gc.disable()
    assert gc.isenabled() is enabled


def test_exceptions_pass(enabled):
    with pytest.raises(ZeroDivisionError):
        with heapkeeper.gc.paused():
            with heapkeeper.gc.paused():
                raise ZeroDivisionError
    assert gc.isenabled() is enabled


def test_a_function_may_be_paused(enabled):
    @heapkeeper.gc.paused()
    def work(depth):
        assert not gc.isenabled()
        return depth and work(depth - 1)

    work(3)
    assert gc.isenabled() is enabled


def test_no_collection_starts_by_itself_in_a_pause(enabled):
    phases = []
    gc.callbacks.append(lambda phase, info: phases.append((phase, info["generation"])))
    threshold = gc.get_threshold()
    gc.set_threshold(10)
    try:
        with heapkeeper.gc.paused():
            phases.clear()
            kept = [[] for _ in range(10_000)]
            assert phases == []
            gc.collect(1)
            assert phases == [("start", 1), ("stop", 1)]
        if enabled:
            kept += [[] for _ in range(10_000)]
            assert len(phases) > 2
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.pop()


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_pauses_overlap(enabled, first_to_end):
    pauses = [heapkeeper.gc.paused(), heapkeeper.gc.paused()]
    for pause in pauses:
        pause.__enter__()
    pauses.pop(first_to_end).__exit__(None, None, None)
    assert not gc.isenabled()
    pauses.pop().__exit__(None, None, None)
    assert gc.isenabled() is enabled


def test_threads(enabled):
    seen = []

    def work():
        for _ in range(300):
            with heapkeeper.gc.paused():
                seen.append(gc.isenabled())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [False] * 2400
    assert gc.isenabled() is enabled


@each_process
def test_a_forked_child_goes_on_with_its_own_pauses(driver, variable):
    code = """
import os, threading, warnings
warnings.simplefilter("ignore")  # 3.12 and later warn of forks with threads.
begun, done = threading.Event(), threading.Event()

def work():
    with ours.paused():
        begun.set()
        done.wait()

thread = threading.Thread(target=work)
with ours.paused():
    thread.start()
    begun.wait()
    child = os.fork()
    inside = gc.isenabled()
if child == 0:
    os._exit(10 * inside + gc.isenabled())
while_another_lasts = gc.isenabled()
done.set()
thread.join()
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps([inside, while_another_lasts, gc.isenabled(), status]))
"""
    assert inside(driver, variable, code) == [False, False, True, 1]
