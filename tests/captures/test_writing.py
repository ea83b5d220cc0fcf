"""The file of a capture: its name, what is in it when the process dies, and that no trouble with it is the program's."""

import os
import resource
import signal
import time
from pathlib import Path

import pytest
import recorded
from processes import COMMAND

HOLD = """
import sys, time

def hold():
    return [bytearray(1000) for _ in range(1000)]

kept = hold()
print("ready", flush=True)
"""


def test_killed_in_the_middle(driver):
    """What was live a second before is in it, and the report says that it was killed."""
    driver.write(
        "program.py", HOLD + "while True:\n    kept += hold()\n    time.sleep(0.1)\n    print(len(kept), flush=True)\n"
    )
    command = [COMMAND, "run", "-q", "--profile", "exact", "-o", "run.hk", "program.py"]
    with driver.start(command) as process:
        lengths = {}
        while time.monotonic() < min(lengths.values(), default=time.monotonic()) + 2.5:
            line = process.stdout.readline()
            lengths[int(line) if line != b"ready\n" else 0] = time.monotonic()
        process.kill()
        killed = time.monotonic()
    capture = recorded.read(driver.folder / "run.hk")
    assert not capture.ended and len(capture.ticks) >= 3
    # A second, and what a busy machine adds.
    known = max(length for length, at in lengths.items() if at < killed - 1.5)
    assert capture.sum("live_bytes", "hold") >= known * 1000
    outcome = driver.call([COMMAND, "report", "run.hk"])
    assert outcome.status == 0 and "hold" in outcome.stdout
    assert "killed, or still runs" in outcome.stdout.replace("\n", " ")


def test_full_disk(driver):
    """The capture ends with the last whole tick, the program goes on, one line says so."""
    driver.write(
        "program.py",
        HOLD
        + "for number in range(24):\n    for each in range(100):\n        exec(f'def f{number}_{each}(): return bytearray(100)')\n        kept.append(eval(f'f{number}_{each}()'))\n    time.sleep(0.1)\nprint('right')\n",
    )

    def small():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    limit_bytes = resource.RLIM_INFINITY
    options = ["-q", "--profile", "exact", "-f", "-o", "run.hk", "program.py"]
    assert driver.run(*options, preexec_fn=small).stderr == ""
    # Not the first tick, but not the last.
    limit_bytes = (driver.folder / "run.hk").stat().st_size // 2
    outcome = driver.run(*options, preexec_fn=small)
    assert (outcome.status, outcome.stdout) == (0, "ready\nright\n")
    assert outcome.stderr.count("\n") == 1
    assert (
        outcome.stderr.startswith("heapkeeper: the capture ") and "run.hk ends here: File too large" in outcome.stderr
    )
    capture = recorded.read(driver.folder / "run.hk")
    assert capture.sum("live_bytes", "hold") > 1_000_000 and not capture.ended
    assert driver.call([COMMAND, "report", "run.hk"]).status == 0


def test_no_room_from_the_start(driver):
    driver.write("program.py", HOLD)

    def none():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    outcome = driver.run("-q", "--profile", "exact", "-o", "run.hk", "program.py", preexec_fn=none)
    assert (outcome.status, outcome.stdout) == (0, "ready\n")
    assert outcome.stderr.count("\n") == 1 and "File too large" in outcome.stderr


def test_deleted_folder(driver):
    (driver.folder / "captures").mkdir()
    driver.write("program.py", HOLD + "import shutil\nshutil.rmtree('captures')\ntime.sleep(2.3)\nprint('right')\n")
    outcome = driver.run("-q", "--profile", "exact", "-o", "captures/run.hk", "program.py")
    assert (outcome.status, outcome.stdout) == (0, "ready\nright\n")
    assert outcome.stderr.count("\n") == 1 and "captures/run.hk ends here: the file was deleted" in outcome.stderr


def test_forked_children_find_the_folder_gone(driver):
    (driver.folder / "captures").mkdir()
    driver.write(
        "program.py",
        HOLD + "import os, shutil\nshutil.rmtree('captures')\n"
        "if os.fork() == 0:\n    kept = hold()\n    raise SystemExit(0)\n"
        "assert os.wait()[1] == 0\nprint('right')\n",
    )
    options = ["-q", "--profile", "exact", "-o", "captures/run.hk", "program.py"]
    outcome = driver.run(*options, env={"PYTHONWARNINGS": "ignore::DeprecationWarning"})
    assert (outcome.status, outcome.stdout) == (0, "ready\nright\n")
    lines = outcome.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("heapkeeper: ") for line in lines), lines
    assert any("no capture of process" in line for line in lines)


