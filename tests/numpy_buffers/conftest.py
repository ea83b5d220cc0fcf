"""Runs programs that use NumPy on our heap, with the series of the interpreter that runs pytest.

NumPy lives in an environment of its own, `.venvs/numpy-X.Y`, made once from requirements.txt.
"""

import sys
from pathlib import Path

import pytest
from processes import Run

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cpython"))

import interpreters  # noqa: E402


@pytest.fixture(scope="session")
def python() -> Path:
    """The python of NumPy's environment."""
    interpreter = interpreters.inspect(sys.executable)
    assert interpreter is not None, f"{sys.executable} is no CPython 3.10 to 3.13"
    requirements = HERE / "requirements.txt"
    try:
        return interpreters.ensure(interpreter, name=f"numpy-{interpreter.series}", requirements=requirements)
    except SystemExit as error:
        if str(requirements) not in str(error):
            raise
        pytest.skip(f"NumPy cannot be installed here: {str(error).splitlines()[-1]}")


@pytest.fixture
def run(python) -> Run:
    """Calls as `run(program, …)`."""
    return Run(str(python))
