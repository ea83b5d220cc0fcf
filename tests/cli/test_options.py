"""`heapkeeper run`'s own options, help and errors."""

import json
import sys

import pytest
from processes import COMMAND


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "no program given"),
        (["run", "-q"], "no program given"),
        (["run", "--"], "no program given"),
        (["run", "-m"], "-m needs a module"),
        (["run", "-c"], "-c needs code"),
        (["run", "--max-heap", "banana", "app.py"], "--max-heap: 'banana' is not a size"),
        (["run", "--max-heap=banana", "app.py"], "--max-heap: 'banana' is not a size"),
        (["run", "--max-heap", "-5", "app.py"], "--max-heap: '-5' is not a size"),
        (["run", "--max-heap", "", "app.py"], "--max-heap: '' is not a size"),
        (["run", "--max-heap", "0", "app.py"], "above 0"),
        (["run", "--max-heap", "1023K", "app.py"], "less than an interpreter needs"),
        (["run", "--max-heap", "9" * 5000, "app.py"], "more memory than a process can address"),
        (["run", "--max-heap"], "--max-heap needs a value"),
        (["run", "--sample-bytes", "often", "app.py"], "--sample-bytes: 'often' is not a size"),
        (["run", "--sample-bytes", "0", "app.py"], "above 0"),
        (["run", "--profile", "exactly", "app.py"], "--profile: 'exactly' is not one of sample, exact, off"),
        (["run", "--allocator", "glibc", "app.py"], "--allocator: 'glibc' is not one of heapkeeper, cpython"),
        (
            ["run", "--gc", "generational", "app.py"],
            "--gc: 'generational' is not one of heapkeeper, background, cpython, verify",
        ),
        (["run", "--maxheap", "64M", "app.py"], "unknown option --maxheap"),
        (["run", "--max", "64M", "app.py"], "unknown option --max"),
        (["run", "-x", "app.py"], "unknown option -x"),
        (["run", "--json=yes", "app.py"], "--json takes no value"),
        (["run", "-q", "--json", "app.py"], "contradict"),
        (["--what"], "unknown option --what"),
        (["app.py"], "try: heapkeeper run app.py"),
        ([], "no verb given"),
    ],
    ids=lambda each: " ".join(each)[:40] if isinstance(each, list) else "",
)
def test_usage_errors_are_one_line(driver, arguments, says):
    driver.write("app.py", "print('must not run')")
    for command in ([COMMAND], [sys.executable, "-m", "heapkeeper"]):
        outcome = driver.call([*command, *arguments])
        assert (outcome.status, outcome.stdout) == (2, "")
        assert says in outcome.stderr
        assert outcome.stderr.count("\n") == 1 and outcome.stderr.startswith("heapkeeper")


def test_a_bad_environment_is_an_error_of_run(driver):
    # `run` is asked explicitly: it does not guess. (Its own start-up has said so too, in the first line.)
    outcome = driver.run("-c", "print('must not run')", env={"HEAPKEEPER": "max-heap=banana"})
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "HEAPKEEPER: max-heap=banana: 'banana' is not a size" in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "variable"),
    [
        ([], "report=PID"),
        (["-q"], "on"),
        (["--quiet"], "on"),
        (["--json"], "report=PID,json"),
        (["--max-heap", "1G"], f"report=PID,max-heap={2**30}"),
        (["--max-heap=1.5G", "-q"], f"max-heap={3 * 2**29}"),
        (["--sample-bytes", "64K", "--max-heap", "2G"], f"report=PID,sample-bytes=65536,max-heap={2**31}"),
        (["--profile", "off"], "report=PID,profile=off"),
        (["--profile", "off", "--profile", "sample"], "report=PID"),
        (["--allocator", "cpython"], "report=PID,allocator=cpython"),
        (["--gc", "heapkeeper", "-q"], "gc=heapkeeper"),
        (["--at-heap", "1.5G", "-q"], f"at-heap={3 * 2**29}"),
        (["--on-limit", "capture", "--max-heap=2G"], f"report=PID,max-heap={2**31},on-limit=capture"),
        (["--socket=/tmp/absent/x-%p.sock", "-q"], "socket=/tmp/absent/x-%p.sock"),
        (["--gc=verify"], "report=PID,gc=verify"),
        (["--gc", "verify", "--gc", "cpython"], "report=PID,gc=cpython"),
    ],
    ids=" ".join,
)
def test_options_reach_the_program_and_its_children(driver, options, variable):
    look = "import os, sys; print(os.environ['HEAPKEEPER'].replace(str(os.getpid()), 'PID'))"
    assert driver.run(*options, "-c", look).stdout == variable + "\n"


def test_options_change_what_the_environment_asks_for(driver):
    look = "import os, sys; print(os.environ['HEAPKEEPER'])"
    inherited = {"HEAPKEEPER": "report,json,max-heap=1G,seed=7,log=processes"}
    outcome = driver.run("-q", "--max-heap", "2G", "-c", look, env=inherited)
    assert outcome.stdout == f"max-heap={2**31},seed=7,log=processes\n"
    assert outcome.stderr == ""
    assert driver.run("-q", "-c", look, env={"HEAPKEEPER": "off"}).stdout == "on\n"


@pytest.mark.parametrize("size", ["8M", "64M"])
def test_limit(driver, size):
    code = """
def hog(): return [bytes(1 << 20) for _ in range(200)]
try: hog()
except MemoryError: print("caught")
print(len([bytes(100) for _ in range(1000)]), flush=True)
hog()
"""
    outcome = driver.run("-q", "--max-heap", size, "-c", code)
    assert (outcome.status, outcome.stdout) == (1, "caught\n1000\n")
    assert outcome.stderr.endswith("MemoryError\n")


def test_allocator_cpython(driver):
    status = json.loads(driver.run("--allocator", "cpython", "--json", "-c", "pass").stderr)
    assert status["allocator"]["name"] == "cpython"


def test_help(driver):
    for arguments in (["--help"], ["-h"]):
        outcome = driver.call([COMMAND, *arguments])
        assert (outcome.status, outcome.stderr) == (0, "")
        assert "heapkeeper run app.py" in outcome.stdout
    for arguments in (["--help"], ["-h"], ["-q", "--help"], ["--max-heap", "1G", "-h", "app.py"]):
        outcome = driver.run(*arguments)
        assert (outcome.status, outcome.stderr) == (0, "")
        for option in ("--max-heap", "--profile", "--sample-bytes", "--allocator", "--gc", "--json", "-q", "-m", "-c"):
            assert f"  {option}" in outcome.stdout
        assert max(map(len, outcome.stdout.splitlines())) <= 110


def test_help_in_an_ascii_terminal(driver):
    for arguments in ([COMMAND, "--help"], [COMMAND, "run", "--help"], [COMMAND, "--version"]):
        assert driver.call(arguments, env={"PYTHONIOENCODING": "ascii"}).status == 0


def test_version(driver):
    import platform
    from importlib.metadata import version

    expected = f"heapkeeper {version('heapkeeper')} (CPython {platform.python_version()})\n"
    assert driver.call([COMMAND, "--version"]).stdout == expected
    assert driver.python("-c", "import heapkeeper; print(heapkeeper.__version__)").stdout.strip() in expected
