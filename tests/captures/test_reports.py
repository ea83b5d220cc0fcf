"""`heapkeeper report` and `heapkeeper lines` on a capture of a made-up shop, whole, damaged and in number.

shop.hk was written by `cargo run -p heapkeeper-analysis --example shop`, and stays as it is: captures of this format must be
readable for ever.
"""

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from processes import COMMAND, TIMEOUT_S

SHOP = Path(__file__).with_name("shop.hk")

VIEWS = {
    "--tree": "Live at the peak  333 MiB in 5.5 million blocks, by call",
    "--table": "Lines at the peak  333 MiB live, sorted by live bytes",
    "--timeline": "held by our heap, not live",
    "--leaks": "46 MiB more live at the end than at the beginning, from mark “after warm-up”",
    "--temporary": "1.7 GiB were allocated and freed again, 96 % of all that was allocated.",
}


@pytest.fixture
def report(driver):
    """Calls `heapkeeper report` in a folder with the shop's capture in it."""
    shutil.copy(SHOP, driver.folder / "shop.hk")

    def call(*arguments, **options):
        return driver.call([COMMAND, "report", *arguments], **options)

    return call


def test_summary_answers_in_three_lines(report):
    outcome = report("shop.hk")
    assert (outcome.status, outcome.stderr) == (0, "")
    lines = outcome.stdout.splitlines()
    assert lines[0] == "heapkeeper · app.py · CPython 3.10.13 · 12.0 s · pid 4711"
    assert lines[1] == "Peak 333 MiB live at 8.0 s, 76 MiB at exit; RSS at most 384 MiB; 31 MiB outside our heap."
    assert lines[2] == "62 % of the peak came from app.py:42 (load_rows)."
    assert "\x1b" not in outcome.stdout
    assert max(len(line) for line in lines) <= 100


@pytest.mark.parametrize(("view", "says"), VIEWS.items(), ids=list(VIEWS))
def test_views(report, view, says):
    outcome = report(view, "shop.hk")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert says in outcome.stdout.replace("\n", " ")
    assert "load_rows" in outcome.stdout or view in ("--timeline", "--leaks")


def test_moments_threads_and_columns(report):
    assert "At 4.0 s  170 MiB" in report("--at", "4.5", "shop.hk").stdout  # the tick before
    assert "Session.remember" in report("--tree", "--at=end", "--thread=worker-1", "shop.hk").stdout
    assert "load_rows" not in report("--tree", "--at=end", "--thread=worker-1", "shop.hk").stdout
    functions = report("--table", "--by", "function", "--sort", "total", "shop.hk").stdout.splitlines()
    assert functions[4].split()[-2:] == ["load_rows", "app.py"]
    grown = report("--leaks", "--from", "after warm-up", "--to", "9", "shop.hk").stdout
    assert "from mark “after warm-up” to 9.0 s" in grown.replace("\n", " ")


def test_several_captures_add_up(report, driver):
    shutil.copy(SHOP, driver.folder / "other.hk")
    lines = report("shop.hk", "other.hk").stdout.splitlines()
    assert lines[0].endswith("2 processes")
    assert lines[1].startswith("Peak 666 MiB live")


def test_standard_input(driver):
    with open(SHOP, "rb") as file:
        outcome = subprocess.run([COMMAND, "report", "-"], stdin=file, capture_output=True, env=driver.environment)
    assert (outcome.returncode, outcome.stderr) == (0, b"")
    assert outcome.stdout.decode() == driver.call([COMMAND, "report", str(SHOP)]).stdout


