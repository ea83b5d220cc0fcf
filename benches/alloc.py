"""The heap against its peers: measures, keeps the figures, and writes the page. `make bench-alloc` runs this.

    .venv/bin/python benches/alloc.py                       everything, for the interpreter that runs this
    .venv/bin/python benches/alloc.py --quick               a look in two minutes; nothing is written
    .venv/bin/python benches/alloc.py --parts alloc_mix     one part; the others keep the figures they have
    .venv/bin/python benches/alloc.py --render              the page again, from the figures kept

Figures go to benches/results/alloc.json, one entry an interpreter, each part with its own date, commit, command and
machine. docs/benchmarks.md, and the block between `figures: begin` and `figures: end` in README.md, come from there.
Leave the machine alone while it runs.
"""

import argparse
from pathlib import Path

import alloc_page
import instructions
import machine
import page
import records
import rivals
import suite
import timing

RECORD = page.RESULTS / "alloc.json"
README = machine.ROOT / "README.md"
PARTS = tuple(alloc_page.SECTIONS)
ROUNDS = 7
SUITE_ROUNDS = 3
STARTUP_RUNS = 40


def options():
    parser = argparse.ArgumentParser(
        description="Measure heapkeeper's heap against its peers and write docs/benchmarks.md."
    )
    records.add_interpreters(parser)
    records.add_options(parser, ROUNDS, "alloc_mix")
    parser.add_argument(
        "--suite-rounds",
        type=records.count,
        default=SUITE_ROUNDS,
        metavar="N",
        help="rounds of pyperformance (default %(default)s)",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=f"what to measure: {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument("--no-pyperformance", action="store_true", help="all parts but pyperformance")
    chosen = parser.parse_args()
    if chosen.no_pyperformance:
        chosen.parts = [part for part in chosen.parts if part != "pyperformance"]
    return chosen


def measure(part, python, about, chosen):
    """One part on one interpreter, with what a reader needs to judge it."""

    def work():
        installed = about["heapkeeper"] is not None
        if part == "alloc_mix":
            return timing.alloc_mix(python, installed, chosen.rounds, 0.1 if chosen.quick else 1)
        if part == "instructions":
            share = 0.01 if chosen.quick else instructions.SHARE
            return instructions.instructions(python, instructions.entrants(installed), share, not chosen.quick)
        if part == "startup":
            return timing.startup(python, installed, 5 if chosen.quick else STARTUP_RUNS)
        return suite.pyperformance(python, about, chosen.suite_rounds, chosen.quick)

    versions = {**rivals.versions(), "valgrind": machine.tool_version("valgrind", "--version")}
    facts = {"commit": machine.commit(), "heapkeeper": about["heapkeeper"], "versions": versions}
    return records.measured("benches/alloc.py", work, facts)


def write(record):
    """Keep the figures, and write what is shown of them."""
    records.write(RECORD, record)
    render(record)


def render(record):
    """The page, and README's figures."""
    page.write()
    text = alloc_page.readme(README.read_text(), record) if README.exists() else None
    if text is None:
        timing.say("README.md has no place for figures: left alone")
    else:
        README.write_text(text)
    timing.say(f"wrote {page.PAGE.relative_to(machine.ROOT)}")


def main():
    chosen = options()
    record = records.read(RECORD, {"interpreters": {}})
    if chosen.render:
        render(record)
        return
    if chosen.quick:
        chosen.rounds, chosen.suite_rounds, chosen.no_write = 2, 1, True
        record = {"interpreters": {}}
    for path in chosen.python:
        # Not resolved: a virtual environment's python is a link, and means its environment.
        python = Path(path).expanduser().absolute()
        about = machine.interpreter(python)
        name = f"{about['implementation']} {about['version']}"
        timing.say(f"{name}, heapkeeper {about['heapkeeper'] or 'not installed'}")
        entry = record["interpreters"].setdefault(name, {"parts": {}})
        entry["interpreter"] = about
        for part in chosen.parts:
            entry["parts"][part] = measure(part, python, about, chosen)
            if not chosen.no_write:
                write(record)
    if chosen.no_write:
        print(alloc_page.page(record))


if __name__ == "__main__":
    main()
