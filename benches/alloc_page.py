"""The heap's part of docs/benchmarks.md and the figures in README.md, written from benches/results/alloc.json alone.

Whatever was measured is shown, the bad with the good; whatever was not is named with its reason. Words that judge
("faster", "holds") are chosen by the figures, so that the prose cannot drift from them.
"""

import figures
import promises
import provenance
from wording import bar, code, listed, mean_of, mib, percent, plain, share, table, times

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
# Each of its values is the life of an interpreter that does nothing.
STARTUP_BENCHMARK = "python_startup"
MALLOCS = ("glibc", "mimalloc", "jemalloc")

INTRODUCTION = """\
# Benchmarks: heapkeeper's heap and its peers

Written by `make bench-alloc`, from `benches/results/alloc.json`; edits are lost at its next run. Below,
[the crate for Rust](#benchmarks-the-crate-heapkeeper-and-its-rivals),
[the collector under CPython](#benchmarks-the-collector-under-cpython) and [the profiler](#benchmarks-the-profiler) have parts
of their own.

A ratio is *times as fast as pymalloc*, CPython's own allocator, in the same run on the same interpreter: above 1 is
faster, below 1 is slower. Memory is a share of pymalloc's, and less is better."""

METHOD = """\
## How this is measured

- **alloc_mix** (`benches/workloads/alloc_mix.py`) is five loops that do little but allocate and free, with the cyclic
  collector off. Each round runs it once on every allocator, in an order drawn anew and with one hash seed for all.
  Figures are medians over the rounds; the mean by the fastest run of each part stands beside them, as a check on noise.
  The workload says who served its allocations, and a run on the wrong allocator is thrown out.
- glibc, mimalloc and jemalloc take the place of `malloc`, and `PYTHONMALLOC=malloc` sends them Python's small objects
  too. All are the distribution's builds with default settings.
- *No huge pages*: the kernel was told not to give the process any (`PR_SET_THP_DISABLE`), on both sides.
- Peak RSS is the kernel's high-water mark of the process. Final RSS is read right after the last part: an allocator
  that gives memory back after a while gets no while.
- **Instructions** and cache misses come from valgrind's callgrind, with fixed seeds. They resolve what a clock on a
  shared machine cannot. The caches are simulated, and TLB misses are not counted: what huge pages gain does not show.
- **Start-up** is the time from spawning a process to its end, for a program that does nothing.
- **pyperformance**: scripts and settings are the suite's own; its worker processes are started one by one, so that the
  allocators take turns within each pass over a benchmark. Loops are calibrated once, on pymalloc. A benchmark counts as
  slower if it is more than 3 % slower in every round: single rounds differ by that much for no reason. heapkeeper runs
  as it does in production, with its sampling profiler on.
- Benchmarks of allocators flatter allocators: a program that computes, waits, or lives in numpy sees less of this."""


def page(results):
    """The whole part."""
    blocks = [INTRODUCTION]
    for name, measured in results["interpreters"].items():
        parts = measured["parts"]
        blocks += [f"## {name}", promises.section(parts)]
        for part, (title, section) in SECTIONS.items():
            blocks.append(f"### {title}")
            if part in parts:
                blocks += [*section(parts[part]["result"]), provenance.line(parts[part])]
            else:
                blocks.append("Not measured on this interpreter yet.")
    return "\n\n".join(block for block in [*blocks, METHOD, *machines(results)] if block) + "\n"


