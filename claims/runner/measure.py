"""Runs one program on one Python and holds its answer against its own text."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from claims.runner.pythons import OURS, clean_environment
from claims.runner.rows import NOT_RUN, PROJECT, VERDICTS

# `make claims` puts them there. They are made for the Python that runs this; the others take what they can import.
PACKAGES = Path(sys.prefix) / "claims"
NOT_INSTALLED = "not installed"
_TIMEOUT_S = 120


@dataclass(frozen=True)
class Result:
    """What came of a program on a Python."""

    verdict: str
    """One of VERDICTS, NOT_INSTALLED, or NOT_RUN with a reason; empty when the program gave none."""
    facts: dict = field(default_factory=dict)
    problem: str = ""
    """Why this fails the command: in one line, or with the program's errors below."""


def measure(row, python):
    """The result of a row on a Python; None when the row has nothing to say of our heap, or of our crate."""
    expected = row.expected(python.implementation, python.version)
    if expected is None:
        if python.implementation in OURS:
            return None
        return Result("", {}, f"{row.program} says nothing of {python.detail}")
    if expected.startswith(NOT_RUN):
        return Result(expected)
    return judge(row, python, expected, *run(row, python))


def run(row, python):
    """Exit status, output and errors of a program."""
    environment = clean_environment() | python.environment
    if row.packages:
        environment["PYTHONPATH"] = str(PACKAGES)
    command = [*python.command, *row.options.get(python.implementation, []), row.program_for(python.implementation)]
    try:
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return None, "", f"no end within {_TIMEOUT_S} s"
    return done.returncode, done.stdout, done.stderr


def judge(row, python, expected, status, output, errors):
    """The result that a program's exit status, output and errors stand for."""
    lines = output.splitlines() or [""]
    try:
        facts = json.loads(lines[-1])
        verdict = facts.pop("verdict")
    except (ValueError, AttributeError, KeyError, TypeError):
        status = status or "no verdict"
    if status != 0:
        return Result(
            "",
            {},
            f"{row.program_for(python.implementation)} on {python.detail} failed ({status}):{os.linesep}{errors or output}",
        )
    if row.packages and verdict == NOT_INSTALLED:
        return Result(verdict)
    if verdict not in VERDICTS:
        return Result(
            "", {}, f"{row.program_for(python.implementation)} on {python.detail} says {verdict!r}, which is no verdict"
        )
    problem = ""
    if verdict != expected:
        problem = f"{row.program_for(python.implementation)} on {python.detail} says {verdict!r}, its text {expected!r}; measured: {facts}"
    return Result(verdict, facts, problem)
