"""`heapkeeper.Tracker(path)`: a capture of a block of code."""

import pytest
from processes import COMMAND


@pytest.fixture
def inside(driver):
    """Runs a program; returns the lines that it prints."""

    def run(code, **options):
        driver.write("app.py", "import heapkeeper\nfrom heapkeeper import CaptureError, Tracker\n" + code)
        outcome = driver.python("app.py", **options)
        assert (outcome.status, outcome.stderr) == (0, "")
        return outcome.stdout.splitlines()

    return run


@pytest.fixture
def report(driver):
    def call(*arguments):
        outcome = driver.call([COMMAND, "report", *arguments])
        assert (outcome.status, outcome.stderr) == (0, "")
        return outcome.stdout

    return call


def test_capture_of_a_block(inside, report):
    code = """
before = bytes(50_000_000)
with Tracker("block.hk") as tracker:
    peak = bytes(20_000_000)
    del peak
    kept = bytes(3_000_000)
after = bytes(40_000_000)
print(heapkeeper.mark("after"), tracker.peak_bytes // 1_000_000, tracker.live_bytes // 1_000_000)
"""
    assert inside(code) == ["False 20 3"]
    text = report("block.hk")
    assert "Peak 19 MiB live" in text and "2.9 MiB at the stop" in text
    assert "app.py:6" in text and "app.py:4" not in text and "app.py:9" not in text
    assert "app.py:8" in report("--table", "--at", "end", "block.hk")


@pytest.mark.parametrize("environment", [{}, {"HEAPKEEPER": "on"}, {"HEAPKEEPER": "profile=exact"}])
def test_what_was_before_is_left_out(inside, report, environment):
    code = """
def make(size):
    return bytes(size)

before = make(50_000_000)
with Tracker() as outer:
    more = make(30_000_000)
    with Tracker("block.hk"):
        kept = make(2_000_000)
        del before, more
"""
    inside(code, env=environment)
    lines = report("block.hk").splitlines()
    assert lines[1].startswith("Peak 1.9 MiB live") and ", 1.9 MiB at the stop" in lines[1]
    assert "app.py:5" in lines[2]


def test_nested_trackers_keep_the_captures_peak(inside, report):
    code = """
with Tracker("outer.hk") as outer:
    peak = bytes(20_000_000)
    del peak
    with Tracker() as inner:
        small = bytes(1_000_000)
print(outer.peak_bytes // 1_000_000, inner.peak_bytes // 1_000_000)
"""
    assert inside(code) == ["20 1"] or inside(code) == ["20 0"]
    text = report("outer.hk")
    assert "Peak 19 MiB live" in text and "app.py:5" in text.splitlines()[2]


def test_one_capture_at_a_time(inside, report, driver):
    code = """
import threading
def other(path):
    try:
        with Tracker(path):
            print("two at once")
    except CaptureError as error:
        print(error)

with Tracker("first.hk") as tracker:
    kept = bytes(5_000_000)
    other("second.hk")
    thread = threading.Thread(target=other, args=("third.hk",))
    thread.start()
    thread.join()
    with Tracker() as figures:
        more = bytes(1_000_000)
print(tracker.live_bytes >= 6_000_000, 1_000_000 <= figures.live_bytes < 2_000_000)
from heapkeeper import _native
print(_native.exact_on())
with Tracker("second.hk"):
    pass
"""
    refused = f"a capture is being written already, to {driver.folder}/first.hk"
    assert inside(code) == [refused, refused, "True True", "False"]
    assert "app.py:13" in report("first.hk")
    assert not (driver.folder / "third.hk").exists()


def test_the_processs_own_capture_goes_on(inside, driver, report):
    code = """
try:
    with Tracker("block.hk"):
        pass
except CaptureError as error:
    print(error)
kept = bytes(7_000_000)
"""
    lines = inside(code, env={"HEAPKEEPER": "output=whole.hk"})
    assert lines == [f"a capture is being written already, to {driver.folder}/whole.hk"]
    assert "app.py:9" in report("whole.hk")


def test_threads_are_counted(inside, report):
    code = """
import threading
def work():
    kept.append(bytes(5_000_000))
kept = []
with Tracker("block.hk"):
    threads = [threading.Thread(target=work, name=f"worker {n}") for n in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    inside(code)
    assert report("block.hk").splitlines()[1].startswith(("Peak 14 MiB live", "Peak 15 MiB live"))


def test_files(inside, driver):
    code = """
import os, pathlib
open("taken.hk", "w").write("mine")
os.mkfifo("pipe.hk")
for path, overwrite in (("taken.hk", False), ("absent/x.hk", False), ("pipe.hk", True)):
    try:
        with Tracker(path, overwrite=overwrite):
            print("written")
    except CaptureError as error:
        print(error)
with Tracker("taken.hk", overwrite=True):
    pass
with Tracker(pathlib.Path("of-%p.hk")):
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
print(os.path.exists(f"../of-{os.getpid()}.hk"), os.path.getsize("../taken.hk") > 4)
"""
    lines = inside(code)
    assert [line.rpartition(": ")[2] for line in lines[:3]] == [
        "File exists (os error 17)",
        "No such file or directory (os error 2)",
        "is no regular file",
    ]
    assert lines[3:] == ["True True"]


def test_exceptions_and_exits(inside, driver, report):
    code = """
import sys
try:
    with Tracker("block.hk"):
        kept = bytes(5_000_000)
        raise KeyError
except KeyError:
    pass
tracker = Tracker("open.hk").__enter__()
more = bytes(9_000_000)
sys.exit()
"""
    inside(code)
    assert "app.py:7" in report("block.hk")
    assert "app.py:12" in report("open.hk") and "killed" not in report("open.hk")


def test_a_fork_leaves_it_to_the_parent(inside, report):
    code = """
import os, warnings
warnings.simplefilter("ignore")  # Since 3.12 CPython warns of a fork beside threads, and one of ours writes the capture.
with Tracker("block.hk") as tracker:
    pid = os.fork()
    if pid == 0:
        theirs = bytes(30_000_000)
    else:
        os.waitpid(pid, 0)
        ours = bytes(4_000_000)
if pid == 0:
    os._exit(0)
print(tracker.live_bytes // 1_000_000)
"""
    assert inside(code) == ["4"]
    assert report("block.hk").splitlines()[1].startswith(("Peak 3.8 MiB live", "Peak 3.9 MiB live"))


def test_again(inside, driver):
    code = """
tracker = Tracker("block.hk", overwrite=True)
for _ in range(3):
    with tracker:
        kept = bytes(1_000_000)
    print(tracker.live_bytes >= 900_000 or tracker.allocated_bytes >= 1_000_000)
"""
    assert inside(code) == ["True"] * 3
