"""`--at-heap` and `--on-limit`: the state is written where memory nears a limit, and the report names the line."""

import os
import resource
import signal

import pytest
from processes import COMMAND

HOG = """
import sys, time

def hoard():
    kept = []
    while True:
        kept.append(bytearray(1_000_000))
        time.sleep(float(sys.argv[1]))

hoard()
"""

GUILTY = "kept.append(bytearray(1_000_000))"

# Each names where the memory is, whatever the process died of.
LINE = "app.py:7"


@pytest.fixture
def hog(driver):
    driver.write("app.py", HOG)
    return "app.py"


def says_where(text):
    return LINE in text and "hoard" in text


def test_limit_not_caught(driver, hog, captured):
    outcome = driver.run("-q", "--max-heap", "64M", "--on-limit", "capture", hog, "0")
    # 3.13 has no memory left to print the traceback with.
    assert outcome.status == 1 and "MemoryError" in outcome.stderr
    pid = next(driver.folder.glob("*.hk")).name.split(".")[1]
    file = driver.folder / f"heapkeeper-app.{pid}.hk"
    first = outcome.stderr.splitlines()[0]
    assert first == f"heapkeeper: limit of 64 MiB reached: a capture is being written to {file}"
    text = captured()
    assert says_where(text) and "limit of 64 MiB reached" in text


def test_limit_in_the_capture_that_is_written(driver, hog, captured):
    outcome = driver.run("-q", "--max-heap", "64M", "--on-limit=capture", "-o", "x.hk", hog, "0")
    assert outcome.status == 1 and "heapkeeper" not in outcome.stderr
    text = captured("x.hk")
    assert says_where(text) and "limit of 64 MiB reached" in text


def test_state_of_the_limit_and_not_of_later(driver, captured):
    """The hook waits until it is written: a program that lets go at once has it in its capture all the same."""
    code = """
def hoard():
    kept = []
    while True:
        kept.append(bytearray(1_000_000))

for _ in range(20):
    try:
        hoard()
    except MemoryError:
        pass
"""
    driver.write("app.py", code)
    outcome = driver.run("-q", "--max-heap", "64M", "--on-limit", "capture", "app.py")
    assert outcome.status == 0
    text = captured()
    assert "append(bytearray" in text and "limit of 64 MiB reached" in text
    # Time and again at the limit, but no further from it than an eighth for long enough to be seen.
    assert outcome.stderr.count("\n") == 1


def test_limit_set_by_the_program_and_threads(driver, captured):
    code = """
import heapkeeper, threading
heapkeeper.limit("48M")

def hoard():
    kept = []
    try:
        while True:
            kept.append([bytearray(100_000)])
    except MemoryError:
        kept.clear()

threads = [threading.Thread(target=hoard) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""
    driver.write("app.py", code)
    outcome = driver.python("app.py", env={"HEAPKEEPER": "on-limit=capture"})
    assert (outcome.status, outcome.stdout) == (0, "done\n")
    assert "limit of 48 MiB reached" in captured("heapkeeper-app.*.hk")


def test_without_the_option_nothing_is_written(driver, hog):
    outcome = driver.run("-q", "--max-heap", "64M", hog, "0")
    assert outcome.status == 1 and "heapkeeper" not in outcome.stderr
    assert [file.name for file in driver.folder.iterdir()] == ["app.py"]


@pytest.mark.parametrize(("output", "file"), [("output=x.hk,", "x.hk"), ("", "heapkeeper-app.*.hk")])
def test_address_space_of_the_process(driver, hog, captured, output, file):
    """RLIMIT_AS: the system refuses, not we, and a capture that begins then needs memory as well."""

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))

    outcome = driver.python(
        hog, "0.002", env={"HEAPKEEPER": f"on-limit=capture,{output}sample-bytes=64K"}, preexec_fn=limited
    )
    # 3.13 has no memory left to print the traceback with.
    assert outcome.status == 1 and "MemoryError" in outcome.stderr
    assert says_where(captured(file))


def test_heap_at_a_size(driver, hog, captured):
    process = driver.start(
        ["python3", hog, "0.002"], env={"HEAPKEEPER": "at-heap=32M,max-heap=300M", "PATH": path_of_python()}
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    file = driver.folder / f"heapkeeper-app.{process.pid}.hk"
    assert stderr.decode().startswith(f"heapkeeper: heap at 32 MiB: a capture is being written to {file}\n")
    text = captured()
    assert says_where(text) and "heap at 32 MiB" in text


def path_of_python():
    import sys

    return f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"


def test_killed(driver, hog, captured, wait_for):
    """As by the kernel, out of memory: what was marked is there, and at most a second is missing."""
    process = driver.start(
        ["python3", hog, "0.01"], env={"HEAPKEEPER": "at-heap=32M,output=x.hk", "PATH": path_of_python()}
    )
    marked = driver.folder / "x.hk"
    wait_for(lambda: marked.exists() and b"heap at 32 MiB" in marked.read_bytes())
    process.send_signal(signal.SIGKILL)
    assert process.communicate(timeout=60) == (b"", b"")
    text = captured("x.hk")
    assert says_where(text) and "heap at 32 MiB" in text and "killed" in text


def test_children_of_a_fork_are_watched(driver, captured):
    code = """
