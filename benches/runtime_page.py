"""The part of docs/benchmarks.md about the crate `heapkeeper`, written from benches/results/runtime.json and nothing else.

As on the heap's part, words that judge are chosen by the figures, and who could not do a workload is named with the reason.
"""

import promises
import provenance
import runtime_figures as figures
from promises import Verdict
from wording import listed, mib, share, table, times

SPEED_GOAL = 2.0  # times as fast as the best of the other collectors
RC_GOAL = 1.0
FULL_COLLECTION_GOAL_NS = 60.0
FULL_COLLECTION_OBJECTS = 10_000_000
SCRATCH_GOAL = 0.10  # of the heap
# From this difference on, a row counts as faster or slower.
NOTEWORTHY = 0.03

LABELS = {
    "heapkeeper": "heapkeeper",
    "rc": "`Rc`",
    "gc-arena": "gc-arena",
    "dumpster": "dumpster",
    "rust-cc": "rust-cc",
    "gc": "gc",
    "bacon_rajan_cc": "bacon_rajan_cc",
}

# Workload → what it is called, and its timed phases; `{}` is the number of objects.
WORKLOADS = {
    "alloc_drop": ("allocate and drop", {"all": ""}),
    "keep": ("{} nodes kept", {"allocate": "allocate", "drop": "drop"}),
    "list": ("a list of {}", {"build": "build", "walk": "walk", "drop": "drop"}),
    "short_lists": ("lists of 1,000: build, walk, drop", {"all": ""}),
    "trees": ("binary trees", {"all": ""}),
    "cycles": ("pairs in cycles", {"make": "make, nothing collects", "collect": "collect {}"}),
    "cycles_paced": ("pairs in cycles, at the crate's own pace", {"all": ""}),
    "graphs": ("random graphs", {"all": ""}),
    "cache": ("a cache with churn", {"all": ""}),
    "interpreter": ("the interpreter's mix", {"all": ""}),
    "aged": ("{} live objects, aged", {"collect": "one full collection"}),
}

TITLE = "# Benchmarks: the crate heapkeeper and its rivals"

INTRODUCTION = f"""\
{TITLE}

Written by `make bench-runtime`, from `benches/results/runtime.json`; edits are lost at its next run.

Nanoseconds an object; less is better. A ratio is *times as fast as the other crate*, in the same run: above 1 heapkeeper is
faster, below 1 it is slower."""

METHOD = """\
## How the crates are measured

- Each workload (`benches/runtime/src/workloads/`) is written once and runs on every crate, in the crate's own idiom: handles
  that are cloned and dropped, or for gc-arena turns of some 1,000 objects between which it collects. All crates have to
  compute the same; a run that does not is thrown out.
- A run is a process with one crate and one workload, repeated inside it. Each round runs every crate once, in an order
  drawn anew. A figure is the median over the rounds of the median over the repetitions, which find memory warm; the first
  repetition, on fresh memory, has a table of its own.
- Crates collect by themselves, with their default settings, and once more at the end of a workload, within the time. Where
  nothing collects while pairs in cycles are made, each crate was told so. bacon_rajan_cc leaves the pace to its user: it
  collects when 10,000 possible roots wait. `Rc` is what there is without a collector.
- The values are the same for all: 16 to 48 bytes. An `Option` of a handle is a word, except for dumpster's and gc's, where
  it is two.
- All but heapkeeper, which brings its own heap, allocate by the system's `malloc`, as installed. Our heap asks for huge
  pages as it grows, where the kernel leaves that to programs (`madvise`); `malloc` does not. All are compiled in one
  program, with the same optimisation (`lto = "fat"`, one codegen unit).
- Peak memory is the kernel's high-water mark of the process above what it held before the workload began. Bytes a live
  object: what is resident grows by, handles apart. A crate *leaks* if what it holds grows by more than 4 bytes an object
  from the first repetition to the last.
- *Aged*: each object was replaced three times on average in random order, and refers to four others anywhere in memory. One
  collection is timed in which every object is a candidate."""


