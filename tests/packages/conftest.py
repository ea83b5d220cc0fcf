"""Runs programs that use real packages, plain and on our heap, with the interpreter that runs pytest.

The packages live in an environment of their own, `.venvs/packages-X.Y`, made once from requirements.txt.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cpython"))

import interpreters  # noqa: E402


@dataclass
class Both:
    """A program's two runs."""

    plain: str
    ours: str
    status: dict
    """heapkeeper.status() at the end of the run on our heap."""


@pytest.fixture(scope="session")
def python() -> Path:
    """The python of the packages' environment."""
    interpreter = interpreters.inspect(sys.executable)
    assert interpreter is not None, f"{sys.executable} is no CPython 3.10 to 3.13"
    return interpreters.ensure(
        interpreter, name=f"packages-{interpreter.series}", requirements=HERE / "requirements.txt"
    )


@pytest.fixture
def run_both(python, tmp_path):
    """Runs a program of programs/ on both sides and proves which allocator served it."""

    def run(program: str) -> Both:
        outputs = {}
        for side, variables in (("cpython", {}), ("heapkeeper", {"HEAPKEEPER": "on"})):
            proof = tmp_path / f"{side}.json"
            environment = interpreters.clean_environment() | variables
            environment |= {
                "PROOF": str(proof),
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            command = [python, "-W", "ignore::DeprecationWarning", HERE / "programs" / f"{program}.py"]
            answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=tmp_path)
            assert answer.returncode == 0, (
                f"{side}: exit status {answer.returncode}\n{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}"
            )
            assert answer.stderr == ""
            status = json.loads(proof.read_text())
            assert status["allocator"]["name"] == side, status["allocator"]
            outputs[side] = answer.stdout
        return Both(outputs["cpython"], outputs["heapkeeper"], status)

    return run
