"""docs/benchmarks.md, put together from the figures that the benchmarks keep, and from nothing else.

Each benchmark writes its own record and has its own part of the page; whichever ran last, the others' parts stay.
"""

import alloc_page
import collector_page
import machine
import profiler_page
import records
import runtime_page

PAGE = machine.ROOT / "docs" / "benchmarks.md"
RESULTS = machine.ROOT / "benches" / "results"


def text():
    """The whole page."""
    alloc = records.read(RESULTS / "alloc.json", {"interpreters": {}})
    runtime = records.read(RESULTS / "runtime.json", {"workloads": {}})
    collector = records.read(RESULTS / "gc.json", {"interpreters": {}})
    profiler = records.read(RESULTS / "profiler.json", {"interpreters": {}})
    parts = [alloc_page.page(alloc), runtime_page.page(runtime), collector_page.page(collector)]
    return "\n".join([*parts, profiler_page.page(profiler)])


def write():
    """The page, where readers look for it."""
    PAGE.write_text(text())
