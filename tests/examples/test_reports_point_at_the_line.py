"""Each example's report names the line that the example is about; its remedy takes that line off the report.

The line is looked up by the marker comment that stands on it, so that editing an example needs no number here.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MIB = 1 << 20

# Example, the comment on its line, and the option that mends it.
CASES = [
    pytest.param("leaky_service.py", "# <- grows", "--bounded", id="leaky_service"),
    pytest.param("data_job.py", "# <- the peak", "--stream", id="data_job"),
    pytest.param("cyclic_graph.py", "# <- kept alive by cycles", "--unlink", id="cyclic_graph"),
]


@functools.cache
def heapkeeper_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command from the folder above the examples, as their docstrings say, once.

    The sampler looks closely, so that what is compared is more than its noise, and its seed is fixed.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("HEAPKEEPER", "PYTHON"))}
    variables |= {"HEAPKEEPER": "seed=1,sample-bytes=64K", "PYTHONIOENCODING": "utf-8"}
    answer = subprocess.run(
        [sys.executable, "-m", "heapkeeper", "run", *arguments],
        cwd=EXAMPLES.parent,
        env=variables,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    return answer


def status_of(*arguments: str) -> dict:
    status = json.loads(heapkeeper_run("--json", *arguments).stderr)
    assert status["allocator"]["name"] == "heapkeeper", status["allocator"]
    return status


def marked_line(example: str, marker: str) -> int:
    lines = (EXAMPLES / example).read_text(encoding="utf-8").splitlines()
    [number] = [number for number, line in enumerate(lines, 1) if line.endswith(marker)]
    return number


def bytes_of(sites: list[dict], example: str, line: int) -> int:
    """Bytes of the sites whose innermost frame in the example is `line`."""
    total = 0
    for site in sites:
        own = [frame["line"] for frame in site["frames"] if frame["file"].endswith(example)]
        if own[:1] == [line]:
            total += site["bytes"]
    return total


@pytest.mark.parametrize(("example", "marker", "remedy"), CASES)
def test_the_marked_line_dominates_the_peak(example: str, marker: str, remedy: str) -> None:
    line = marked_line(example, marker)
    profile = status_of(f"examples/{example}")["profile"]
    held = bytes_of(profile["at_peak"], example, line)
    assert held > profile["peak_bytes"] / 2
    mended = status_of(f"examples/{example}", remedy)["profile"]
    assert bytes_of(mended["at_peak"], example, line) < held * 0.75


@pytest.mark.parametrize(("example", "marker", "remedy"), CASES)
def test_the_reports_third_line_names_it(example: str, marker: str, remedy: str) -> None:
    line = marked_line(example, marker)
    report = heapkeeper_run(f"examples/{example}").stderr.splitlines()
    assert report[0].startswith(f"heapkeeper · examples/{example} · CPython ")
    assert report[1].startswith("Peak ")
    assert f"of the peak came from {example}:{line} (" in report[2]
    source = (EXAMPLES / example).read_text(encoding="utf-8").splitlines()[line - 1]
    row = next(row for row in report[4:] if f"{example}:{line} " in row)
    assert source.strip()[:12] in row, "the row shows the source line, or its beginning"


def test_only_the_leak_is_still_there_at_exit() -> None:
    leak = status_of("examples/leaky_service.py")["profile"]
    line = marked_line("leaky_service.py", "# <- grows")
    at_peak = bytes_of(leak["at_peak"], "leaky_service.py", line)
    assert bytes_of(leak["at_end"], "leaky_service.py", line) > 0.9 * at_peak > 50 * MIB

    job = status_of("examples/data_job.py")
    line = marked_line("data_job.py", "# <- the peak")
    assert bytes_of(job["profile"]["at_end"], "data_job.py", line) < 0.02 * job["profile"]["peak_bytes"]
    assert job["heap"]["held_bytes"] < 0.2 * job["heap"]["peak_bytes"]


@pytest.mark.parametrize(("example", "marker", "remedy"), CASES)
def test_the_docstring_shows_commands_that_work(example: str, marker: str, remedy: str) -> None:
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    commands = re.findall(r"^    heapkeeper run (.+)$", text, re.MULTILINE)
    assert commands == [f"examples/{example}", f"examples/{example} {remedy}"]
