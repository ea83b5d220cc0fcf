"""Runs small programs on our heap under each collector, with the interpreter that runs pytest."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterable

import pytest
from processes import Run

MODES = ("cpython", "heapkeeper", "verify")
# Verify mode makes objects of its own for each comparison: what depends on counts comes a little earlier or later there.
EXACT_MODES = MODES[:2]

ON_THE_COLLECTOR = """\
if heapkeeper.status()["collector"]["mode"] != {mode!r}:
    raise SystemExit(f"not under {mode}: {{heapkeeper.status()['collector']}}")
"""


class Collecting(Run):
    """Runs a program under a collector; a test can not pass because another one was at work."""

    modes = MODES
    exact_modes = EXACT_MODES

    def under(self, mode: str, program: str, **options) -> subprocess.CompletedProcess[str]:
        """As calling a Run. The sampler is off: now and then it makes an object that would count."""
        program = ON_THE_COLLECTOR.format(mode=mode) + textwrap.dedent(program)
        return self(program, heapkeeper=f"gc={mode},profile=off", **options)

    def alike(self, program: str, modes: Iterable[str] = MODES, **options) -> str:
        """Asserts that a program says the same under each collector, on both streams; what it says on stdout."""
        answers = [self.under(mode, program, **options) for mode in modes]
        for mode, answer in zip(modes, answers, strict=True):
            assert (answer.stdout, answer.stderr) == (answers[0].stdout, answers[0].stderr), mode
        return answers[0].stdout


@pytest.fixture
def run() -> Collecting:
    return Collecting()


@pytest.fixture(params=MODES)
def mode(request) -> str:
    return request.param


@pytest.fixture(params=MODES[1:])
def our_mode(request) -> str:
    """The modes in which our analysis runs."""
    return request.param
