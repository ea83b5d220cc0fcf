"""The socket of a process, and `heapkeeper control`, its client."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
from processes import COMMAND, TIMEOUT_S

SERVICE = """
import os, sys, time
sys.stdout.write("up\\n")
sys.stdout.flush()

def serve():
    kept.append(bytearray(10_000_000))
    sys.stdin.readline()

kept = []
serve()
"""


@pytest.fixture
def service(driver):
    """Starts a service with a socket and waits until it is up; ends it after the test."""
    driver.write("app.py", SERVICE)
    running = []

    def start(*options, program=("app.py",), environment="socket=s.sock"):
        command = [COMMAND, "run", "-q", *options] if options else [sys.executable]
        env = {} if options else {"HEAPKEEPER": environment}
        process = driver.start([*command, *program], stdin=subprocess.PIPE, env=env)
        running.append(process)
        assert process.stdout.readline() == b"up\n"
        time.sleep(0.05)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def control(driver):
    def call(*arguments, status=0):
        outcome = driver.call([COMMAND, "control", *map(str, arguments)])
        assert outcome.status == status, outcome
        if status == 0:
            assert outcome.stderr == ""
            return outcome.stdout
        assert outcome.stderr.count("\n") == 1
        assert outcome.stderr.startswith("heapkeeper control: ")
        return outcome.stderr

    return call


def ask(path, *lines):
    """The answers to some lines, from one connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall("".join(f"{line}\n" for line in lines).encode())
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def end(process):
    process.stdin.write(b"\n")
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, stderr.decode()


def test_status(driver, service, control):
    process = service("--socket", "app-%p.sock", "--max-heap", "1G")
    answer = json.loads(control(process.pid, "status"))
    assert (answer["pid"], answer["program"], answer["profile"]) == (process.pid, "app.py", "sample")
    assert answer["capture"] is None and answer["limit_bytes"] == 2**30
    assert 10_000_000 < answer["heap_bytes"] <= answer["heap_peak_bytes"]
    assert answer["rss_bytes"] > 10_000_000
    path = driver.folder / f"app-{process.pid}.sock"
    facts = path.stat()
    assert stat.S_ISSOCK(facts.st_mode) and facts.st_mode & 0o777 == 0o600
    assert json.loads(control(path, "status"))["pid"] == process.pid
    assert end(process) == (0, "")
    assert not path.exists()
    assert "there is no such process" in control(process.pid, "status", status=1)
    assert "No such file" in control(path, "status", status=1)


def test_a_capture_from_begin_to_end(driver, service, control):
    process = service()
    assert "no capture is being written" in control(process.pid, "stop", status=1)
    assert "no capture is being written" in control(process.pid, "mark", "x", status=1)
    file = f"{driver.folder}/by hand.hk"
    assert control(process.pid, "start", "by hand.hk") == file + "\n"
    assert json.loads(control(process.pid, "status"))["capture"] == file
    assert "a capture is being written already" in control(process.pid, "start", status=1)
    assert control(process.pid, "mark", "a moment — of calm") == file + "\n"
    assert control(process.pid, "stop") == file + "\n"
    reports = [driver.call([COMMAND, "report", view, "by hand.hk"]) for view in ("--timeline", "--leaks", "--at=end")]
    assert [(report.status, report.stderr) for report in reports] == [(0, "")] * 3
    # The process goes on.
    assert all("exit" not in report.stdout and "the stop" in report.stdout for report in reports)
    report = reports[0]
    assert "a moment — of calm" in report.stdout
    assert "File exists" in control(process.pid, "start", "by hand.hk", status=1)
    # Where those go that nobody gave a name, twice.
    first, second = f"heapkeeper-app.{process.pid}.hk", f"heapkeeper-app.{process.pid}-1.hk"
    for name in (first, second):
        assert control(process.pid, "start") == f"{driver.folder}/{name}\n"
        if name == first:
            control(process.pid, "stop")
    assert end(process) == (0, "")
    text = driver.call([COMMAND, "report", second]).stdout
    assert "app.py:7" in text and "killed" not in text


