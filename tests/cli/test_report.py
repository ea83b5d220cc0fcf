"""The report at exit: where it goes, when it comes, and that it never gets in the way."""

import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
import time

import pytest
from processes import COMMAND, TIMEOUT_S


def json_report(stderr):
    """The status in a `--json` report that is the last line of stderr."""
    return json.loads(stderr.splitlines()[-1])


def on_terminal(driver, *command, columns=90, env=()):
    """Status, and what a process wrote to a standard error that is a terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = driver.start(command, stderr=terminal, env={"TERM": "xterm-256color", **dict(env)})
    os.close(terminal)
    chunks = []
    try:
        while chunk := os.read(controller, 65536):
            chunks.append(chunk)
    except OSError:  # EIO: the other end is closed.
        pass
    with process:
        process.communicate(timeout=TIMEOUT_S)
    os.close(controller)
    return process.returncode, b"".join(chunks).decode().replace("\r\n", "\n")


def test_names_the_program(driver):
    driver.write("app.py", "")
    for target, name in ((["app.py"], "app.py"), (["-m", "app"], "-m app"), (["-c", "pass"], "-c")):
        outcome = driver.run(*target, "an-argument")
        assert name in outcome.stderr.splitlines()[0]
        assert json_report(driver.run("--json", *target).stderr)["program"] == name


def test_json(driver):
    outcome = driver.run("--json", "-c", "import os; print(os.getpid())")
    status = json_report(outcome.stderr)
    assert outcome.stderr.count("\n") == 1
    assert status["pid"] == int(outcome.stdout)
    assert status["allocator"]["name"] == "heapkeeper"


def test_comes_last(driver):
    driver.write(
        "app.py",
        """
import atexit, sys, threading, time
def last(): print("handler"); print("handler's error", file=sys.stderr)
atexit.register(last)
def thread(): time.sleep(0.2); print("thread")
threading.Thread(target=thread).start()
print("buffered", end="")
1 / 0
""",
    )
    outcome = driver.run("--json", "app.py", stderr=-2)  # subprocess.STDOUT: both in one pipe.
    for text in ("buffered", "thread", "handler\n", "ZeroDivisionError", "handler's error"):
        assert text in outcome.stdout
    assert json_report(outcome.stdout)["program"] == "app.py"


def test_pipe_gets_plain_text(driver):
    stderr = driver.run("-c", "pass", env={"TERM": "xterm-256color", "COLUMNS": "60"}).stderr
    assert "\x1b" not in stderr


def test_terminal_gets_colour_and_its_width(driver):
    driver.write("app.py", "data = [bytes(100) for _ in range(50_000)]")
    status, text = on_terminal(driver, COMMAND, "run", "app.py")
    assert status == 0
    assert "\x1b[" in text


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_without_colour(driver, env):
    status, text = on_terminal(driver, COMMAND, "run", "-c", "pass", env=env)
    assert status == 0
    assert "heapkeeper" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("columns", "env"), [(72, {}), (140, {"COLUMNS": "72"}), (72, {"COLUMNS": "wide"}), (72, {"COLUMNS": "0"})]
)
def test_terminal_width(driver, columns, env):
    driver.write(
        "app.py",
        f"class {'Long' * 20}:\n def make(self): return [bytes(100) for _ in range(50_000)]\nx = {'Long' * 20}().make()",
    )
    _, text = on_terminal(driver, COMMAND, "run", "app.py", columns=columns, env={"NO_COLOR": "1"} | env)
    assert max(map(len, text.splitlines())) <= 72
    assert "heapkeeper" in text


def test_colour_in_json_is_none(driver):
    _, text = on_terminal(driver, COMMAND, "run", "--json", "-c", "pass")
    assert json_report(text)["program"] == "-c"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_closed_stderr(driver, options):
    # The files that the program opens get the free descriptor 2: none of them may get the report.
    driver.write(
        "app.py",
        "import sys\nfiles = [open(f'out{i}', 'w') for i in range(5)]\nprint([f.fileno() for f in files])\nsys.exit(4)",
    )
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    plain = driver.call([*shell, sys.executable, "app.py"])
    assert "2" in plain.stdout
    assert driver.call([*shell, COMMAND, "run", *options, "app.py"]) == plain
    assert [(driver.folder / f"out{i}").read_text() for i in range(5)] == [""] * 5


@pytest.mark.parametrize(
    "closing", ["os.close(2)", "sys.stderr.close()", "os.dup2(os.open('out', os.O_CREAT | os.O_WRONLY), 2)"]
)
def test_stderr_replaced_by_the_program(driver, closing):
    driver.write("app.py", f"import os, sys\n{closing}\nfile = open('other', 'w')\nsys.exit(4)")
    plain = driver.python("app.py")
    ours = driver.run("app.py")
    assert (ours.status, ours.stdout) == (plain.status, plain.stdout)
    assert ours.stderr.startswith(plain.stderr) and "Traceback" not in ours.stderr
    for name in ("out", "other"):
        assert not (driver.folder / name).exists() or (driver.folder / name).read_text() == ""


@pytest.mark.parametrize(
    "code", ["pass", "import sys; sys.exit('a word')", "1 / 0", "import signal; signal.signal(13, signal.SIG_DFL)"]
)
def test_stderr_that_takes_nothing(driver, code):
    with open("/dev/full", "w") as full:
        plain = driver.python("-c", code, stderr=full)
        assert driver.run("-c", code, stderr=full) == plain
    # A pipe that nobody reads any more.
    statuses = []
    for command in ([sys.executable], [COMMAND, "run"]):
        read, write = os.pipe()
        os.close(read)
        statuses.append(driver.call([*command, "-c", code], stderr=write).status)
        os.close(write)
    # Where plain python has nothing to say on stderr, the report must not turn into an error of its own.
    assert statuses[0] == statuses[1]


FILL = """
import os
os.set_blocking(2, False)
try:
    while True: os.write(2, b"x" * 4096)
