"""What the program sees: everything as under plain python."""

import os
import sys
import zipfile

import pytest
from processes import COMMAND

# Everything that a program can know of how it was started.
LOOK = """
import os, signal, sys
main = sys.modules["__main__"]
print("argv", sys.argv)
print("orig_argv", sys.orig_argv)
print("path", sys.path)
print("executable", sys.executable, sys.prefix)
print("flags", sys.flags)
print("warnings", sys.warnoptions, sys._xoptions)
for name in sorted(vars(main)):
    if name.startswith("__") and name != "__builtins__":
        value = vars(main)[name]
        print(name, type(value).__name__ if name in ("__loader__", "__spec__") else value)
print("cwd", os.getcwd())
print("stdin", sys.stdin.encoding, sys.stdin.errors, sys.stdin.isatty(), sys.stdin.read())
print("umask", oct(os.umask(0o22)))
print("signals", {number: str(signal.getsignal(number)) for number in signal.valid_signals() if signal.getsignal(number)})
print("mask", signal.pthread_sigmask(signal.SIG_BLOCK, []))
print("descriptors", sorted(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None)
# `_` names the command a shell started, PWD and the like are the same.
print("environment", sorted((k, v) for k, v in os.environ.items() if k not in ("HEAPKEEPER", "_")))
"""
# A program may see these without any option of ours: they look like heapkeeper's own.
ARGUMENTS = ["-q", "--json", "--max-heap", "banana", "-h", "-m", "x", "-c", "--", "-", "", "a b", "ä"]


def test_script(driver):
    driver.write("app.py", LOOK)
    outcome = driver.same("app.py", *ARGUMENTS, stdin="some input")
    assert str(["app.py", *ARGUMENTS]) in outcome.stdout
    assert "some input" in outcome.stdout


def test_script_elsewhere(driver):
    (driver.folder / "deep er").mkdir()
    driver.write("deep er/app.py", LOOK)
    driver.same("deep er/app.py")
    driver.same(str(driver.folder / "deep er/app.py"), "x")


def test_module(driver):
    driver.write("app.py", LOOK)
    assert "orig_argv" in driver.same("-m", "app", *ARGUMENTS).stdout
    (driver.folder / "package").mkdir()
    driver.write("package/__init__.py", "print('package')")
    driver.write("package/__main__.py", LOOK)
    assert driver.same("-m", "package", "x").stdout.startswith("package\n")
    driver.same("-mapp", "-q")


def test_code(driver):
    assert "'-c'" in driver.same("-c", LOOK, *ARGUMENTS).stdout
    driver.same("-cprint('joined')", "-q")


def test_standard_input(driver):
    driver.same("-", *ARGUMENTS, stdin=LOOK)
    driver.same("-c", "import sys; print(sys.stdin.read())", stdin="x" * 100_000)


def test_folder_and_archive(driver):
    (driver.folder / "folder").mkdir()
    driver.write("folder/__main__.py", LOOK)
    driver.same("folder", *ARGUMENTS)
    with zipfile.ZipFile(driver.folder / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", LOOK)
    driver.same("archive.pyz", *ARGUMENTS)


def test_script_with_a_dash(driver):
    driver.write("-mapp.py", LOOK)
    plain = driver.python("--", "-mapp.py", "x")
    assert driver.run("-q", "--", "-mapp.py", "x") == plain
    assert plain.status == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["-X", "dev"],
        ["-Xdev", "-bb"],
        ["-W", "error", "-W", "ignore::UserWarning"],
        ["-Werror"],
        ["-BOO"],
        ["-I"],
        ["-Es"],
        ["-u", "-X", "utf8=0"],
        ["--check-hash-based-pycs", "always"],
        ["-X", "faulthandler", "-X", "mine=1"],
    ],
    ids=" ".join,
)
def test_interpreter_flags(driver, flags):
    driver.write("app.py", LOOK)
    driver.same("app.py", "-q", flags=flags)
    driver.same("-c", LOOK, "x", flags=flags)


@pytest.mark.parametrize("joined", ["-Bm", "-OOm"])
def test_flags_joined_with_the_module_option(driver, joined):
    driver.write("app.py", LOOK)
    plain = driver.python(joined.removesuffix("m"), "app.py")
    assert driver.call([sys.executable, joined, "heapkeeper", "run", "-q", "app.py"]) == plain