def test_fetch(driver, service, control):
    process = service()
    control(process.pid, "fetch", "-o", "short.hk")
    assert "app.py:7" in driver.call([COMMAND, "report", "short.hk"]).stdout
    assert "exists" in control(process.pid, "fetch", "-o", "short.hk", status=2)
    control(process.pid, "start", "long.hk")
    control(process.pid, "mark", "now")
    os.chmod(driver.folder / "short.hk", 0o644)
    control(process.pid, "fetch", "-f", "-o", "short.hk")
    # As every capture, also where one of another mode was there.
    assert (driver.folder / "short.hk").stat().st_mode & 0o777 == 0o600
    outcome = driver.call([COMMAND, "report", "--timeline", "short.hk"])
    assert (outcome.status, outcome.stderr) == (0, "") and "now" in outcome.stdout
    # It goes on.
    assert json.loads(control(process.pid, "status"))["capture"].endswith("long.hk")


def test_a_busy_program_answers(driver, service, control):
    """The GIL is never asked for."""
    code = SERVICE.replace("sys.stdin.readline()", "print('busy', sum(range(10**12)))")
    driver.write("busy.py", code)
    process = service(program=("busy.py",))
    assert json.loads(control(process.pid, "status"))["pid"] == process.pid
    control(process.pid, "fetch", "-o", "now.hk")
    assert "busy.py:7" in driver.call([COMMAND, "report", "now.hk"]).stdout