except BlockingIOError: pass
"""


def test_slow_reader_of_a_non_blocking_pipe_gets_all(driver):
    with driver.start([COMMAND, "run", "--json", "-c", FILL + "print('full', flush=True)"]) as process:
        assert process.stdout.readline() == b"full\n"
        time.sleep(0.3)  # The report meets the full pipe.
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert json.loads(stderr.lstrip(b"x"))["pid"] == process.pid


def wait_until_writing(process):
    """Until a process sleeps in a write to a pipe, as far as the kernel tells."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with open(f"/proc/{process.pid}/wchan") as file:
            if "pipe" in file.read():
                return
        time.sleep(0.01)


def test_interrupt_during_the_report(driver):
    fill = FILL + "os.set_blocking(2, True); print('full', flush=True)"
    with driver.start([COMMAND, "run", "-c", fill]) as process:
        assert process.stdout.readline() == b"full\n"
        wait_until_writing(process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    # It ends there and then, as a signal ends a program, or had finished: never with a traceback of ours.
    assert process.returncode in (0, -signal.SIGINT)
    assert b"Traceback" not in stderr and b"Exception" not in stderr


@pytest.mark.parametrize(
    "child",
    [
        "if os.fork() == 0: sys.exit(0)\nos.wait()",
        "import subprocess; subprocess.run([sys.executable, '-c', 'pass'])",
        "import subprocess; subprocess.run([sys.executable, '-m', 'heapkeeper', 'run', '-q', '-c', 'pass'])",
        "import multiprocessing as m\nif __name__ == '__main__':\n for way in 'fork', 'spawn', 'forkserver':\n  p = m.get_context(way).Process(target=print); p.start(); p.join()",
        "import concurrent.futures as f\nif __name__ == '__main__':\n with f.ProcessPoolExecutor(2) as pool: print(list(pool.map(abs, range(4))))",
    ],
)
def test_only_the_program_reports(driver, child):
    driver.write("app.py", f"import os, sys\n{child}\nprint('pid', os.getpid())")
    outcome = driver.run("--json", "app.py")
    assert outcome.status == 0
    assert [json.loads(line)["pid"] for line in outcome.stderr.splitlines()] == [int(outcome.stdout.split()[-1])]


def test_a_nested_run_reports_too(driver):
    inner = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'heapkeeper', 'run', '--json', '-c', ''])"
    outcome = driver.run("--json", "-c", inner)
    pids = [json.loads(line)["pid"] for line in outcome.stderr.splitlines()]
    assert len(set(pids)) == 2


def test_a_program_that_becomes_another_reports_at_its_end(driver):
    code = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import os; print(os.getpid())'])"
    outcome = driver.run("--json", "-c", code)
    assert json_report(outcome.stderr)["pid"] == int(outcome.stdout)
    assert outcome.stderr.count("\n") == 1


def test_subinterpreters_do_not_report(driver):
    driver.write(
        "app.py",
        """
try: import _interpreters as interpreters
except ImportError: import _xxsubinterpreters as interpreters
for _ in range(3):
    one = interpreters.create()
    interpreters.run_string(one, "print('inside', flush=True)")
    interpreters.destroy(one)
""",
    )
    plain = driver.python("app.py")
    assert plain.stdout == "inside\n" * 3
    outcome = driver.run("--json", "app.py", env={"HEAPKEEPER": "log=processes"})
    assert (outcome.status, outcome.stdout) == (plain.status, plain.stdout)
    assert json_report(outcome.stderr)["program"] == "app.py"
    assert outcome.stderr.count("\n") == 1
    # One line for `heapkeeper run` itself and one for the program it became.
    assert len((driver.folder / "processes").read_text().splitlines()) == 2


def test_program_that_changes_the_world_under_the_report(driver):
    code = "import os, sys; sys.path[:] = []; sys.meta_path.clear(); os.chdir('/'); sys.modules.pop('heapkeeper'); os.environ.clear()"
    outcome = driver.run("--json", "-c", code)
    assert outcome.status == 0
    assert json_report(outcome.stderr)["program"] == "-c"
