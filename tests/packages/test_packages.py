"""Real packages, unchanged: the same output on our heap as on CPython's."""

import black_stdlib
import pytest


@pytest.mark.parametrize(
    ("program", "least_blocks"), [("numpy_arrays", 100_000), ("pandas_frames", 200_000), ("array_pools", 50_000)]
)
def test_program_says_the_same(run_both, program, least_blocks):
    both = run_both(program)
    assert both.ours == both.plain
    assert "False" not in both.ours  # what a program checks by itself, it prints
    assert both.status["heap"]["live_blocks"] > least_blocks


def test_flask_serves_many_clients_at_once(run_both):
    both = run_both("flask_load")
    assert both.ours.splitlines() == ["right answers 1920 of 1920"] * 3 + ["memory at rest True"]
    assert both.ours == both.plain
    assert both.status["heap"]["live_blocks"] > 50_000


def test_asyncio_serves_many_clients_at_once(run_both):
    both = run_both("asyncio_load")
    assert both.ours.splitlines() == ["right answers 1200 of 1200"] * 3 + ["memory at rest True"]
    assert both.ours == both.plain
    assert both.status["heap"]["live_blocks"] > 20_000


@pytest.mark.parametrize("workers", [1, 2])
def test_black_formats_the_same(python, tmp_path, workers):
    """A part of the standard library; more workers than one is a process pool driven by asyncio."""
    library = black_stdlib.library_of(python)
    parts = ("json", "collections", "concurrent", "unittest", "dataclasses.py", "typing.py")
    sources = [path for path in black_stdlib.files(library, tests=False) if path.relative_to(library).parts[0] in parts]
    found = black_stdlib.compare(python, sources, workers, tmp_path)
    assert found.same
    assert found.changed > 20
    assert found.on_heap == found.processes > 0