def test_a_file_that_exists(driver):
    """-f overwrites it; without, nothing runs and nothing is lost."""
    driver.write("program.py", HOLD)
    (driver.folder / "run.hk").write_text("mine")
    options = ["-q", "--profile", "exact", "-o", "run.hk", "program.py"]
    outcome = driver.run(*options)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "run.hk exists; -f overwrites it" in outcome.stderr
    assert (driver.folder / "run.hk").read_text() == "mine"
    assert driver.run("-f", *options).status == 0
    assert recorded.read(driver.folder / "run.hk").ended


def test_what_is_no_file_is_not_overwritten(driver):
    """A device or a pipe stays, even for root; of a link, what it leads to."""
    driver.write("program.py", HOLD)
    pipe, link, target = (driver.folder / name for name in ("pipe.hk", "link.hk", "target.hk"))
    os.mkfifo(pipe)
    target.write_text("mine")
    link.symlink_to(target)
    options = ["-q", "--profile", "exact", "-f", "-o"]
    outcome = driver.run(*options, "pipe.hk", "program.py")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"heapkeeper run: -o: {pipe}: is no regular file; try: ")
    assert pipe.is_fifo()
    assert driver.run(*options, "link.hk", "program.py").status == 0
    assert recorded.read(link).ended and target.read_text() == "mine"


def test_a_folder_that_takes_no_files(driver):
    """Not even root's: /proc has none to give."""
    driver.write("program.py", HOLD)
    outcome = driver.run("-q", "--profile", "exact", "-o", "/proc/run.hk", "program.py")
    assert outcome.status == 0 and outcome.stdout == "ready\n"
    assert outcome.stderr.count("\n") == 1 and outcome.stderr.startswith("heapkeeper: no capture: /proc/run.hk: ")


def test_captures_are_their_owners_alone(driver):
    driver.write("program.py", HOLD)
    assert driver.run("-q", "-o", "run-%p.hk", "program.py").status == 0
    [path] = driver.folder.glob("*.hk")
    assert path.stat().st_mode & 0o777 == 0o600
    assert recorded.pid_in(path) == recorded.read(path).pid


def test_by_the_environment_alone_with_forked_workers(driver):
    """As under a pre-forking server: a master that never ends by itself, workers that come and go."""
    driver.write(
        "server.py",
        """
import os, signal, sys, time

def load():
    return {number: bytearray(1000) for number in range(1000)}

def serve(number):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return [bytearray(10_000) for _ in range(100 * number)]

def work(number):
    served = serve(number)
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(30)

data = load()
workers = []
for number in (1, 2, 3):
    pid = os.fork()
    if pid == 0:
        work(number)
    workers.append(pid)
assert os.waitpid(workers[1], 0)[1] == signal.SIGKILL
time.sleep(0.5)
for pid in workers[::2]:
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == 0
print(os.getpid(), *workers)
""",
    )
    settings = f"profile=exact,output={driver.folder}/%p.hk"
    outcome = driver.python("server.py", env={"HEAPKEEPER": settings, "PYTHONWARNINGS": "ignore::DeprecationWarning"})
    assert (outcome.status, outcome.stderr) == (0, "")
    master, first, second, third = outcome.stdout.split()
    captures = {path.stem: recorded.read(path) for path in driver.folder.glob("*.hk")}
    assert set(captures) == {master, first, second, third}
    for number, pid in (1, first), (3, third):
        assert captures[pid].ended
        # The state by site is that of a moment within 0.4 % of the peak.
        assert 980_000 * number < captures[pid].sum("peak_bytes", "serve") < 1_010_000 * number + 20_000
        assert captures[pid].sum("peak_bytes", "load") > 1_000_000
    assert not captures[second].ended
    assert captures[master].ended and captures[master].sum("total_bytes", "serve") == 0
    report = driver.call([COMMAND, "report", *(f"{pid}.hk" for pid in captures)])
    assert report.status == 0 and "4 processes" in report.stdout.splitlines()[0]


def test_marks(captured):
    outcome, [capture] = captured("""
import heapkeeper, time
assert heapkeeper.mark("first")
time.sleep(0.3)  # A thread writes the state, and the program does not wait for it.
kept = bytearray(500_000)
time.sleep(0.3)
assert heapkeeper.mark("second: “naïve”")
time.sleep(0.3)
del kept
""")
    assert (outcome.status, outcome.stderr) == (0, "")
    marks = [mark for tick in capture.ticks for mark in tick["marks"]]
    assert [mark["name"] for mark in marks] == ["first", "second: “naïve”"]
    assert 300 <= marks[1]["at_ms"] - marks[0]["at_ms"] < 5000
    # The state at a mark is written, too, and not only a second later.
    states = {mark["name"]: tick["live_bytes"] for tick in capture.ticks for mark in tick["marks"]}
    assert states["second: “naïve”"] > states["first"] + 450_000


