"""Runs small programs on our heap, with the interpreter that runs pytest.

Every program is a process of its own with HEAPKEEPER in its environment, and begins by making sure that it really is on our heap: a test can
not pass because nothing was installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

ON_OUR_HEAP = """\
import heapkeeper
allocator = heapkeeper.status()["allocator"]
if allocator["name"] != "heapkeeper":
    raise SystemExit(f"not on our heap: {allocator}")
"""


class Run:
    """Runs a program and holds what came of it."""

    def __call__(
        self,
        program: str,
        *,
        heapkeeper: str | None = "on",
        flags: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        status: int = 0,
        check_heap: bool = True,
        quiet: bool = True,
        timeout_s: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program; asserts its exit status and, if `quiet`, that nothing came on stderr. `heapkeeper=None` runs it plain."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("HEAPKEEPER", "PYTHON"))}
        variables |= environment or {}
        if heapkeeper is not None:
            variables["HEAPKEEPER"] = heapkeeper
        code = textwrap.dedent(program)
        if check_heap and heapkeeper is not None:
            code = ON_OUR_HEAP + code
        answer = subprocess.run(
            [sys.executable, *flags, "-c", code, *arguments],
            env=variables,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        assert answer.returncode == status, (
            f"exit status {answer.returncode}\n{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}"
        )
        if quiet:
            assert answer.stderr == ""
        return answer


@pytest.fixture
def run() -> Run:
    """Calls as `run(program, …)`."""
    return Run()
