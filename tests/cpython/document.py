"""Writes docs/cpython-tests.md from the results of a run."""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import shlex
from collections import Counter
from dataclasses import dataclass, field

from verdicts import Known, causes


@dataclass
class Chapter:
    """One interpreter's results."""

    version: str
    results: list[dict]
    absent: list[str]
    """Module names that this version does not have."""
    stood_in: list[str] = field(default_factory=list)
    """Modules that were not installed and ran through a stand-in."""
    black: dict = field(default_factory=dict)
    """What came of black over the standard library, if it was run."""


def total(chapter: Chapter, *keys: str) -> int:
    """The sum of a number in every result."""
    found = 0
    for result in chapter.results:
        value = result
        for key in keys:
            value = value[key]
        found += value
    return found


def reasons(chapter: Chapter) -> Counter:
    """Why processes were not on our heap, and how many."""
    found: Counter = Counter()
    for result in chapter.results:
        found.update(result["census"]["absent"])
    return found


def differing(chapter: Chapter) -> int:
    return sum(len(result["differences"]) for result in chapter.results)


def summary(chapter: Chapter, known: list[Known]) -> str:
    """One paragraph for the terminal."""
    found = [causes(chapter.version, result["differences"], known) for result in chapter.results]
    new = sum(cause is None for each in found for cause in each)
    cases = total(chapter, "cases")
    return (
        f"CPython {chapter.version}: {len(chapter.results)} modules, {cases} cases, {cases - differing(chapter)} verdicts equal, "
        f"{differing(chapter)} differ ({new} unexplained); {total(chapter, 'census', 'on_heap')} of {total(chapter, 'census', 'started')} "
        f"processes on our heap, and {total(chapter, 'census', 'forked')} forked ones"
    )


def black_line(chapter: Chapter) -> str:
    """What came of black, in one sentence."""
    found = chapter.black
    verdict = "the same files, byte by byte, on both sides" if found["same"] else "**not the same files on both sides**"
    return f"CPython {chapter.version}: black over {found['files']:,} files of its standard library, {found['changed']:,} of them reformatted: {verdict}"


def machine() -> str:
    """Processor, cores, kernel."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def runs(found: list[str]) -> str:
    """A case's verdicts in several runs, the same ones in a row together."""
    return ", ".join(f"{verdict} ×{len(list(group))}" for verdict, group in itertools.groupby(found))


