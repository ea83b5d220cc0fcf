"""Runs `python -m test` and notes each test case's verdict as it falls.

Called by run.py inside the interpreter under test: `recorder.py CASES_FILE REGRTEST_ARGUMENT…`. One line a verdict goes to CASES_FILE:
`start|pass|fail|error|skip|expected|unexpected`, a tab, the case's id, a tab, a reason on one line. Nothing is kept in memory or in an open
descriptor: what ran before a crash is in the file, and tests that count descriptors see none of ours.

regrtest's own `--junit-xml` was not enough: it is written at the end only, and it loses failing subtests and failing `setUpClass`.
"""

import os
import runpy
import sys
import unittest

CASES_FILE = os.path.abspath(sys.argv[1])
OWNER_PID = os.getpid()

# Bound now: tests replace these while they run.
_open, _write, _close, _getpid = os.open, os.write, os.close, os.getpid


def note(verdict: str, test: object, reason: str = "") -> None:
    """Appends one verdict; silent in forked children, whose unittest state is a copy."""
    if _getpid() != OWNER_PID:
        return
    try:
        identity = test.id()  # type: ignore[attr-defined]
    except Exception:
        identity = repr(test)
    line = "\t".join((verdict, " ".join(identity.split()), " ".join(reason.split())[:400])) + "\n"
    descriptor = _open(CASES_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        _write(descriptor, line.encode("utf-8", "backslashreplace"))
    finally:
        _close(descriptor)


def describe(error: tuple) -> str:
    """An exception as `Type: text`."""
    kind, value = error[0], error[1]
    try:
        return f"{kind.__name__}: {value}"
    except Exception:
        return str(kind)


def watch(result: type) -> None:
    """Makes every unittest result note what it is told."""

    def before(name, noting):
        original = getattr(result, name)

        def method(self, test, *arguments):
            noting(test, *arguments)
            return original(self, test, *arguments)

        method.__name__ = name
        setattr(result, name, method)

    def subtest(test, subtest, error):
        if error is not None:
            kind = "fail" if issubclass(error[0], test.failureException) else "error"
            note(kind, test, f"{subtest}: {describe(error)}")

    before("startTest", lambda test: note("start", test))
    before("addSuccess", lambda test: note("pass", test))
    before("addFailure", lambda test, error: note("fail", test, describe(error)))
    before("addError", lambda test, error: note("error", test, describe(error)))
    before("addSkip", lambda test, reason: note("skip", test, str(reason)))
    before("addExpectedFailure", lambda test, error: note("expected", test, describe(error)))
    before("addUnexpectedSuccess", lambda test: note("unexpected", test))
    before("addSubTest", subtest)


if __name__ == "__main__":
    watch(unittest.result.TestResult)
    sys.argv[:] = [sys.argv[0], *sys.argv[2:]]
    sys.path[0] = os.getcwd()
    runpy.run_module("test", run_name="__main__", alter_sys=True)
