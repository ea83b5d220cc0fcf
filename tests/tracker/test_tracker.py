"""`heapkeeper.Tracker`: what a piece of a program allocates."""

import sys

import pytest

BYTES = sys.getsizeof(b"")

# In 3.10 each function keeps the frame of its last call.
SLACK_BYTES = 2000 if sys.version_info >= (3, 11) else 6000


def inside(driver, code):
    """The lines that a program prints."""
    driver.write("program.py", "import heapkeeper\nfrom heapkeeper import Tracker\n" + code)
    outcome = driver.python("program.py")
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.stdout.splitlines()


def numbers(driver, code):
    return [int(word) for line in inside(driver, code) for word in line.split()]


def test_bytes(driver):
    code = """
def work():
    gone = bytes(1_000_000)
    del gone
    return bytes(1000)

with Tracker() as tracker:
    kept = work()
print(tracker.peak_bytes, tracker.live_bytes, tracker.allocated_bytes, tracker.allocated_blocks)
"""
    peak, live, allocated, blocks = numbers(driver, code)
    assert 1_000_000 + BYTES <= peak < 1_000_000 + SLACK_BYTES
    assert 1000 + BYTES <= live < 1000 + BYTES + SLACK_BYTES
    assert 1_001_000 + 2 * BYTES <= allocated < 1_001_000 + 3 * SLACK_BYTES
    assert 2 <= blocks < 100


def test_sites(driver):
    code = """
def leaf():
    return bytes(1_000_000)

def work():
    gone = bytes(5_000_000)
    del gone
    return leaf()

kept = work()
with Tracker() as tracker:
    kept = work()
for moment in ("peak", "live", "total"):
    site = tracker.sites(moment, top=1)[0]
    print(moment, site.bytes, site.blocks, site.thread, *[f"{frame.function}:{frame.line}" for frame in site.frames[:3]])
assert len(tracker.sites("total", top=None)) >= 2
"""
    assert inside(driver, code) == [
        f"peak {5_000_000 + BYTES} 1 MainThread work:8 <module>:14",
        f"live {1_000_000 + BYTES} 1 MainThread leaf:5 work:10 <module>:14",
        f"total {5_000_000 + BYTES} 1 MainThread work:8 <module>:14",
    ]


def test_our_own_blocks_are_no_site(driver):
    code = """
with Tracker() as outer:
    with Tracker() as tracker:
        pass
    for moment in ("peak", "live", "total"):
        for site in outer.sites(moment, top=None) + tracker.sites(moment, top=None):
            assert "heapkeeper" not in site.frames[0].file, site
print(tracker.peak_bytes, tracker.live_bytes)
"""
    peak, live = numbers(driver, code)
    assert abs(live) < SLACK_BYTES and 0 <= peak < SLACK_BYTES


def test_trackers_nest(driver):
    code = """
with Tracker() as outer:
    block = bytes(9_000_000)
    del block
    with Tracker() as inner:
        block = bytes(1_000_000)
        del block
    kept = bytes(2000)
print(outer.peak_bytes, inner.peak_bytes, outer.sites("peak", top=1)[0].bytes, inner.live_bytes)
"""
    outer, inner, site, left = numbers(driver, code)
    assert 9_000_000 <= outer < 9_100_000
    assert 999_900 <= inner < 1_100_000
    assert site == 9_000_000 + BYTES
    assert left < SLACK_BYTES


def test_trackers_overlap(driver):
    code = """
first, second = Tracker(), Tracker()
first.__enter__()
one = bytes(1_000_000)
second.__enter__()
two = bytes(3_000_000)
first.__exit__()
three = bytes(5_000_000)
second.__exit__()
print(first.live_bytes, second.live_bytes)
"""
    first, second = numbers(driver, code)
    # What the second notes of the sites that it found counts for the first: some 40 kB.
    assert first == pytest.approx(4_000_000, abs=100_000)
    assert second == pytest.approx(8_000_000, abs=100_000)


def test_while_it_is_open(driver):
    code = """
with Tracker() as tracker:
    before = tracker.live_bytes
    kept = bytes(1_000_000)
    print(tracker.live_bytes - before, tracker.peak_bytes >= 1_000_000, len(tracker.sites("live", top=1)))
with tracker:
    pass
print(tracker.peak_bytes < 1_000_000)
"""
    first, second = inside(driver, code)
    grown, *rest = first.split()
    assert abs(int(grown) - 1_000_000 - BYTES) < 200
    assert (rest, second) == (["True", "1"], "True")


def test_exact_mode_ends_with_the_last_user(driver):
    code = """
from heapkeeper import _native
with Tracker():
    with Tracker():
        pass
    print(_native.exact_on())
print(_native.exact_on())
_native.exact_start(4)
with Tracker():
    pass
print(_native.exact_on())
"""
    assert inside(driver, code) == ["True", "False", "True"]


def test_exceptions_come_through(driver):
    code = """
try:
    with Tracker() as tracker:
        kept = bytes(1_000_000)
        raise KeyError
except KeyError:
    print(tracker.live_bytes > 1_000_000)
"""
    assert inside(driver, code) == ["True"]


def test_wrong_use(driver):
    code = """
tracker = Tracker()
for wrong in (lambda: tracker.peak_bytes, lambda: tracker.sites(), lambda: tracker.sites("now")):
    try:
        wrong()
    except (RuntimeError, ValueError) as error:
        print(type(error).__name__)
with tracker:
    try:
        tracker.__enter__()
    except RuntimeError:
        print("twice")
"""
    assert inside(driver, code) == ["RuntimeError", "RuntimeError", "ValueError", "twice"]