def page(record):
    """The whole part; says so where nothing was measured yet."""
    measured = record["workloads"]
    if not measured:
        return f"{INTRODUCTION}\n\nNot measured yet.\n"
    results = {name: part["result"] for name, part in measured.items()}
    ran = {name: figures.summaries(result) for name, result in results.items()}
    blocks = [
        INTRODUCTION,
        "## What the crate was to reach",
        promises.table_of(verdicts(results, ran)),
        "## Time",
        time_table(results, ran),
        *words_on_time(results, ran),
        "\n".join(remarks(results)),
        "Times as fast as each:",
        ratio_table(results, ran),
        "The first repetition, on fresh memory:",
        time_table(results, ran, "first_ns"),
        "## Memory",
        "Peak memory of the process:",
        peak_table(results, ran),
        *words_on_memory(ran),
        METHOD,
        "## Machine and versions of the crates",
        *provenance.of_parts(measured),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


# --- what was to be reached ---


def verdicts(results, ran):
    """Every promise, judged by what was measured."""
    others = listed([LABELS[key] for key in figures.COLLECTORS])
    alloc, cycles, aged = (ran.get(name, {}) for name in ("alloc_drop", "cycles", "aged"))
    return [
        speed(f"allocate and drop, against the best of {others}", figures.ratio_to_best(alloc, "all"), SPEED_GOAL),
        speed(
            "collect pairs in cycles, against the best of them", figures.ratio_to_best(cycles, "collect"), SPEED_GOAL
        ),
        speed("allocate and drop, against `Rc`", figures.ratio(alloc, "all", "rc"), RC_GOAL),
        on_object_bytes(ran.get("keep", {})),
        on_peaks(results, ran),
        *on_full_collection(results.get("aged"), aged.get(figures.OWN)),
    ]


def speed(claim, ratio, goal):
    """A promise about a ratio of times."""
    return Verdict(claim, f"≥ {times(goal)}", *((times(ratio), ratio >= goal) if ratio else ()))


def on_object_bytes(ran):
    """What a live node of 32 bytes costs."""
    claim, goal = "memory of a live node of 32 bytes, against the leanest of them", "≤ 100 %"
    own, least = ran.get(figures.OWN, {}).get("bytes_per_object"), figures.leanest(ran, "bytes_per_object")
    return Verdict(claim, goal, *((share(own / least), own <= least) if own and least else ()))


def on_peaks(results, ran):
    """The workloads that take more memory than the leanest of the others."""
    claim, goal = "workloads whose peak memory is more than 1 MiB above the leanest of them", "none"
    compared = {
        name: (ran[name][figures.OWN]["peak_bytes"], least)
        for name in results
        if figures.OWN in ran[name] and (least := figures.leanest(ran[name], "peak_bytes")) is not None
    }
    if not compared:
        return Verdict(claim, goal)
    above = [name for name, (own, least) in compared.items() if own > least + figures.SAME_PEAK_BYTES]
    names = f": {', '.join(title(name, results[name]) for name in above)}" if above else ""
    return Verdict(claim, goal, f"{len(above)} of {len(compared)}{names}", not above)


def on_full_collection(result, own):
    """Time and scratch of a full collection, where the heap was as large as promised."""
    size = f"a full collection of {millions(FULL_COLLECTION_OBJECTS)} live, aged objects"
    time_goal, scratch_goal = f"≤ {FULL_COLLECTION_GOAL_NS:.0f} ns an object", f"≤ {share(SCRATCH_GOAL)} of the heap"
    if not own or result["objects"] < FULL_COLLECTION_OBJECTS:
        return [Verdict(size, time_goal), Verdict("memory that it takes meanwhile", scratch_goal)]
    ns, scratch = own["phases"]["collect"]["median_ns"], own["scratch_share"]
    return [
        Verdict(size, time_goal, f"{ns:.1f} ns", ns <= FULL_COLLECTION_GOAL_NS),
        Verdict("memory that it takes meanwhile", scratch_goal, share(scratch), scratch <= SCRATCH_GOAL),
    ]


# --- tables and words ---


def rows_of(results):
    """Workload, phase and label of every row, in the order of `WORKLOADS`."""
    for name, (_, phases) in WORKLOADS.items():
        if name in results:
            for phase, words in phases.items():
                label = title(name, results[name])
                yield name, phase, f"{label}: {words.format(millions(results[name]['objects']))}" if words else label


def title(name, result):
    """What a workload is called."""
    return WORKLOADS[name][0].format(millions(result["objects"]))


def millions(count):
    """A number of objects: `10 M`, `20,000`."""
    return f"{count / 1e6:g} M" if count >= 1e6 else f"{count:,}"


def crates_of(results):
    """The crates that took part, in the order of `LABELS`."""
    return [key for key in LABELS if any(key in result["crates"] for result in results.values())]


def time_table(results, ran, figure="median_ns"):
    """Nanoseconds an object; the fastest of a row stands out."""
    crates, unable = crates_of(results), {name: figures.unable(result) for name, result in results.items()}
    lines = []
    for name, phase, label in rows_of(results):
        fastest = figures.best(ran[name], phase, figure, among=crates)
        cells = []
        for key in crates:
            own = ran[name].get(key)
            if own is None:
                cells.append(short_reason(unable[name].get(key)))
            else:
                shown = f"{own['phases'][phase][figure]:.1f}"
                cells.append(f"**{shown}**" if fastest and key == fastest[0] else shown)
        lines.append([label, *cells])
    return table(["ns an object", *(LABELS[key] for key in crates)], lines)


def short_reason(unable):
    """Why there is no figure, in a word; the remarks say more."""
    words = {None: "–", figures.LEAKS: "leaks", figures.STACK: "stack"}
    return words.get(unable and unable[0], "failed")


def ratio_table(results, ran):
    """How many times as fast as each other crate heapkeeper is, and as the best that collects, by medians and by minima."""
    others = [key for key in crates_of(results) if key != figures.OWN]
    lines = [
        [
            label,
            *(times(figures.ratio(ran[name], phase, key)) for key in others),
            f"**{times(figures.ratio_to_best(ran[name], phase))}**",
            times(figures.ratio_to_best(ran[name], phase, "min_ns")),
        ]
        for name, phase, label in rows_of(results)
    ]
    return table(["times as fast as", *(LABELS[key] for key in others), "the best collector¹", "by minima"], lines)


def words_on_time(results, ran):
    """In plain words: where heapkeeper is ahead of the best of the others, where behind, and where behind `Rc`."""
    ahead, behind, behind_rc = [], [], []
    for name, phase, label in rows_of(results):
        ratio, against_rc = figures.ratio_to_best(ran[name], phase), figures.ratio(ran[name], phase, "rc")
        if ratio and ratio > 1 + NOTEWORTHY:
            ahead.append(f"{label} ({times(ratio)})")
        if ratio and ratio < 1 / (1 + NOTEWORTHY):
            behind.append(f"{label} ({times(ratio)})")
        if against_rc and against_rc < 1 / (1 + NOTEWORTHY):
            behind_rc.append(f"{label} ({times(against_rc)})")
    note = f"¹ Of those whose handles are used like `Rc`: {listed([LABELS[key] for key in figures.COLLECTORS])}."
    lines = [
        f"- heapkeeper is faster than the best collector¹ on {listed(ahead)}." if ahead else "",
        f"- It is **slower** than that on {listed(behind)}." if behind else "",
        f"- It is **slower** than `Rc` on {listed(behind_rc)}." if behind_rc else "",
    ]
    return [note, "\n".join(line for line in lines if line)]


def remarks(results):
    """Who has no figure on a workload, and why."""
    found = {}
    for name, result in results.items():
        for key, (reason, amount) in figures.unable(result).items():
            where = f"{title(name, result)} ({amount})" if amount else title(name, result)
            found.setdefault((key, reason), []).append(where)
    return [f"- {LABELS[key]} {reason}: {listed(where)}." for (key, reason), where in found.items()]


def peak_table(results, ran):
    """Peak memory by workload."""
    crates, unable = crates_of(results), {name: figures.unable(result) for name, result in results.items()}
    lines = []
    for name in WORKLOADS:
        if name in results:
            cells = [
                mib(ran[name][key]["peak_bytes"] / 2**20) if key in ran[name] else short_reason(unable[name].get(key))
                for key in crates
            ]
            lines.append([title(name, results[name]), *cells])
    return table(["", *(LABELS[key] for key in crates)], lines)


def words_on_memory(ran):
    """Bytes of a live object, and the scratch of a full collection."""
    kept = {key: own["bytes_per_object"] for key, own in ran.get("keep", {}).items()}
    scratch = {key: own["scratch_share"] for key, own in ran.get("aged", {}).items()}
    lines = []
    if kept:
        bytes_each = [f"{LABELS[key]} {count:.0f}" for key, count in sorted(kept.items(), key=lambda entry: entry[1])]
        lines.append(f"- Bytes that a live node of 32 bytes costs: {listed(bytes_each)}.")
    if scratch:
        shares = [f"{LABELS[key]} {share(part)}" for key, part in sorted(scratch.items(), key=lambda entry: entry[1])]
        lines.append(f"- What a full collection of aged objects adds to the heap while it runs: {listed(shares)}.")
    return ["\n".join(lines)]
