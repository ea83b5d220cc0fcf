"""Runs the programs on every Python found, one after the other, and writes docs/claims.md: `make claims`.

Fails, and writes nothing, when a program disagrees with its text, breaks, or says nothing of a Python that was found.
"""

import argparse
import os
import sys

from claims.runner import page, pythons, rows
from claims.runner.measure import measure
from claims.runner.rows import PROJECT

PAGE = PROJECT / "docs" / "claims.md"


def main(arguments=None):
    options = parse(arguments)
    every = rows.read_all()
    chosen = [row for row in every if not options.rows or row.number in options.rows]
    found = pythons.default() if options.default_only else pythons.find(options.python)
    results = {}
    problems = []
    for row in chosen:
        answers = []
        for python in found:
            result = measure(row, python)
            if result is None:
                continue
            results[row.number, python.label] = result
            answers.append(f"{python.label} {page.cell(result) or '?'}")
            if result.problem:
                problems.append(result.problem)
            if options.facts:
                print(f"    {python.label}: {result.verdict} {result.facts}")
        print(f"{row.number:2} {row.title}: {', '.join(answers)}", flush=True)
    if options.check:
        problems += page.differences(PAGE.read_text("utf-8"), every, results)
    if problems:
        sys.exit("\n".join(problems))
    if not (options.check or options.rows or options.default_only):
        lost = page.labels(PAGE.read_text("utf-8")) - {each.label for each in found} if PAGE.exists() else set()
        page.write(PAGE, every, found, results)
        print(f"wrote {os.path.relpath(PAGE, PROJECT)}")
        if lost:
            print(f"it had columns for Pythons that were not found here: {', '.join(sorted(lost))}")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m claims.runner", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with docs/claims.md instead of writing it")
    parser.add_argument("--rows", type=numbers, default=(), help="only these, as 7,9,16; writes nothing")
    parser.add_argument("--default-only", action="store_true", help="only the Python that runs this; writes nothing")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PATH", help="one more Python; may be repeated"
    )
    parser.add_argument("--facts", action="store_true", help="show what each program measured")
    return parser.parse_args(arguments)


def numbers(text):
    return {int(part) for part in text.split(",")}


if __name__ == "__main__":
    main()
