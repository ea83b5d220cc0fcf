"""The part of docs/benchmarks.md about what profiling costs, written from benches/results/profiler.json and nothing else.

As on the other parts, words that judge are chosen by the figures, and who did not run is named with the reason.
"""

import profiler_figures as figures
import profiler_promises
import promises
import provenance
import rivals
from profiler_figures import ALLOC_MIX, INSTRUCTIONS, OFF, PLAIN
from wording import code, listed, share, size, table, times

TITLE = "# Benchmarks: the profiler"
LABELS = {rival.key: rival.label for rival in rivals.profilers(True, "")}
# Whose instructions are counted, against whom.
COUNTED = {"sampled": "heapkeeper, `--profile sample`", "exact": LABELS["exact"], "capture": LABELS["capture"]}

INTRODUCTION = f"""\
{TITLE}

Written by `make bench-profile`, from `benches/results/profiler.json`; edits are lost at its next run.

A ratio is *times as long as plain python*, the same interpreter with no profiler, in the same round: 1 is a profiler that
costs nothing, and less is better. *Of ours* compares with our heap and `--profile off`. Sizes are shares of the same two."""

METHOD = """\
## How the profilers are measured

- A round runs profilers once, each in a process of its own, in an order drawn anew, with one hash seed for all. Plain python
  and `--profile off` are in every round, all others in most. A ratio compares two runs of one round; figures are the medians
  of the rounds' ratios, and means are geometric.
- **alloc_mix** is that of the heap's part of this page: five loops that do little but allocate and free. Nothing is harder on
  a profiler of memory. *From start to end* has the whole process in it: loading the profiler, and what it writes at the end.
- **pyperformance**: benchmarks of the suite that allocate and take less than a second, chosen before they were measured.
  Loops are calibrated once, on plain python. Collections are in these figures: on our heap, by our collector.
- Profilers come from PyPI as their users install them. memray as it starts by default sees malloc and mmap, not
  the objects that pymalloc serves: `--trace-python-allocators` and `PYTHONMALLOC=malloc` are its two ways to see every
  allocation, as exact mode does. scalene samples time and memory, and is told to look at all code.
- Peak memory is the kernel's high-water mark of the process, the profiler's own memory in it. On
  `alloc_mix` it is read before the interpreter ends. A capture's size is that of the file at the end.
- **Instructions** come from valgrind's callgrind, with fixed seeds, without simulated caches.
- Rounds may be taken apart (`--add`): the date is that of the last, disturbance is over all of them."""


def page(record):
    """The whole part; says so where nothing was measured yet."""
    measured = record["interpreters"]
    if not measured:
        return f"{INTRODUCTION}\n\nNot measured yet.\n"
    blocks, machines = [INTRODUCTION], {}
    for name, entry in measured.items():
        results = {workload: part["result"] for workload, part in entry["parts"].items()}
        runs, *tables = provenance.of_parts({name: as_shown(part) for name, part in entry["parts"].items()})
        machines.update(dict.fromkeys(tables))
        blocks += [
            f"## Profilers under {name}",
            "### What was to be reached",
            promises.table_of(profiler_promises.verdicts(results)),
            *alloc_mix_section(results.get(ALLOC_MIX)),
            *suite_section(figures.suite(results)),
            *captures_section(results),
            *instructions_section(results.get(INSTRUCTIONS)),
            "\n".join(remarks(results)),
            f"<sub>{provenance.interpreter(entry['interpreter'])}.</sub>",
            runs,
        ]
    blocks += [METHOD, "## Machine of the profilers' figures", *machines]
    return "\n\n".join(block for block in blocks if block) + "\n"


def as_shown(part):
    """A part of the record whose command does not say what else was measured in the same go."""
    return {**part, "command": part["command"].partition(" --workloads")[0]}


def keys_of(results):
    """The profilers that have a figure, in the order of `LABELS`."""
    return [key for key in LABELS if key != PLAIN and any(result["cases"].get(key) for result in results)]


def alloc_mix_section(result):
    """Times and sizes on alloc_mix."""
    if not result or not result["cases"]:
        return []
    rows = []
    for key in keys_of([result]):
        ratios = figures.seconds_by_part(result, key)
        sizes = [share(figures.growth(result, key, "peak_rss_mib", base)) for base in (PLAIN, OFF)]
        rows.append(
            [
                LABELS[key],
                *map(times, ratios.values()),
                f"**{times(figures.cost(result, key))}**",
                times(figures.cost(result, key, OFF)),
                times(figures.growth(result, key, "whole_s")),
                *sizes,
            ]
        )
    parts = next(iter(result["cases"].values()))["seconds"]
    head = ["times as long", *map(code, parts), "mean", "of ours", "from start to end", "peak RSS", "of ours"]
    return ["### Allocation-heavy Python", table(head, rows)]


def suite_section(results):
    """Times on pyperformance's benchmarks, their mean, and the mean of their peak sizes."""
    rows = []
    for key in keys_of(results.values()):
        measured = [result for result in results.values() if result["cases"].get(key)]
        ratios = [figures.cost(result, key) for result in results.values()]
        costs, sizes = [], []
        for base in (PLAIN, OFF):
            costs.append(figures.mean([figures.cost(result, key, base) for result in measured]))
            sizes.append(figures.mean([figures.growth(result, key, "peak_rss_mib", base) for result in measured]))
        of = "" if len(measured) == len(results) else f", of {len(measured)}"
        rows.append(
            [LABELS[key], *map(times, ratios), f"**{times(costs[0])}**{of}", times(costs[1]), *map(share, sizes)]
        )
    head = ["times as long", *map(code, results), "mean", "of ours", "mean of peak RSS", "of ours"]
    return ["### pyperformance", table(head, rows)] if rows else []


def captures_section(results):
    """What the profilers wrote."""
    measured = {name: result for name, result in results.items() if name != INSTRUCTIONS}
    rows = []
    for key in keys_of(measured.values()):
        sizes = [figures.capture_bytes(result, key) for result in measured.values()]
        if any(sizes):
            rows.append([LABELS[key], *(size(found) if found else "–" for found in sizes)])
    head = ["bytes written", *map(code, measured)]
    return ["### Sizes of the captures", table(head, rows)] if rows else []


def instructions_section(result):
    """Instructions of alloc_mix."""
    if not result:
        return []
    rows = []
    for key, label in COUNTED.items():
        found = [figures.instructions(result, key, base) for base in ("pymalloc", "unsampled")]
        if None not in found:
            rows.append([label, *(times(ratio, 4) for ratio in found)])
    words = f"`alloc_mix` with {share(result['share'])} of its repetitions, under callgrind."
    return ["### Instructions", words, table(["times as many", "as plain python", "as ours"], rows)]


def remarks(results):
    """Who has no figure, and why."""
    found = {}
    for name, result in results.items():
        missing = result.get("missing") or {
            key: entrant["missing"] for key, entrant in result.get("entrants", {}).items() if entrant["missing"]
        }
        for key, reason in missing.items():
            label = LABELS.get(key) or COUNTED.get(key, key)
            labels, names = found.setdefault(reason, ({}, {}))
            labels[f"*{label}*"] = names[code(name)] = None
    return [f"- {listed([*labels])}: {reason} ({listed([*names])})." for reason, (labels, names) in found.items()]