def readme(text, results):
    """README's text with the figures between its marks renewed; null where it has no such marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return None
    return f"{before}{BEGIN}\n{readme_figures(results)}\n{END}{after}"


def readme_figures(results):
    """What README shows: speed and memory by allocator, and every promise in a line."""
    parts_of = {name: measured["parts"] for name, measured in results["interpreters"].items()}
    measured = [name for name, parts in parts_of.items() if "alloc_mix" in parts]
    if not measured:
        return "Not measured yet: `make bench-alloc`."
    name = max(measured, key=lambda name: parts_of[name]["alloc_mix"]["date"])
    rows = alloc_mix_rows(parts_of[name]["alloc_mix"]["result"])
    shown = [
        [
            row["label"],
            times(row["against"]["mean"]),
            share(row["against"]["peak_rss"]),
            share(row["against"]["end_rss"]),
        ]
        for row in rows
        if row["against"] and row["key"] in ("heapkeeper", *MALLOCS)
    ]
    words = {True: "", False: ", not reached", None: ""}
    lines = [
        f"- {verdict.claim}: **{verdict.figure}** (goal: {verdict.goal}{words[verdict.holds]})"
        for verdict in promises.verdicts(parts_of[name])
    ]
    blocks = [
        f"Allocation-heavy Python (`alloc_mix`) on {name}, against CPython's own allocator:",
        table(["", "times as fast", "peak memory", "memory at the end"], shown),
        "\n".join(lines),
        "Machine, versions, method and all figures: [docs/benchmarks.md](docs/benchmarks.md), by `make bench-alloc`.",
    ]
    return "\n\n".join(blocks)


# --- alloc_mix ---


def alloc_mix_rows(result):
    """One row a rival, in the order of the record: its summary and comparison where it ran, the reason where not."""
    compared = figures.comparisons(result)
    nothing = {"summary": None, "against": None}
    return [
        {"key": key, **{name: rival[name] for name in ("label", "baseline", "missing")}, **compared.get(key, nothing)}
        for key, rival in result["rivals"].items()
    ]


def alloc_mix_section(result):
    """The workload by allocator: a picture, what it says, ratios, seconds and memory."""
    rows = alloc_mix_rows(result)
    ran = [row for row in rows if row["summary"]]
    against = [row for row in ran if row["against"]]
    return [
        f"Mean of the five parts, {result['rounds']} rounds, times as fast as pymalloc:",
        picture(ran),
        "\n".join(words_on_alloc_mix(ran)),
        ratio_table(against),
        seconds_table(ran),
        "\n".join(remarks(rows, against)),
    ]


def picture(rows):
    """The means as bars, fastest first; a baseline is 1 by definition."""
    means = [(plain(row["label"]), row["against"]["mean"] if row["against"] else 1.0) for row in rows]
    width = max(len(label) for label, _ in means)
    means.sort(key=lambda entry: -entry[1])
    return "\n".join(["```text", *(f"{label:{width}}  {times(mean)}  {bar(mean)}" for label, mean in means), "```"])


def ratio_table(rows):
    """Times as fast, part by part, and memory."""
    parts = list(rows[0]["against"]["ratios"]) if rows else []
    cells = []
    for row in rows:
        against = row["against"]
        ratios = [times(against["ratios"][part]) for part in parts]
        means = [f"**{times(against['mean'])}**", times(against["mean_by_minima"])]
        cells.append([row["label"], *ratios, *means, share(against["peak_rss"]), share(against["end_rss"])])
    head = ["times as fast", *map(code, parts), "mean", "by fastest runs", "peak RSS", "final RSS"]
    return table(head, cells) if rows else ""


def seconds_table(rows):
    """Seconds part by part, and memory."""
    cells = []
    for row in rows:
        own = row["summary"]
        seconds = [f"{part['median_s']:.3f} ({part['min_s']:.3f})" for part in own["parts"].values()]
        cells.append(
            [row["label"], *seconds, f"{own['total_s']:.2f}", mib(own["peak_rss_mib"]), mib(own["end_rss_mib"])]
        )
    parts = list(rows[0]["summary"]["parts"])
    return table(["median seconds (fastest)", *map(code, parts), "sum", "peak RSS", "final RSS"], cells)


def words_on_alloc_mix(rows):
    """In plain words: what heapkeeper does faster, slower and alike, and which malloc is ahead of it."""
    own = next((row["against"] for row in rows if row["key"] == "heapkeeper" and row["against"]), None)
    if own is None:
        return []
    kinds = {"is faster on": [], "is **slower** on": [], "makes no difference of 3 % on": []}
    for part, ratio in own["ratios"].items():
        faster, slower = ratio > 1 + figures.NOTEWORTHY, ratio < 1 / (1 + figures.NOTEWORTHY)
        kind = "is faster on" if faster else "is **slower** on" if slower else "makes no difference of 3 % on"
        kinds[kind].append(f"{code(part)} ({times(ratio)})")
    words = [f"- heapkeeper {kind} {listed(parts)}." for kind, parts in kinds.items() if parts]
    mallocs = [row for row in rows if row["key"] in MALLOCS and row["against"]]
    for kind, group in (
        ("ahead of", [row["label"] for row in mallocs if row["against"]["mean"] < own["mean"]]),
        ("**behind**", [row["label"] for row in mallocs if row["against"]["mean"] >= own["mean"]]),
    ):
        if group:
            words.append(f"- By the mean it is {kind} {listed(group)}.")
    return words


def remarks(rows, against):
    """What a row is compared with where that is not pymalloc, and who did not run."""
    labels = {row["key"]: row["label"] for row in rows}
    others = [row for row in against if row["baseline"] != "pymalloc"]
    return [
        *(f"- *{row['label']}* is compared with *{labels[row['baseline']]}*." for row in others),
        *(f"- *{row['label']}*: {row['missing']}." for row in rows if row["missing"]),
    ]


# --- instructions, start-up, pyperformance ---


def instructions_section(result):
    """Counts by entrant, and what sampling costs."""
    kinds = {"instructions": "instructions", "d1_misses": "L1 data misses", "ll_misses": "last-level misses"}
    entrants = result["entrants"].values()
    base = result["entrants"]["pymalloc"]["counts"] or {}
    shown = [kind for kind in kinds if kind in base]
    rows = [
        [
            entrant["label"],
            *(f"{entrant['counts'][kind] / 1e6:,.1f} ({entrant['counts'][kind] / base[kind]:.3f})" for kind in shown),
        ]
        for entrant in entrants
        if entrant["counts"] and base
    ]
    cost = figures.sampling_cost(result)
    words = [] if cost is None else [f"- Sampling at 512 KiB changes the number of instructions by {percent(cost)}."]
    if result["caches"]:
        words.append(
            f"- Simulated caches (bytes, ways, line): {listed([code(cache[2:]) for cache in result['caches']])}."
        )
    words += [f"- {entrant['label']}: {entrant['missing']}." for entrant in entrants if entrant["missing"]]
    return [
        f"alloc_mix with {share(result['share'])} of its repetitions. "
        "Millions, and the ratio to pymalloc's: less is better.",
        table(["", *(kinds[kind] for kind in shown)], rows),
        "\n".join(words),
    ]


def startup_section(result):
    """Milliseconds by way of starting."""
    rows = figures.startup_rows(result)
    cells = [
        [
            row["label"],
            f"{row['median']:.1f}",
            f"{row['fastest']:.1f}",
            "" if row["added"] is None else f"{row['added']:+.1f}",
        ]
        for row in rows
        if row["median"] is not None
    ]
    return [
        f"Milliseconds for a program that does nothing (`-c pass`), {result['runs']} runs each, interleaved.",
        table(["", "median", "fastest", "above plain python's median"], cells),
        "\n".join(f"- {row['label']}: {row['missing']}." for row in rows if row["missing"]),
    ]


def pyperformance_section(result):
    """One row a benchmark: heapkeeper round by round, the other mallocs over all rounds."""
    others = [key for key in result["rivals"] if key in MALLOCS]
    suites = {key: {row["name"]: row for row in figures.suite_table(result, key)} for key in (*others, "heapkeeper")}
    own = suites["heapkeeper"]
    rounds = range(result["rounds"])

    def in_round(row, number):
        return times(row["ratios"][number], 3) if row and number < len(row["ratios"]) else "–"

    def mean_cell(suite, name):
        return times(suite[name]["mean"], 3) if name in suite else "–"

    cells = [
        [name, *(in_round(own.get(name), number) for number in rounds), f"**{mean_cell(own, name)}**"]
        + [mean_cell(suites[key], name) for key in others]
        + ["**slower**" if name in own and own[name]["slower"] else ""]
        for name in result["benchmarks"]
    ]
    means = [
        mean_of([row["ratios"][number] for row in own.values() if number < len(row["ratios"])]) for number in rounds
    ]
    means.append(f"**{mean_of([row['mean'] for row in own.values()])}**")
    means += [mean_of([row["mean"] for row in suites[key].values()]) for key in others]
    head = ["", *(f"round {number + 1}" for number in rounds), "heapkeeper", *others, ""]
    return [
        f"pyperformance {result['versions']['pyperformance']}, {len(result['benchmarks'])} of its benchmarks, "
        f"{rounds_in_words(result)}. Times as fast as pymalloc.",
        table(head, [*cells, ["mean", *means, ""]]),
        "\n".join(words_on_pyperformance(result, own)),
    ]


def rounds_in_words(result):
    """`3 interleaved rounds`."""
    return f"{result['rounds']} interleaved round" + ("s" if result["rounds"] > 1 else "")


def words_on_pyperformance(result, own):
    """Who was on our heap, what start-up does to the mean, and what did not run."""
    words = []
    if own:
        processes = result["processes"]
        without = [row["mean"] for name, row in own.items() if name != STARTUP_BENCHMARK]
        words = [
            f"- {processes['workers_on_heapkeeper']} of {processes['workers']} processes that were asked ran on our heap, "
            f"and {processes['others_on_heapkeeper']} that they started; {processes['on_cpython']} on CPython's.",
            f"- `{STARTUP_BENCHMARK}` measures loading heapkeeper; mean of the others: {mean_of(without)}.",
        ]
    words += [f"- `{name}` was left out: {reason}." for name, reason in result["skipped"].items()]
    words += [f"- {key}: {reason}." for key, reason in result["missing"].items()]
    for name, benchmark in result["benchmarks"].items():
        words += [f"- `{name}` failed on {key}: {reason}." for key, reason in benchmark["failed"].items()]
    return words


SECTIONS = {
    "alloc_mix": ("Allocation-heavy Python", alloc_mix_section),
    "instructions": ("Instructions and cache misses", instructions_section),
    "startup": ("Start-up", startup_section),
    "pyperformance": ("pyperformance", pyperformance_section),
}


# --- where the figures come from ---


def machines(results):
    """Machine and versions: one table for all sections that agree."""
    tables = {}
    for name, measured in results["interpreters"].items():
        for part, record in measured["parts"].items():
            rows = [["interpreter", provenance.interpreter(measured["interpreter"])], *provenance.machine_rows(record)]
            tables.setdefault(table(["", ""], rows), []).append(f"{name}, {SECTIONS[part][0]}")
    blocks = ["## Machine and versions"]
    for text, sections in tables.items():
        blocks += [*([f"For {'; '.join(sections)}:"] if len(tables) > 1 else []), text]
    return [*blocks, "A `+` after a commit: the sources differed from it when the figures were taken."]
