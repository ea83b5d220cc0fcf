"""Writes docs/claims.md, and reads back what an earlier run wrote there."""

import datetime
import json
import os
import platform
import re
from pathlib import Path

from claims.runner.rows import FOLDER, NOT_RUN

TITLE = "# What is said of Python's memory, and what is true"
_NOT_RUN_CELL = "–"
_INTRODUCTION = """\
<!-- Written by `make claims` from the programs in claims/. Change those. -->

Each row is something that texts about Python's memory management say. A small program measures it on every Python at
hand and works out the verdict; its last line of output is what stands here. The text beside it is part of the program,
which says what verdict it expects of whom: where the two disagree, `make claims` fails.

**true**, **partly**, **false**: what the claim is there, word for word. **absent**: that Python has nothing of the kind.
**–**: not run there; the row says why. *Our heap* is a CPython on heapkeeper, in the rows that concern the heap; *our crate*
is the crate `heapkeeper`, in Rust, in those that concern what it has too.
"""


def write(path, rows, pythons, results):
    """Writes the page; `results` are by row number and a Python's label."""
    path.write_text(render(rows, pythons, results, datetime.date.today().isoformat()), "utf-8")


def render(rows, pythons, results, date):
    """The page's text."""
    lines = [TITLE, "", *_INTRODUCTION.splitlines(), ""]
    lines += ["- Command: `make claims`", f"- Date: {date}", f"- Machine: {machine()}"]
    lines += [f"- Pythons: {', '.join(each.detail for each in pythons)}"]
    lines += [f"- Packages, for the rows about them: {', '.join(packages())}", ""]
    lines += overview(rows, pythons, results)
    for row in rows:
        lines += ["", *section(row, pythons, results)]
    return "\n".join(lines) + "\n"


def machine():
    """Processor, cores, memory, kernel and C library."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{cpu}, {os.cpu_count()} cores, {memory_gib:.1f} GiB, {kernel}, {' '.join(platform.libc_ver())}"


def packages():
    """Names and versions in claims/requirements.txt."""
    lines = (FOLDER / "requirements.txt").read_text("utf-8").splitlines()
    return [line.replace("==", " ") for line in lines if line and not line.startswith("#")]


def overview(rows, pythons, results):
    """One line a row, one column a Python."""
    lines = ["| # | about | " + " | ".join(each.label for each in pythons) + " |", "|--:|---|" + ":-:|" * len(pythons)]
    for row in rows:
        cells = [cell(results.get((row.number, python.label))) for python in pythons]
        lines.append(f"| {row.number} | [{row.title}](#{anchor(row)}) | {' | '.join(cells)} |")
    return lines


def cell(result):
    """The overview's word for a result."""
    if result is None:
        return ""
    return _NOT_RUN_CELL if result.verdict.startswith(NOT_RUN) else result.verdict


def heading(row):
    return f"## {row.number}. {row.title}"


def anchor(row):
    """The address that GitHub gives a heading."""
    words = re.sub(r"[^\w\- ]", "", heading(row).removeprefix("## ").lower())
    return words.replace(" ", "-")


def texts(row):
    """The lines of a section that come from the program's header alone."""
    lines = [heading(row), "", f"> {row.claim}", "", row.true, ""]
    if row.waits_for:
        lines += [f"*Waits for: {row.waits_for}.*", ""]
    lines += [f"`{command}`" for command in commands(row)]
    return lines


def commands(row):
    """What shows a row: on plain Python, on our heap, and where an implementation needs options."""
    yield f"python {row.program}"
    for implementation, options in row.options.items():
        yield f"{implementation.lower()} {' '.join(options)} {row.program}"
    if row.speaks_of("heapkeeper"):
        yield f"heapkeeper run -q {row.program}"
    if row.speaks_of("Rust"):
        yield f"cargo run --release --package heapkeeper-claims -- {row.program_for('Rust')}"


def section(row, pythons, results):
    """A row's heading, texts and measurements; Pythons that measured the same share a line."""
    lines = ["\n".join(texts(row)).replace("`\n`", "`  \n`")]
    groups = {}
    reasons = []
    for python in pythons:
        result = results.get((row.number, python.label))
        if result is None:
            continue
        if result.verdict.startswith(NOT_RUN):
            reasons.append((python, result.verdict.removeprefix(NOT_RUN)))
            continue
        groups.setdefault(json.dumps([result.verdict, result.facts], sort_keys=True), []).append((python, result))
    if groups:
        lines += ["", "| measured on | verdict | facts |", "|---|---|---|"]
        order = fact_order([each for group in groups.values() for each in group])
        for group in groups.values():
            result = group[0][1]
            ordered = sorted(result.facts.items(), key=lambda fact: order.get(fact[0], len(order)))
            lines.append(f"| {names([python for python, _ in group])} | {result.verdict} | {facts(ordered)} |")
    for reason in dict.fromkeys(reason for _, reason in reasons):
        lines += ["", f"Not run on {names([each for each, why in reasons if why == reason])}: {reason}."]
    return lines


def fact_order(measured):
    """The place of each fact by name. Old and small Pythons print a dict in no order: the newest CPython's is kept."""
    newest = max(measured, key=lambda each: (each[0].implementation == "CPython", each[0].version))
    return {name: place for place, name in enumerate(newest[1].facts)}


def names(pythons):
    """The Pythons of a line, CPython's versions joined."""
    series = []
    for python in pythons:
        if python.implementation == "CPython":
            major, minor = python.version[:2]
            if series and series[-1][-1] == (major, minor - 1):
                series[-1] = (series[-1][0], (major, minor))
            else:
                series.append(((major, minor), (major, minor)))
    spans = ["–".join(f"{major}.{minor}" for major, minor in dict.fromkeys(span)) for span in series]
    others = [each.label for each in pythons if each.implementation != "CPython"]
    return ", ".join(([f"CPython {', '.join(spans)}"] if spans else []) + others)


def facts(found):
    """Facts as words: the names are the programs' own."""
    return "; ".join(f"{name.replace('_', ' ')}: {shown(value)}" for name, value in found)


def shown(value):
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(shown(each) for each in value)
    text = f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
    return text.replace("|", "\\|").replace("-", "−") if isinstance(value, (int, float)) else text.replace("|", "\\|")


def differences(text, rows, results):
    """In what a page differs from the programs' texts and from results; what was measured besides verdicts is not compared."""
    found = []
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    if numbers != [row.number for row in rows]:
        found.append(f"the page has the rows {numbers}")
    verdicts = read_verdicts(text)
    for row in rows:
        block = "\n".join(texts(row)).replace("`\n`", "`  \n`")
        if f"\n{block}\n" not in text:
            found.append(f"row {row.number}: the page's text is not the program's")
    for (number, label), result in results.items():
        written = verdicts.get((number, label))
        if written is not None and written != cell(result):
            found.append(f"row {number}, {label}: the page says {written!r}, the program {cell(result)!r}")
    return found


def labels(text):
    """The Pythons that a page has columns for."""
    return {label for _, label in read_verdicts(text)}


def read_verdicts(text):
    """The overview's cells by row number and a Python's label."""
    verdicts = {}
    columns = []
    for line in text.splitlines():
        cells = [each.strip() for each in line.strip("|").split(" | ")]
        if line.startswith("| # |"):
            columns = cells[2:]
        elif columns and cells[0].isdigit():
            verdicts.update({(int(cells[0]), label): each for label, each in zip(columns, cells[2:], strict=True)})
    return verdicts
