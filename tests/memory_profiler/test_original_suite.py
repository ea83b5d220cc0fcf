"""memory_profiler's own tests, run in place against ours: from its source distribution, with `memory_profiler` being ours.

Most of them are programs that pass by ending well; those that need `@profile` without an import run under `-m`.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

VERSION = "0.61.0"
PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests" / "cpython"))

import interpreters  # noqa: E402

STORE = PROJECT / ".venvs" / "memory_profiler"

# Named like the original, and nothing but ours under its name.
SHIM = """\
import sys
import heapkeeper.memory_profiler
if __name__ == "__main__":
    import runpy
    runpy.run_module("heapkeeper.memory_profiler", run_name="__main__", alter_sys=True)
sys.modules["memory_profiler"] = heapkeeper.memory_profiler
"""

# File of the suite: under `-m memory_profiler`, or as a program that imports it.
FILES = {
    "test_as.py": True,
    "test_async.py": False,
    "test_attributes.py": False,
    "test_exception.py": False,
    "test_func.py": True,
    "test_gen.py": True,
    "test_global.py": True,
    "test_import.py": False,
    "test_increment_display.py": False,
    "test_loop.py": True,
    "test_loop_decorated.py": True,
    "test_memory_usage.py": False,
    "test_mprofile.py": True,
    "test_nested.py": True,
    "test_precision_command_line.py": True,
    "test_precision_import.py": False,
    "test_stream_unicode.py": False,
    "test_tracemalloc.py": False,
    "test_unicode.py": True,
}

# Tests of mprof, another program of the distribution, which has no counterpart here.
OF_MPROF = {"test_mprof.py", "test_exit_code.py"}


@pytest.fixture(scope="module")
def suite():
    """The folder with the tests, fetched once."""
    with interpreters.locked(STORE.with_suffix(".lock")):
        return fetched()


def fetched():
    folder = STORE / f"memory_profiler-{VERSION}" / "test"
    if not folder.exists():
        STORE.mkdir(parents=True, exist_ok=True)
        fetch = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--dest",
            STORE,
        ]
        subprocess.run([*fetch, f"memory_profiler=={VERSION}"], check=True)
        with tarfile.open(STORE / f"memory_profiler-{VERSION}.tar.gz") as archive:
            archive.extractall(STORE, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


def test_the_list_is_complete(suite):
    assert {path.name for path in suite.glob("test_*.py")} == FILES.keys() | OF_MPROF


@pytest.mark.parametrize("name", FILES)
def test_file(driver, suite, name):
    driver.write("memory_profiler.py", SHIM)
    command = ["-m", "memory_profiler"] if FILES[name] else []
    outcome = driver.python(
        *command, str(suite / name), env={"PYTHONPATH": os.fspath(driver.folder), "PYTHONIOENCODING": "utf-8"}
    )
    assert outcome.status == 0, outcome.stderr[-2000:]
    assert "Traceback" not in outcome.stderr
    if name == "test_increment_display.py":
        assert outcome.stderr.splitlines()[-1] == "OK" and "Ran 4 tests" in outcome.stderr
    else:
        assert outcome.stderr == ""
    if FILES[name] and name != "test_global.py":
        assert "Line #    Mem usage    Increment  Occurrences   Line Contents" in outcome.stdout
