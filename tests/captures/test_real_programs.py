"""Captures of real programs: lines are those that allocated, and what was planted is found from the report alone."""

import re
import signal
import time

from processes import COMMAND, TIMEOUT_S

# Each line that says so keeps as many KiB.
LINES = """\
import asyncio
import contextlib

kept = []

def keep(kib):
    kept.append(bytes(kib * 1024))  # keeps 0

@contextlib.contextmanager
def manager():
    kept.append(bytearray(101 * 1024))  # keeps 101
    yield
    kept.append(
        bytearray(
            103 * 1024
        )  # keeps 103 above
    )

def generator():
    for size in (1, 2):
        kept.append(bytearray(size * 53 * 1024))  # keeps 159
        yield size

class Some:
    def method(self, far=None):
        try:
            raise KeyError
        except KeyError:
            kept.append(bytearray(107 * 1024))  # keeps 107
        finally:
            kept.append(bytearray(109 * 1024))  # keeps 109
        return [bytearray(113 * 1024) for _ in range(2)]  # keeps 226

async def coroutine():
    await asyncio.sleep(0)
    kept.append(bytearray(127 * 1024))  # keeps 127

#BLANK
def far():
    kept.append(bytearray(131 * 1024))  # keeps 131

with manager():
    kept.extend(generator())
kept.append(Some().method())
asyncio.run(coroutine())
far()
exec(compile("kept.append(bytearray(137 * 1024))", "made.py", "exec"))
kept.append((lambda size: bytearray(size))(139 * 1024))  # keeps 139
""".replace("#BLANK", "\n" * 400)


def capture(driver, source, *options, name="app"):
    """The file name of a capture of a program that runs to its end, every allocation counted."""
    driver.write(f"{name}.py", source)
    outcome = driver.run("-q", "--profile", "exact", *options, "-o", f"{name}.hk", f"{name}.py")
    assert (outcome.status, outcome.stderr) == (0, "")
    return f"{name}.hk"


def kib(text):
    number, unit = text.split()
    return float(number.replace(",", "")) * {"B": 1 / 1024, "KiB": 1, "MiB": 1024}[unit]


def test_lines_are_those_that_allocated(driver):
    outcome = driver.call([COMMAND, "lines", capture(driver, LINES), "app.py"])
    assert (outcome.status, outcome.stderr) == (0, "")
    figures = {}
    for line in outcome.stdout.splitlines():
        if found := re.match(r"(.{11})(.{11})(.{11})(.{11}) {0,6}(\d+)  ", line):
            figures[int(found[5])] = found[2].strip()
    planted = 0
    for number, line in enumerate(LINES.splitlines(), 1):
        if not (found := re.search(r"# keeps (\d+)( above)?", line)) or found[1] == "0":
            continue
        planted += 1
        # A call over several lines is of the line that the interpreter says.
        near = range(number - 3, number + 1) if found[2] else [number]
        assert any(int(found[1]) <= kib(figures.get(each) or "0 B") <= int(found[1]) + 8 for each in near), (
            f"line {number}: {line}\n{outcome.stdout}"
        )
    assert planted == 9


LEAK = """\
import time

class Session:
    answers = {}

    def remember(self, key):
        self.answers[key] = bytes(2000)

def work(times):
    session = Session()
    for number in range(times):
        " ".join(str(number) for _ in range(200))
        session.remember(number + len(session.answers))
        time.sleep(0.001)

work(600)
import heapkeeper
heapkeeper.mark("after warm-up")
work(1500)
heapkeeper.mark("the end")
"""


def test_a_planted_leak_is_found(driver):
    name = capture(driver, LEAK)
    leaks = driver.call([COMMAND, "report", "--leaks", name])
    assert (leaks.status, leaks.stderr) == (0, "")
    text = leaks.stdout.replace("\n", " ")
    assert "from mark “after warm-up” to mark “the end”" in text
    # Before 3.11 code objects do not know their class.
    assert re.search(r"of it came from app\.py:7 \((Session\.)?remember\)", text), text
    temporary = driver.call([COMMAND, "report", "--temporary", name]).stdout
    assert "app.py:12" in temporary.splitlines()[2]
    timeline = driver.call([COMMAND, "report", "--timeline", name]).stdout
    assert "a  after warm-up" in timeline and "b  the end" in timeline


def test_a_killed_process_leaves_all_but_its_last_second(driver):
    driver.write("app.py", "kept = []\nfor _ in range(10**9):\n    kept.append(bytes(1000)); len([0] * 20000)\n")
    process = driver.start([COMMAND, "run", "-q", "--profile", "exact", "-o", "app.hk", "app.py"])
    try:
        time.sleep(3.5)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    outcome = driver.call([COMMAND, "report", "app.hk"])
    assert outcome.status == 0
    lines = outcome.stdout.splitlines()
    assert "of the peak came from app.py:3 (<module>)" in lines[2] or lines[2].startswith("Nearly all")
    assert "it was killed, or still runs" in outcome.stdout.replace("\n", " ")
    seconds = float(re.search(r"· ([\d.]+) s ·", lines[0])[1])
    assert seconds >= 1.5, "interpreter start, and at most the last second, are missing"


def test_forked_children_add_up(driver):
    driver.write(
        "app.py",
        "import os\n"
        "children = [os.fork() for _ in range(1)]\n"
        "kept = [bytes(1000) for _ in range(5000)]\n"
        "if children[0]:\n"
        "    os.waitpid(children[0], 0)\n",
    )
    # 3.12 and later warn of a fork beside any thread, and what writes the capture is one.
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    outcome = driver.run("-q", "--profile", "exact", "-o", "app-%p.hk", "app.py", env=quiet)
    assert (outcome.status, outcome.stderr) == (0, "")
    names = sorted(path.name for path in driver.folder.glob("*.hk"))
    assert len(names) == 2
    text = driver.call([COMMAND, "report", "--table", *names]).stdout
    assert text.splitlines()[0].endswith("2 processes")
    row = next(line for line in text.splitlines() if "app.py:3" in line)
    size = re.match(r" *([\d.,]+ .?i?B)", row)[1]
    assert 9.5 * 1024 <= kib(size) <= 11.5 * 1024, text
