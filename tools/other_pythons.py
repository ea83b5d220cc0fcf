"""Runs the tests that depend on the interpreter's version on every CPython found here but the one that runs this.

The interpreters and their environments are those of CPython's own tests (tests/cpython/interpreters.py), so one wheel
an interpreter serves both. Called by `make test-pythons`.
"""

import subprocess
import sys
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
    "tests/jupyter",
    "tests/leak",
    "tests/memory_profiler",
    "tests/numpy_buffers",
    "tests/production",
    "tests/pytest_plugin",
    "tests/tracker",
)


def main():
    own = ".".join(map(str, sys.version_info[:2]))
    failed = []
    for interpreter in interpreters.find():
        if interpreter.series == own:
            continue
        python = interpreters.ensure(
            interpreter, name=f"dev-{interpreter.series}", requirements=PROJECT / "requirements-dev.txt"
        )
        print(f"CPython {interpreter.version}", flush=True)
        if subprocess.run([python, "-m", "pytest", "-q", *FOLDERS], cwd=PROJECT).returncode:
            failed.append(interpreter.version)
    if failed:
        sys.exit(f"tests failed on CPython {', '.join(failed)}")


if __name__ == "__main__":
    main()