def overview(chapters: list[Chapter]) -> list[str]:
    lines = [
        "| CPython | modules | cases | verdicts equal | differ | passed | skipped | processes started | on our heap | not on it | forked |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for chapter in chapters:
        tally: Counter = Counter()
        for result in chapter.results:
            tally.update(result["tally"])
        cases, started, on_heap = (
            total(chapter, "cases"),
            total(chapter, "census", "started"),
            total(chapter, "census", "on_heap"),
        )
        row = [
            len(chapter.results),
            cases,
            cases - differing(chapter),
            differing(chapter),
            tally["pass"],
            tally["skip"],
        ]
        row += [started, on_heap, started - on_heap, total(chapter, "census", "forked")]
        lines.append(f"| {chapter.version} | " + " | ".join(f"{number:,}" for number in row) + " |")
    return lines


def differences(chapters: list[Chapter], known: list[Known]) -> list[str]:
    rows = []
    for chapter in chapters:
        for result in chapter.results:
            found = causes(chapter.version, result["differences"], known)
            for each, cause in zip(result["differences"], found, strict=True):
                rows.append(
                    f"| {chapter.version} | {result['module']} | `{cell(each['case'])}` | {runs(each['plain'])} | {runs(each['ours'])} "
                    f"| {cell(cause or '**not explained**')} |"
                )
    if not rows:
        return ["None."]
    return ["| CPython | module | case | plain | on our heap | cause |", "|---|---|---|---|---|---|", *rows]


def unsteady(chapters: list[Chapter]) -> list[str]:
    rows = []
    for chapter in chapters:
        for result in chapter.results:
            for each in result["unsettled"]:
                rows.append(
                    f"| {chapter.version} | `{cell(each['case'])}` ({result['module']}) | {runs(each['plain'])} | {runs(each['ours'])} |"
                )
    if not rows:
        return ["None."]
    return ["| CPython | case | plain | on our heap |", "|---|---|---|---|", *rows]


def absences(chapters: list[Chapter]) -> list[str]:
    """Reasons by version, each with the flags or commands it was seen with."""
    lines = ["| reason | " + " | ".join(chapter.version for chapter in chapters) + " | for example |"]
    lines.append("|---|" + "--:|" * len(chapters) + "---|")
    counts = [reasons(chapter) for chapter in chapters]
    examples: dict[str, list[str]] = {}
    for chapter in chapters:
        for result in chapter.results:
            for reason, commands in result["census"]["examples"].items():
                examples.setdefault(reason, []).extend(commands)
    for reason in sorted(set().union(*counts), key=lambda each: -sum(count[each] for count in counts)):
        shown = "; ".join(
            f"`{cell(command)[:60].replace('`', ' ')}` ({result})"
            for command, result in shortest(examples.get(reason, []), 3)
        )
        lines.append(f"| {reason} | " + " | ".join(f"{count[reason]:,}" for count in counts) + f" | {shown} |")
    return lines


def shortest(commands: list[str], number: int) -> list[tuple[str, int]]:
    """The shortest distinct command lines and how often each was seen."""
    return sorted(Counter(commands).items(), key=lambda each: (len(each[0]), each[0]))[:number]


def module_table(chapter: Chapter) -> list[str]:
    lines = ["| module | cases | equal | passed | skipped | processes | on our heap | forked | s plain | s ours |"]
    lines.append("|---|" + "--:|" * 9)
    family = None
    for result in chapter.results:
        if result["family"] != family:
            family = result["family"]
            lines.append(f"| **{family}** |" + " |" * 9)
        census, tally = result["census"], result["tally"]
        numbers = [
            result["cases"],
            result["cases"] - len(result["differences"]),
            tally.get("pass", 0),
            tally.get("skip", 0),
        ]
        numbers += [census["started"], census["on_heap"], census["forked"]]
        seconds = " | ".join(f"{each:.0f}" for each in result["seconds"])
        lines.append(f"| {result['module']} | " + " | ".join(f"{number:,}" for number in numbers) + f" | {seconds} |")
    return lines


def page(chapters: list[Chapter], known: list[Known], command: list[str], revision: str) -> str:
    """The whole document."""
    lines = [
        "# CPython's own tests on our heap",
        "",
        "Each test module of each CPython runs in a process of its own, once plain and once with `HEAPKEEPER` in the environment, so that the",
        "interpreters it starts come along. Verdicts are compared case by case; how each process ended counts as one case. A case that differed",
        f"was run {'three'} more times on both sides before it was called a difference.",
        "",
        f"- Command: `{shlex.join(command)}`",
        f"- Date: {datetime.date.today().isoformat()}",
        f"- Machine: {machine()}",
        f"- heapkeeper: sources of commit {revision}",
        "",
        *overview(chapters),
        "",
        "*Processes started* counts every Python that began, seen by a preloaded library on both sides; *forked* counts children that went on",
        "without starting a program of their own: they keep their parent's heap. Not seen are the children of a process whose environment",
        "had been cleared. The seconds were taken with two modules at a time on a busy machine: they say nothing of speed.",
        "",
        "## Verdicts that differ",
        "",
        *differences(chapters, known),
        "",
        "## Processes that were not on our heap",
        "",
        *absences(chapters),
        "",
        "`-I` and `-E` do not keep heapkeeper out of an environment it is installed in: `.pth` files are read all the same.",
        "",
        "## Cases that were unsteady",
        "",
        "They differed once and behaved alike on both sides when repeated; the first verdict is the one of the full run.",
        "",
        *unsteady(chapters),
        "",
        "## Module by module",
    ]
    if any(chapter.black for chapter in chapters):
        lines[-1:] = ["## black over the standard library", ""]
        lines += [f"- {black_line(chapter)}." for chapter in chapters if chapter.black]
        lines += ["", "## Module by module"]
    for chapter in chapters:
        lines += ["", f"### CPython {chapter.version}", "", *module_table(chapter)]
        if chapter.absent:
            lines += [
                "",
                "Not in this version: " + ", ".join(name.replace("|", " or ") for name in chapter.absent) + ".",
            ]
        if chapter.stood_in:
            lines += [
                "",
                f"Not installed with this version, though the module with all of their cases is: {', '.join(chapter.stood_in)}. "
                "They ran through stand-ins of two lines, as CPython's own ones are.",
            ]
    return "\n".join(lines) + "\n"
