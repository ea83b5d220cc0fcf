"""How a program ends: exit status, tracebacks, signals, as under plain python."""

import signal
import sys
import time
from pathlib import Path

import pytest
from processes import COMMAND, TIMEOUT_S

NESTED = """\
def outer(value):
    return inner(value + 1)

def inner(value):
    raise ValueError(f"no {value}")

try:
    outer(1)
except ValueError as error:
    raise RuntimeError("while ending") from error
"""


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit(True)", 1),
        ("import sys; sys.exit(-1)", 255),
        ("import sys; sys.exit('a last word')", 1),
        ("import sys; sys.exit((1, 2))", 1),
        ("raise SystemExit", 0),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("raise ExceptionGroup('several', [ValueError(1)])" if sys.version_info >= (3, 11) else "raise OSError(2)", 1),
        (
            "import atexit\nclass A:\n def __repr__(self): return 'A'\n def __call__(self): 1 / 0\natexit.register(A())",
            0,
        ),
        ("import threading; threading.Thread(target=lambda: 1 / 0).start()", 0),
        ("import sys; sys.stderr.write('no newline')", 0),
        ("import sys; sys.excepthook = lambda *a: print('hooked'); 1 / 0", 1),
        ("import sys; sys.stdout.close()", 0),
        ("import sys; sys.stderr.close()", 0),
        ("import sys; del sys.stdout, sys.stderr; sys.path.clear(); sys.modules.pop('os')", 0),
        ("class D:\n def __del__(self): print('bye', flush=True)\nd = D()", 0),
        ("import warnings; warnings.warn('careful')", 0),
        ("f = open('/dev/null')\ndel f", 0),
        ("def f(:", 1),
    ],
)
def test_code(driver, code, status):
    outcome = driver.same("-c", code, flags=["-X", "dev"] if "open(" in code else [])
    assert outcome.status == status


def test_traceback(driver):
    driver.write("app.py", NESTED)
    outcome = driver.same("app.py")
    assert "in outer" in outcome.stderr and "direct cause" in outcome.stderr
    driver.same("-m", "app")
    driver.same("-", stdin=NESTED)


@pytest.mark.parametrize(
    "target",
    [
        ["absent.py"],
        ["folder"],
        ["syntax.py"],
        ["encoding.py"],
        ["-m", "absent"],
        ["-m", "syntax"],
        ["-m", "folder.absent"],
        ["-m", "folder"],
        [""],
    ],
    ids=" ".join,
)
def test_program_that_does_not_start(driver, target):
    (driver.folder / "folder").mkdir()
    driver.write("syntax.py", "x = 1\ndef broken(:\n    pass\n")
    (driver.folder / "encoding.py").write_bytes(b"x = '\xff'\n")
    plain = driver.python(*target)
    ours = driver.run("-q", *target)
    assert ours == plain
    assert ours.status != 0 and ours.stderr


@pytest.mark.parametrize("target", [["absent.py"], ["--", "-absent.py"]], ids=" ".join)
def test_nothing_is_reported_of_an_absent_script(driver, target):
    assert driver.run("-o", "app.hk", *target) == driver.python(*target)
    assert not list(driver.folder.iterdir())
    assert driver.run("--json", *target).stderr.endswith("}\n")


def test_unreadable_script(driver):
    driver.write("secret.py", "print(1)")
    (driver.folder / "secret.py").chmod(0)
    # Root reads it all the same; both must agree.
    assert driver.run("-q", "secret.py") == driver.python("secret.py")


@pytest.mark.parametrize(
    "code",
    ["import os; print('lost'); os._exit(5)", "import os; os.abort()", "import os; os.kill(os.getpid(), 9)"],
)
def test_no_report_where_python_runs_no_handlers(driver, code):
    plain = driver.python("-c", code)
    assert driver.run("-c", code) == plain
    assert plain.status != 0


SLEEP = "import time; print('ready', flush=True); time.sleep(60)"


def sleeps(process):
    """Whether the program's only thread waits in the kernel (proc(5), `stat`: the state follows the name)."""
    return Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"S")


def signalled(driver, command, code, number):
    """How a program ends that gets a signal while it sleeps."""
    with driver.start([*command, "-c", code]) as process:
        assert process.stdout.readline() == b"ready\n"
        # A signal between the line and the sleep would show another place in the traceback.
        while not sleeps(process):
            time.sleep(0.001)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, SLEEP),
        (signal.SIGINT, SLEEP),
        (signal.SIGUSR1, SLEEP),
        (signal.SIGINT, f"try:\n {SLEEP}\nexcept KeyboardInterrupt: print('caught')"),
        (signal.SIGINT, f"import signal; signal.signal(2, lambda *a: exit('handled')); {SLEEP}"),
    ],
)
def test_signals(driver, number, code):
    plain = signalled(driver, [sys.executable], code, number)
    assert signalled(driver, [COMMAND, "run", "-q"], code, number) == plain


def test_interrupted_program_still_reports(driver):
    plain = signalled(driver, [sys.executable], SLEEP, signal.SIGINT)
    status, stdout, stderr = signalled(driver, [COMMAND, "run"], SLEEP, signal.SIGINT)
    assert (status, stdout) == plain[:2]
    assert status == -signal.SIGINT
    assert stderr.startswith(plain[2])
    assert b"heapkeeper" in stderr[len(plain[2]) :]


def test_terminated_program_is_silent(driver):
    assert signalled(driver, [COMMAND, "run"], SLEEP, signal.SIGTERM) == (-signal.SIGTERM, b"", b"")