import os, time
pid = os.fork()
if pid == 0:
    kept = [bytearray(1_000_000) for _ in range(50)]
    time.sleep(0.5)
    os._exit(0)
os.waitpid(pid, 0)
print(pid)
"""
    driver.write("app.py", code)
    outcome = driver.run("-q", "--at-heap", "32M", "app.py")
    assert outcome.status == 0
    assert "heap at 32 MiB" in captured(f"heapkeeper-app.{outcome.stdout.strip()}.hk")
    assert len(list(driver.folder.glob("*.hk"))) == 1


def test_a_folder_that_cannot_be_written(driver):
    code = "import time\nkept = [bytearray(1_000_000) for _ in range(50)]\ntime.sleep(0.5)\nprint('on')\n"
    driver.write("app.py", code)
    outcome = driver.run("-q", "--at-heap", "32M", "app.py", env={"HEAPKEEPER": "output=/absent/x.hk"})
    assert outcome.status == 2  # Said before the program starts.
    outcome = driver.python("app.py", env={"HEAPKEEPER": "at-heap=32M,output=absent/x.hk"})
    assert (outcome.status, outcome.stdout) == (0, "on\n")
    lines = outcome.stderr.splitlines()
    assert lines[0].startswith("heapkeeper: no capture: ") and lines[1].startswith(
        "heapkeeper: heap at 32 MiB: no capture"
    )
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--at-heap", "much"], "--at-heap: 'much' is not a size"),
        (["--at-heap", "0"], "above 0"),
        (["--on-limit", "stop"], "--on-limit: 'stop' is not one of capture"),
        (["--on-limit", "capture", "--profile", "off"], "--on-limit: a capture needs our heap and a profile"),
        (["--at-heap", "65M", "--max-heap", "64M"], "--at-heap: the heap never holds so much, --max-heap comes before"),
        (["--at-heap", "1G", "--allocator", "cpython"], "--at-heap: a capture needs our heap and a profile"),
    ],
    ids=lambda each: " ".join(each)[:40] if isinstance(each, list) else "",
)
def test_usage_errors(driver, options, says):
    outcome = driver.run(*options, "-c", "print('must not run')")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert says in outcome.stderr and outcome.stderr.count("\n") == 1


@pytest.fixture
def in_a_folder_that_is_gone(driver):
    """The outcome of a command whose working directory has been removed."""
    (driver.folder / "gone").mkdir()
    hop = ["bash", "-c", 'cd gone && rmdir ../gone && exec "$@"', "bash"]
    return lambda *command: driver.call([*hop, COMMAND, "run", "-q", *command])


@pytest.mark.parametrize("option", [["--on-limit", "capture"], ["--at-heap", "10M"]], ids=lambda option: option[0])
def test_no_folder_for_a_capture(driver, in_a_folder_that_is_gone, option):
    """It is said at once, and the program runs, with its limit and its socket."""
    code = "import heapkeeper, os; print(heapkeeper.status()['heap']['limit_bytes'], os.path.exists(os.sys.argv[1]))"
    socket = str(driver.folder / "s.sock")
    outcome = in_a_folder_that_is_gone("--max-heap", "20M", *option, "--socket", socket, "-c", code, socket)
    assert (outcome.status, outcome.stdout) == (0, f"{20 << 20} True\n")
    assert outcome.stderr == (
        "heapkeeper: no watch over the heap: its capture would go to the working directory, which is gone\n"
    )


def test_a_relative_name_in_a_folder_that_is_gone(in_a_folder_that_is_gone):
    outcome = in_a_folder_that_is_gone("-o", "run.hk", "-c", "print('must not run')")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr.count("\n") == 1 and "relative to a folder that is gone" in outcome.stderr
