"""Runs the tests that depend on the interpreter's version on every CPython found here but the one that runs this.

The interpreters and their environments are those of CPython's own tests (tests/cpython/interpreters.py), so one wheel
an interpreter serves both. Two interpreters are at work at a time; what each says is shown when it is through. Called by
`make test-pythons`.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests" / "cpython"))

import interpreters  # noqa: E402

AT_A_TIME = 2

# The others drive whole programs, or need no interpreter: once is enough.
FOLDERS = (
    "tests/captures",
    "tests/cli",
    "tests/collector",
    "tests/exact",
    "tests/hosting",
    "tests/jupyter",
    "tests/leak",
    "tests/memory_profiler",
    "tests/numpy_buffers",
    "tests/production",
    "tests/pytest_plugin",
    "tests/tracker",
)
# NumPy's own tests take minutes, and say little about the interpreter.
ONCE = ("tests/numpy_buffers/test_numpys_own_suite.py",)


def run(interpreter):
    """Whether the tests pass on this interpreter, and what pytest said."""
    python = interpreters.ensure(
        interpreter, name=f"dev-{interpreter.series}", requirements=PROJECT / "requirements-dev.txt"
    )
    command = [python, "-m", "pytest", "-q", *FOLDERS, *(f"--ignore={file}" for file in ONCE)]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode == 0, done.stdout


def main():
    own = ".".join(map(str, sys.version_info[:2]))
    others = [interpreter for interpreter in interpreters.find() if interpreter.series != own]
    if others:
        print(
            f"the tests that depend on the version, on CPython {', '.join(each.version for each in others)}", flush=True
        )
    failed = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        runs = {pool.submit(run, interpreter): interpreter.version for interpreter in others}
        for done in as_completed(runs):
            passed, said = done.result()
            print(f"CPython {runs[done]}\n{said}", flush=True)
            if not passed:
                failed.append(runs[done])
    if failed:
        sys.exit(f"tests failed on CPython {', '.join(sorted(failed))}")


if __name__ == "__main__":
    main()
