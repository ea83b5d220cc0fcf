"""Runs the tests that depend on the interpreter's version on every CPython found here but the one that runs this.

The interpreters and their environments are those of CPython's own tests (tests/cpython/interpreters.py), so one wheel
an interpreter serves both. While one interpreter's tests run, the next one's environment is made. Called by
`make test-pythons`, with options for pytest.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests" / "cpython"))

import interpreters  # noqa: E402

# The others drive whole programs, or need no interpreter: once is enough.
FOLDERS = (
    "tests/captures",
    "tests/cli",
    "tests/collector",
    "tests/exact",
    "tests/hosting",
    "tests/leak",
    "tests/memory_profiler",
    "tests/production",
    "tests/tracker",
)
# The original's tests say little about the interpreter.
ONCE = "tests/memory_profiler/test_original_suite.py"
# NumPy's environments take minutes to make, and its C interface depends on its own version: the newest interpreter has 2, all
# others 1. So one more is enough, the last.
ON_THE_LAST = "tests/numpy_buffers/test_arrays.py"


def environment(interpreter):
    """The python of the environment that the interpreter's tests run in."""
    requirements = PROJECT / "requirements-dev.txt"
    return interpreters.ensure(interpreter, name=f"dev-{interpreter.series}", requirements=requirements)


def main():
    own = ".".join(map(str, sys.version_info[:2]))
    others = [interpreter for interpreter in interpreters.find() if interpreter.series != own]
    if others:
        print(
            f"the tests that depend on the version, on CPython {', '.join(each.version for each in others)}", flush=True
        )
    failed = []
    with ThreadPoolExecutor(1) as ahead:
        for interpreter, python in zip(others, ahead.map(environment, others), strict=True):
            print(f"CPython {interpreter.version}", flush=True)
            tests = [*FOLDERS, ON_THE_LAST] if interpreter is others[-1] else FOLDERS
            command = [python, "-m", "pytest", "-q", f"--ignore={ONCE}", *sys.argv[1:], *tests]
            if subprocess.run(command, cwd=PROJECT).returncode:
                failed.append(interpreter.version)
    if failed:
        sys.exit(f"tests failed on CPython {', '.join(failed)}")


if __name__ == "__main__":
    main()
