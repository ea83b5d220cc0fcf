"""Small programs on our heap or plain, each in a process of its own."""

import textwrap

import pytest
from processes import Run

SIDES = {"standard": "profile=off,allocator=cpython", "ours": "profile=off,gc=cpython"}


@pytest.fixture
def run() -> Run:
    """Calls as `run(program, …)`."""
    return Run()


@pytest.fixture
def both(run):
    """Calls as `both(prelude, program, argument)`: what a program prints under either tracemalloc; asserts that it is the same."""

    def call(prelude, program, argument):
        code = prelude + textwrap.dedent(program)
        steady = {"PYTHONHASHSEED": "0"}
        outputs = [
            run(code, heapkeeper=settings, arguments=(side, str(argument)), check_heap=False, environment=steady).stdout
            for side, settings in SIDES.items()
        ]
        assert outputs[0] == outputs[1]
        return outputs[0]

    return call