@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": ""},  # The C locale, which CPython coerces to UTF-8 in its own environment.
        {"LANG": "C"},
        {"LC_CTYPE": "C"},
        {"LC_ALL": "C"},
        {"LC_CTYPE": "C.UTF-8"},
        {"PYTHONUTF8": "0", "LANG": "C"},
        {"PYTHONCOERCECLOCALE": "0", "LANG": "C"},
        {"PYTHONIOENCODING": "ascii:backslashreplace"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONDEVMODE": "1"},
        {"PYTHONUNBUFFERED": "1"},
        {"PYTHONHASHSEED": "7"},
        {"PYTHONMALLOC": "debug"},
        {"PYTHONMALLOC": "malloc"},
        {"PYTHONTRACEMALLOC": "3"},
    ],
    ids=lambda each: " ".join(f"{name}={value}" for name, value in each.items()),
)
def test_environment_passes_through(driver, environment):
    driver.same("-c", LOOK + "print(hash('x') if 'PYTHONHASHSEED' in os.environ else '')", env=environment)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_ignored_signals_stay_ignored(driver, name):
    driver.write("app.py", f"import signal; print(signal.getsignal(signal.{name}) is signal.SIG_IGN)")
    shell = ["sh", "-c", f'trap "" {name.removeprefix("SIG")}; exec "$@"', "sh"]
    plain = driver.call([*shell, sys.executable, "app.py"])
    assert plain.stdout == "True\n"
    assert driver.call([*shell, COMMAND, "run", "-q", "app.py"]) == plain


def test_children_get_the_signals_and_descriptors_they_would_get(driver):
    # A child of the program sees what a program's dispositions become after an exec.
    look = "import os; os.system('grep -E \"Sig(Blk|Ign|Cgt)\" /proc/self/status; ls /proc/self/fd')"
    if not os.path.exists("/proc/self/status"):
        pytest.skip("reads Linux's /proc")
    assert "SigIgn" in driver.same("-c", look).stdout


def test_inherited_descriptor(driver):
    read, write = os.pipe()
    try:
        outcome = driver.run("-q", "-c", f"import os; os.write({write}, b'through')", pass_fds=[write])
        assert outcome.status == 0
        assert os.read(read, 100) == b"through"
    finally:
        os.close(read)
        os.close(write)


def test_no_file_is_written(driver):
    driver.environment.pop("PYTHONDONTWRITEBYTECODE")
    driver.environment |= {"HOME": str(driver.folder), "TMPDIR": str(driver.folder)}
    driver.write("app.py", "data = [bytes(1000) for _ in range(10_000)]; print(len(data))")
    before = sorted(driver.folder.rglob("*"))
    driver.folder.chmod(0o555)
    try:
        assert driver.same("app.py").stdout == "10000\n"
    finally:
        driver.folder.chmod(0o755)
    assert sorted(driver.folder.rglob("*")) == before


def test_working_folder_that_is_gone(driver):
    (driver.folder / "gone").mkdir()
    leave = ["sh", "-c", 'cd gone; rmdir "$PWD"; exec "$@"', "sh"]
    plain = driver.call([*leave, sys.executable, "-c", "print(1)"])
    (driver.folder / "gone").mkdir()
    assert driver.call([*leave, COMMAND, "run", "-q", "-c", "print(1)"]) == plain


def test_output_to_a_closed_pipe(driver):
    # The program's own complaint about its lost output, and exit status 120, stay.
    driver.write("app.py", "print('x' * 10)")
    shell = ["sh", "-c", '{ "$@"; echo "status $?" >&2; } | true', "sh"]
    driver.write("slow.py", "import time; time.sleep(0.5); print('x')")
    plain = driver.call([*shell, sys.executable, "slow.py"])
    assert "BrokenPipeError" in plain.stderr
    assert driver.call([*shell, COMMAND, "run", "-q", "slow.py"]) == plain
    with_report = driver.call([*shell, COMMAND, "run", "slow.py"])
    assert "BrokenPipeError" in with_report.stderr
    assert with_report.stderr.endswith("status 120\n")


def test_output_to_a_full_device(driver):
    driver.write("app.py", "print('x')")
    for command in ([sys.executable], [COMMAND, "run", "-q"], [COMMAND, "run"]):
        with open("/dev/full", "w") as full:
            outcome = driver.call([*command, "app.py"], stdout=full)
        assert outcome.status == 120
        assert "No space left on device" in outcome.stderr


def test_interactive(driver):
    # Without a terminal, `-i` shows nothing but the prompt; the flag must reach the new interpreter.
    driver.write("app.py", "x = 41")
    plain = driver.python("-i", "app.py", stdin="print(x + 1)\n")
    ours = driver.call([sys.executable, "-i", "-m", "heapkeeper", "run", "-q", "app.py"], stdin="print(x + 1)\n")
    assert ours == plain
    assert ours.stdout == "42\n"


def test_same_process(driver):
    with driver.start([COMMAND, "run", "-q", "-c", "import os; print(os.getpid(), os.getppid())"]) as process:
        stdout, _ = process.communicate(timeout=60)
    assert stdout.split() == [b"%d" % process.pid, b"%d" % os.getpid()]
