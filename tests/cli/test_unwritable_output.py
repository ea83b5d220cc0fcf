"""Standard output that is full, closed, or a pipe that nobody reads: one line or none, and an exit status that says so."""

import signal
import sys
from pathlib import Path

import pytest
from processes import COMMAND

SHOP = Path(__file__).parents[1] / "captures" / "shop.hk"

VIEWS = [[], ["--tree"], ["--table"], ["--timeline"], ["--leaks"], ["--temporary"], ["--flamegraph", "-"]]
OF_CAPTURES = [
    *(["report", *view, str(SHOP)] for view in VIEWS),
    ["lines", str(SHOP)],
    ["export", "--to", "collapsed", str(SHOP)],
    ["diff", "--at", "5,end", str(SHOP)],
]
OTHERS = [["--help"], ["--version"], ["run", "--help"], ["report", "--help"], ["control", "--help"]]
LEAK = ["leak", "--times", "10", "app.py:work"]


@pytest.fixture
def through(driver):
    """The outcome of a command with its standard output redirected by a shell."""
    driver.write("app.py", "def work():\n    pass\n")

    def call(redirection, command):
        return driver.call(["bash", "-c", f'"$@" {redirection}', "bash", COMMAND, *command])

    return call


def one_line(outcome, verb, reason):
    command = "heapkeeper" if verb.startswith("-") else f"heapkeeper {verb}"
    return outcome.stderr == f"{command}: standard output: {reason}\n"


@pytest.mark.parametrize("command", [*OF_CAPTURES, *OTHERS, LEAK], ids=lambda command: " ".join(command)[:24])
def test_a_full_device(through, command):
    outcome = through(">/dev/full", command)
    assert one_line(outcome, command[0], "No space left on device"), outcome.stderr
    assert outcome.status == (2 if command[0] == "leak" else 1)


@pytest.mark.parametrize("command", [*OF_CAPTURES, *OTHERS], ids=lambda command: " ".join(command)[:24])
def test_a_closed_descriptor(through, command):
    outcome = through(">&-", command)
    assert one_line(outcome, command[0], "it is closed"), outcome.stderr
    assert outcome.status == 1


def test_output_to_a_file_needs_no_standard_output(through, driver):
    outcome = through(">&-", ["export", "--to", "collapsed", "-o", "shop.txt", str(SHOP)])
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "load_rows" in (driver.folder / "shop.txt").read_text()


@pytest.mark.parametrize("command", [*OTHERS, LEAK], ids=lambda command: " ".join(command)[:24])
def test_a_pipe_that_nobody_reads(driver, command):
    driver.write("app.py", "def work():\n    pass\n")
    process = driver.start([COMMAND, *command])
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", -signal.SIGPIPE)
    process.stderr.close()


def test_the_state_of_a_process(driver):
    driver.write("app.py", "print('up', flush=True)\ninput()\n")
    with driver.start([sys.executable, "app.py"], stdin=-1, env={"HEAPKEEPER": "socket=s.sock"}) as process:
        assert process.stdout.readline() == b"up\n"
        outcome = driver.call(["bash", "-c", f"{COMMAND} control s.sock status >/dev/full"])
        process.communicate(b"\n")
    assert one_line(outcome, "control", "No space left on device"), outcome.stderr
    assert outcome.status == 1