def test_protocol(driver, service):
    process = service()
    path = driver.folder / "s.sock"
    lines = ask(path, "status", "", "dance", "mark", "start relative.hk", "stop now", "fetch it").splitlines()
    assert "pid" in json.loads(lines[0])
    assert ["error" in json.loads(line) for line in lines] == [False] + [True] * 6
    header, _, content = ask(path, "fetch").partition(b"\n")
    assert json.loads(header) == {"bytes": len(content)} and len(content) > 1000
    assert "error" in json.loads(ask(path, "x" * 8191))
    # One that says nothing, one that goes away at once, one in the middle of a line: none is in others' way for long.
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(path))
    ask(path)
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(path))
        rude.sendall(b"fetch\nstat")
    threads = [threading.Thread(target=ask, args=(path, "status")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert end(process) == (0, "")
    silent.close()


def test_the_program_ends_while_somebody_is_connected(driver, service):
    process = service()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(driver.folder / "s.sock"))
        connection.sendall(b"stat")
        time.sleep(0.1)
        began = time.monotonic()
        assert end(process) == (0, "")
        assert time.monotonic() - began < 4
        assert connection.recv(100) == b""


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(driver, service, control):
    path = driver.folder / "s.sock"
    first = service()
    first.kill()
    first.communicate()
    assert path.exists()
    second = service()
    assert json.loads(control(path, "status"))["pid"] == second.pid
    third = service()
    assert json.loads(control(path, "status"))["pid"] == second.pid
    assert json.loads(control(third.pid, "status"))["pid"] == third.pid
    assert (driver.folder / f"s.{third.pid}.sock").exists()
    assert end(third) == (0, "")
    assert json.loads(control(second.pid, "status"))["pid"] == second.pid
    # Somebody has put another file there: it is not ours to remove.
    path.unlink()
    path.write_text("mine")
    assert end(second) == (0, "")
    assert path.read_text() == "mine"


def test_names_that_cannot_be(driver):
    driver.write("file.sock", "mine")
    for name, says in [
        ("file.sock", "the file exists and is no socket"),
        ("absent/s.sock", "No such file"),
        ("s" * 120, "107 bytes"),
    ]:
        outcome = driver.python("-c", "print(1)", env={"HEAPKEEPER": f"socket={name}"})
        assert (outcome.status, outcome.stdout) == (0, "1\n")
        assert says in outcome.stderr and outcome.stderr.count("\n") == 1
    assert (driver.folder / "file.sock").read_text() == "mine"


FORKS = """
import os, sys, time
pid = os.fork()
if pid == 0:
    theirs = bytearray(20_000_000)
    time.sleep(60)
    os._exit(0)
print("up", flush=True)
sys.stdin.readline()
os.kill(pid, 9)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("name", ["s.sock", "s.%p.sock"])
def test_a_child_answers_for_itself(driver, service, control, wait_for, name):
    driver.write("forks.py", FORKS)
    process = service(program=("forks.py",), environment=f"socket={name}")
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        (child,) = map(int, file.read().split())
    wait_for((driver.folder / f"s.{child}.sock").exists)
    for pid in (child, process.pid):
        wait_for(lambda pid=pid: driver.call([COMMAND, "control", str(pid), "status"]).status == 0)
        assert json.loads(control(pid, "status"))["pid"] == pid
    # The child has nothing of its parent's socket: with the parent gone nobody is left to answer there.
    process.kill()
    process.wait(TIMEOUT_S)
    try:
        with pytest.raises(ConnectionRefusedError):
            ask(driver.folder / name.replace("%p", str(process.pid)), "status")
        assert json.loads(control(child, "status"))["pid"] == child
    finally:
        os.kill(child, signal.SIGKILL)


def test_workers_of_a_pool(driver, wait_for):
    code = """
import multiprocessing, os

def work(_):
    return os.getpid(), os.path.exists(f"s.{os.getpid()}.sock")

if __name__ == "__main__":
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            print(all(has for _, has in pool.map(work, range(8))))
            pool.close()
            pool.join()
"""
    driver.write("pool.py", code)
    outcome = driver.python("pool.py", env={"HEAPKEEPER": "socket=s.%p.sock"})
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "True\nTrue\n", "")
    # The pool's helpers end a little later.
    wait_for(lambda: not list(driver.folder.glob("*.sock")))


@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
def test_another_user_is_not_served(driver, service):
    """Not even one whom the file lets in, as root it does."""
    service()
    path = driver.folder / "s.sock"
    os.chmod(path, 0o666)
    for folder in (driver.folder, *list(driver.folder.parents)[:3]):
        os.chmod(folder, 0o755)
    code = f"""
import os, socket
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect({str(path)!r})
try:
    connection.sendall(b"status\\n")
except BrokenPipeError:
    pass
print(connection.recv(1000).decode())
"""
    outcome = driver.python("-c", code)
    assert outcome.stdout.strip() == '{"error":"only the user that this process runs as is served"}'


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: PID|SOCKET"),
        (["1"], "required"),
        (["1", "dance"], "invalid choice"),
        (["1", "mark"], "mark needs a NAME"),
        (["1", "mark", ""], "is empty"),
        (["1", "mark", "a\nb"], "several lines"),
        (["1", "stop", "x"], "stop goes without 'x'"),
        (["1", "fetch"], "fetch needs -o FILE"),
        (["1", "stop", "-o", "x"], "-o and -f go with fetch"),
    ],
    ids=lambda each: " ".join(each)[:40] if isinstance(each, list) else "",
)
def test_usage_errors(control, arguments, says):
    assert says in control(*arguments, status=2)


def test_help(driver):
    for option in ("-h", "--help"):
        outcome = driver.call([COMMAND, "control", option])
        assert (outcome.status, outcome.stderr) == (0, "")
        assert outcome.stdout.startswith("usage: heapkeeper control PID|SOCKET")
    assert "heapkeeper control" in driver.call([COMMAND, "--help"]).stdout


def test_processes_without_a_socket(driver, control):
    assert "it was started without a socket" in control(os.getpid(), "status", status=1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(driver.folder / "other.sock"))
    assert "refused" in control(driver.folder / "other.sock", "status", status=1)