def test_a_cut_capture_is_reported_up_to_the_cut(report, driver):
    whole = SHOP.read_bytes()
    (driver.folder / "cut.hk").write_bytes(whole[: len(whole) * 2 // 3])
    outcome = report("cut.hk")
    assert outcome.status == 0
    assert "killed, or still runs" in outcome.stdout.replace("\n", " ")
    assert outcome.stderr.startswith("heapkeeper report: cut.hk: damaged in tick ")
    assert "the file ends in the middle of it" in outcome.stderr and outcome.stderr.count("\n") == 1


def test_a_changed_capture_is_reported_up_to_the_change(report, driver):
    changed = bytearray(SHOP.read_bytes())
    changed[len(changed) // 2] ^= 1
    (driver.folder / "changed.hk").write_bytes(changed)
    outcome = report("--tree", "changed.hk")
    assert outcome.status == 0 and "load_rows" in outcome.stdout
    assert "its checksum is not that of its bytes" in outcome.stderr and outcome.stderr.count("\n") == 1


NOT_CAPTURES = {
    "empty.hk": (b"", "empty: its process ended before it wrote anything"),
    "text.hk": (b"print('hello')\n", "not a capture of heapkeeper, but something else"),
    "table.parquet": (b"PAR1" + bytes(100), "not a capture of heapkeeper, but a Parquet file"),
    "begun.hk": (SHOP.read_bytes()[:500], "damaged at its beginning, so that nothing can be read"),
}


@pytest.mark.parametrize("name", NOT_CAPTURES)
@pytest.mark.parametrize("verb", ["report", "lines"])
def test_what_is_no_capture_is_said_in_one_line(driver, verb, name):
    content, says = NOT_CAPTURES[name]
    (driver.folder / name).write_bytes(content)
    outcome = driver.call([COMMAND, verb, name])
    assert (outcome.status, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"heapkeeper {verb}: {name}: {says}") and outcome.stderr.count("\n") == 1


def test_files_that_cannot_be_opened(report, driver):
    (driver.folder / "folder").mkdir()
    for name, says in [("absent.hk", "No such file or directory"), ("folder", "Is a directory"), ("a\nb", "No such")]:
        outcome = report(name)
        assert (outcome.status, outcome.stdout) == (1, "")
        assert says in outcome.stderr and outcome.stderr.count("\n") == 1


def test_one_bad_file_does_not_hide_the_others(report):
    outcome = report("absent.hk", "shop.hk", str(Path(__file__)))
    assert outcome.status == 1
    assert "load_rows" in outcome.stdout
    assert [line.split(":")[1].strip() for line in outcome.stderr.splitlines()] == ["absent.hk", str(Path(__file__))]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: FILE"),
        (["--tree", "--table", "shop.hk"], "not allowed with argument"),
        (["--flames", "shop.hk"], "unrecognized arguments: --flames"),
        (["--sort", "name", "shop.hk"], "invalid choice"),
        (["--tree", "--by", "line", "shop.hk"], "--by goes with --table"),
        (["--timeline", "--at", "3", "shop.hk"], "--at goes with the summary or --tree or --table or --temporary"),
        (["--at", "noon", "shop.hk"], '"noon" is neither peak, end nor a number of seconds'),
        (["--thread", "worker-9", "shop.hk"], 'no thread "worker-9" allocated anything; threads: MainThread, worker-1'),
        (["--leaks", "--from", "x", "shop.hk"], "marks: after warm-up, before shutdown"),
    ],
    ids=lambda each: " ".join(each)[:40] if isinstance(each, list) else "",
)
def test_usage_errors_are_one_line(report, arguments, says):
    outcome = report(*arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert says in outcome.stderr
    assert outcome.stderr.startswith("heapkeeper report: ") and outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["report", "lines"])
def test_help(driver, verb):
    for option in ("-h", "--help"):
        outcome = driver.call([COMMAND, verb, option])
        assert (outcome.status, outcome.stderr) == (0, "")
        assert outcome.stdout.startswith(f"usage: heapkeeper {verb}")
    assert f"heapkeeper {verb}" in driver.call([COMMAND, "--help"]).stdout


def test_lines(driver):
    shop = driver.folder / "shop.hk"
    shutil.copy(SHOP, shop)
    outcome = driver.call([COMMAND, "lines", "shop.hk"])
    assert (outcome.status, outcome.stderr) == (0, "")
    files = [line.split("  ")[0] for line in outcome.stdout.splitlines() if line.startswith("/")]
    assert files == [f"/home/ada/shop/{name}.py" for name in ("app", "index", "cache", "log")]
    named = driver.call([COMMAND, "lines", "shop.hk", "cache.py", "json/decoder.py"])
    assert [line.split()[0] for line in named.stdout.splitlines() if line.startswith("/")] == [
        "/home/ada/shop/cache.py",
        "/usr/lib/python3.12/json/decoder.py",
    ]
    outcome = driver.call([COMMAND, "lines", "shop.hk", "absent.py"])
    assert outcome.status == 2
    assert outcome.stderr == 'heapkeeper lines: nothing was allocated in a file "absent.py"\n'


def test_a_reader_that_has_seen_enough(report, driver):
    process = driver.start([COMMAND, "report", "--table", "shop.hk"])
    process.stdout.close()
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stderr) == (-signal.SIGPIPE, b"")


def test_interrupted(driver):
    process = driver.start([COMMAND, "report", "-"], stdin=subprocess.PIPE)
    try:
        # With the native module loaded it is about to wait for a capture that never comes.
        deadline = time.monotonic() + TIMEOUT_S
        while "_native" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT_S)
    finally:
        process.kill()
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (-signal.SIGINT, b"", b"")


def on_terminal(driver, *command, env=()):
    """What a process writes to a standard output that is a terminal of 120 columns."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = driver.start(command, stdout=terminal, env={"TERM": "xterm-256color", **dict(env)})
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
    return b"".join(chunks).decode()


def test_colour_and_width_are_the_terminals(driver):
    text = on_terminal(driver, COMMAND, "report", str(SHOP))
    assert "\x1b[1mheapkeeper\x1b[0m" in text
    plain = on_terminal(driver, COMMAND, "report", "--timeline", str(SHOP), env={"NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) > 100


def test_without_a_locale(driver):
    outcome = driver.call([sys.executable, "-m", "heapkeeper", "report", str(SHOP)], env={"LANG": "C", "LC_ALL": "C"})
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.stdout == driver.call([COMMAND, "report", str(SHOP)]).stdout