def test_no_marks_without_a_capture(driver):
    driver.write("program.py", "import heapkeeper\nprint(heapkeeper.mark('nowhere'))\n")
    assert driver.run("-q", "program.py").stdout == "False\n"


def test_size_does_not_grow_with_allocations(driver):
    driver.write(
        "program.py",
        """
import sys, time
end = time.monotonic() + 2.2
def work():
    for _ in range(1000):
        bytearray(100)
for _ in range(int(sys.argv[1]) // 1000):
    work()
time.sleep(max(0, end - time.monotonic()))
""",
    )
    sizes, blocks = [], []
    for count in (10_000, 1_000_000):
        assert driver.run("-q", "--profile", "exact", "-f", "-o", "run.hk", "program.py", str(count)).status == 0
        sizes.append((driver.folder / "run.hk").stat().st_size)
        blocks.append(recorded.read(driver.folder / "run.hk").sum("total_blocks", "work"))
    assert blocks[1] > 50 * blocks[0]
    assert sizes[1] < 1.1 * sizes[0] + 20_000, sizes


def test_sampled_captures(driver):
    driver.write("program.py", HOLD)
    assert driver.run("-q", "--sample-bytes", "4K", "-o", "run.hk", "program.py").status == 0
    capture = recorded.read(driver.folder / "run.hk")
    assert capture.header["sample_bytes"] == "4096"
    assert 700_000 < capture.sum("peak_bytes", "hold") < 1_400_000


@pytest.mark.parametrize("folder", ["captures", "removed"])
def test_descriptors_stay_the_programs(driver, folder):
    """A daemon closes all descriptors, and opens files of its own: nothing of ours is written to them, and the capture goes on."""
    (driver.folder / "captures").mkdir()
    driver.write(
        "program.py",
        f"""
import os, time
def hold():
    return [bytearray(1000) for _ in range(1000)]
kept = hold()
os.closerange(0, 256)
if "{folder}" == "removed":
    os.unlink("captures/run.hk")
files = [open(f"mine-{{number}}", "w") for number in range(150)]
time.sleep(2.2)
if os.fork() == 0:
    for file in files:
        file.flush()
    os._exit(0)
os.wait()
for file in files:
    file.write("mine")
    file.close()
more = hold()
""",
    )
    options = ["-q", "--profile", "exact", "-o", "captures/run.hk", "program.py"]
    outcome = driver.run(*options, env={"PYTHONWARNINGS": "ignore::DeprecationWarning"})
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    assert {(driver.folder / f"mine-{number}").read_bytes() for number in range(150)} == {b"mine"}
    if folder == "captures":
        capture = recorded.read(driver.folder / "captures" / "run.hk")
        assert capture.ended and capture.sum("peak_bytes", "hold") > 2_000_000


@pytest.mark.parametrize("options", [["--profile", "off"], ["--allocator", "cpython"]], ids=" ".join)
def test_what_a_capture_needs(driver, options):
    driver.write("program.py", HOLD)
    outcome = driver.run("-q", *options, "-o", "run.hk", "program.py")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "-o: a capture needs our heap and a profile" in outcome.stderr
    assert not Path(driver.folder, "run.hk").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a,b.hk", "'a,b.hk' cannot be a capture's name: it is empty or holds a comma"),
        ("", "'' cannot be a capture's name: it is empty or holds a comma"),
        ("missing/run.hk", "-o: there is no folder "),
    ],
)
def test_names_that_cannot_be(driver, name, says):
    driver.write("program.py", HOLD)
    outcome = driver.run("-q", "-o", name, "program.py")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert says in outcome.stderr and "Traceback" not in outcome.stderr
    assert os.listdir(driver.folder) == ["program.py"]


def test_a_folder_is_no_file(driver):
    driver.write("program.py", HOLD)
    (driver.folder / "folder.hk").mkdir()
    for options in (["-o", "folder.hk"], ["-f", "-o", "folder.hk"]):
        outcome = driver.run("-q", *options, "program.py")
        assert (outcome.status, outcome.stdout) == (2, "") and "folder.hk" in outcome.stderr
