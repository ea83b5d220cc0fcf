"""Runs small programs on our heap, with the interpreter that runs pytest.

Every program is a process of its own with HEAPKEEPER in its environment, and begins by making sure that it really is on our heap: a test can
not pass because nothing was installed.
"""

import pytest
from processes import Run


@pytest.fixture
def run() -> Run:
    """Calls as `run(program, …)`."""
    return Run()
