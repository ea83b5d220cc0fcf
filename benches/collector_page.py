"""The part of docs/benchmarks.md about the collector under CPython, written from benches/results/gc.json and nothing else.

As on the other parts, words that judge are chosen by the figures, and who did not run is named with the reason.
"""

import dataclasses

import collector_figures as figures
import collector_promises
import figures as suite_figures
import promises
import provenance
import service
from collector_figures import BASE, BESIDE, GARBAGE, HEAPS, ON_HEAP, OWN, YOUNG, case
from collector_promises import MAIN_SIZE
from wording import code, listed, mean_of, mib, table, times

WORKLOADS = (*HEAPS, "garbage", "young", "service", "pyperformance")
EVENTS = {
    "again": "Repeated collections: nothing has changed since the last one.",
    "first": "The first collection after the heap was built:",
    "replaced": "The first after a tenth of the objects was replaced:",
}
LABELS = {
    BASE: "CPython's",
    ON_HEAP: "CPython's on our heap",
    OWN: "heapkeeper's",
    BESIDE: "heapkeeper's, `--gc background`",
    f"{BASE} young": "CPython's, for the young alone",
    f"{ON_HEAP} young": "CPython's, for the young alone, on our heap",
    f"{BASE} off": "none, on CPython's heap",
    f"{ON_HEAP} off": "none, on our heap",
}
# The same collectors, as pyperformance's record calls them.
SUITE_LABELS = {"pymalloc": LABELS[BASE], ON_HEAP: LABELS[ON_HEAP], OWN: LABELS[OWN]}

TITLE = "# Benchmarks: the collector under CPython"

INTRODUCTION = f"""\
{TITLE}

Written by `make bench-gc`, from `benches/results/gc.json`; edits are lost at its next run.

A ratio is *times as fast as the same interpreter's own collector*, on its own heap and in the same run: above 1 heapkeeper's
collector is faster, below 1 it is slower. Other figures are nanoseconds an object that the collector knows, unless another
unit is named; less is better."""

METHOD = """\
## How the collectors are measured

- Each run is a process of its own, and says which collector and which heap it was on; a run on another is thrown out. A round
  runs every collector once, in an order drawn anew, with one hash seed for all. Figures are medians over the rounds, and of
  repeated collections the fastest of a round. *By fastest runs* compares the fastest of all rounds, as a check on noise.
  *CPython's on our heap* runs in the first round alone.
- **Full collections** (`benches/workloads/gc_heaps.py`): nothing but a few objects is garbage, and automatic collection is
  off. Sizes are the number of objects that the collector knows. The order of its list decides what CPython's collector costs:
  it walks the list, and whoever it meets before what refers to it is moved aside and back. So each heap is measured twice.
  Before it is built, all that exists is put into generation 1, where it is when a script starts on CPython 3.12 and 3.13: a
  full collection then finds the program's globals behind the heap that they hold. *Settled*: all that exists went into
  generation 2 and stays in front, which is the best that CPython can hope for.
- The heaps, of records with a list, a dict and a tuple where nothing else is said:
{heaps}
- **Memory**: what the resident size grows by at most during a collection, by the kernel's high-water mark, as a share of the
  bytes of all tracked objects (`sys.getsizeof`). Numbers, strings, and dicts of nothing else are not among these. What lasts
  is the resident size after the repeated collections, less that before the first.
- **Garbage** (`gc_garbage.py`): a heap of nothing else is made with automatic collection off, then collected, four times. All
  collectors have to find the same number of objects.
- **Young collections** (`gc_young.py`) beside {old} old objects: asked for with 700 objects in generation 0, or ten times as
  many in generation 1; and two loops that allocate with automatic collection on, thresholds as they are.
- **The service** (`gc_service.py`), in which {objects} aged objects live: {requests:,} requests follow each other on 16 connections,
  for throughput; then {rate} a second come for {seconds:g} seconds, for latency. Latency counts from when a request was due, so
  that those who wait for a collection are counted. The load generator is a process of its own. With `--gc background` a child
  process searches, whose memory is not in the figure beside it. *For the young alone* never looks at the oldest generation: what
  of the latency is not full collections', which are all that heapkeeper's collector takes over.
- pyperformance's benchmarks of the collector run as on the heap's part of this page.
- PyPy's figures are for scale. Its collector has no list whose order could matter, looks at everything whenever it is asked,
  and pays for what lives: garbage costs it next to nothing. *Off*, it still collects what is young."""


def page(record):
    """The whole part; says so where nothing was measured yet."""
    measured = record["interpreters"]
    if not measured:
        return f"{INTRODUCTION}\n\nNot measured yet.\n"
    blocks, machines = [INTRODUCTION], {}
    for name, entry in measured.items():
        runs, *tables = provenance.of_parts({part_name(key): part for key, part in entry["parts"].items()})
        machines.update(dict.fromkeys(tables))
        about = f"<sub>{provenance.interpreter(entry['interpreter'])}.</sub>"
        blocks += [f"## The collector of {name}", *sections(entry), about, runs]
    blocks += [method(measured), "## Machine of the collectors' figures", *machines]
    return "\n\n".join(block for block in blocks if block) + "\n"


def part_name(key):
    """A part of the record as readers know it: `recycled, 3 M`."""
    workload, _, size = key.partition(" ")
    return f"{workload}, {count(int(size))}" if size else workload


def method(measured):
    """How it is done, with the sizes that were used."""
    loads = [entry["parts"]["service"]["result"]["load"] for entry in measured.values() if "service" in entry["parts"]]
    load = [*loads, dataclasses.asdict(service.Load())][0]
    heaps = "\n".join(f"  - *{heap}*: {words};" for heap, words in HEAPS.items()).removesuffix(";") + "."
    return METHOD.format(heaps=heaps, old=count(load["objects"]), **{**load, "objects": count(load["objects"])})


def results_of(entry):
    """Workload, and for heaps their size, → result."""
    return {name: part["result"] for name, part in entry["parts"].items()}


def sections(entry):
    """Everything about one interpreter."""
    results = results_of(entry)
    sized = figures.by_size(results)
    own = entry["interpreter"]["implementation"]
    labels = {key: words.replace("CPython", own) for key, words in LABELS.items()}
    to_reach = ["### What was to be reached", promises.table_of(collector_promises.verdicts(results))]
    return [
        *(to_reach if own == "CPython" else []),
        *full_collections(sized, labels),
        *by_sizes(sized),
        *memory_section(sized),
        *phases_section(results, sized),
        *garbage_section(results.get("garbage"), labels),
        *young_section(results.get("young"), labels),
        *service_section(results.get("service"), labels),
        *pyperformance_section(results.get("pyperformance")),
        "\n".join(remarks(results, labels)),
    ]


def page_size(sized):
    """The size whose figures are shown in full: the promises', else the largest."""
    return MAIN_SIZE if MAIN_SIZE in sized else max(sized)


def count(objects):
    """A number of objects: `3 M`, `30,000`."""
    return f"{objects / 1e6:g} M" if objects >= 1e5 else f"{objects:,}"


def number(value, digits=0):
    """A figure, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


# --- full collections ---


def collectors_of(results):
    """The collectors that took part, in the order of `LABELS`."""
    return [key for key in LABELS if any(result["cases"].get(key) for result in results)]


def full_collections(sized, labels):
    """A table an event, at the size of the page."""
    if not sized:
        return []
    size = page_size(sized)
    keys = collectors_of(sized[size].values())
    blocks = [f"### Full collections of {count(size)} objects"]
    for event, words in EVENTS.items():
        rows = []
        for _, settled, label, result in figures.rows_of(sized[size]):
            own, base = case(OWN, settled), case(BASE, settled)
            cells = [number(figures.nanoseconds(result, case(key, settled), event)) for key in keys]
            ratios = [f"**{times(figures.speed(result, own, base, event))}**"]
            ratios.append(times(figures.speed(result, own, base, event, min)))
            rows.append([label, *cells, *(ratios if OWN in keys else [])])
        head = ["ns an object", *(labels[key] for key in keys)]
        blocks += [words, table([*head, *(["times as fast", "by fastest runs"] if OWN in keys else [])], rows)]
    return blocks


def by_sizes(sized):
    """Milliseconds of a repeated collection, at every size."""
    if len(sized) < 2:
        return []
    labelled = {}
    for size, heaps in sized.items():
        for heap, settled, label, result in figures.rows_of(heaps):
            labelled.setdefault((list(HEAPS).index(heap), settled, label), {})[size] = pause_cell(result, settled)
    rows = [[key[2], *(cells.get(size, "–") for size in sized)] for key, cells in sorted(labelled.items())]
    compared = any(result["cases"].get(OWN) for heaps in sized.values() for result in heaps.values())
    how = "Milliseconds of a repeated collection" + (": CPython's, heapkeeper's, and the ratio." if compared else ".")
    return ["### Pauses by the number of objects", how, table(["ms", *map(count, sized)], rows)]


def pause_cell(result, settled):
    """`748 → 95 (7.87×)`."""
    base, own = (figures.milliseconds(result, case(key, settled)) for key in (BASE, OWN))
    digits = 1 if (base or own or 0) < 100 else 0
    if own is None:
        return number(base, digits)
    return f"{number(base, digits)} → {number(own, digits)} ({times(figures.ratio(base, own))})"


def memory_section(sized):
    """What collections take and leave."""
    rows = []
    for _, settled, label, result in figures.rows_of(sized[page_size(sized)]) if sized else ():
        memory = figures.memory(result, case(OWN, settled))
        if memory:
            objects_mib = memory["tracked_bytes"] / 2**20
            scratch = f"{mib(memory['scratch_mib'])} ({figures.scratch_share(memory) * 100:.1f} %)"
            resident_mib = figures.median(result, case(OWN, settled), "resident_mib")
            rows.append([label, mib(resident_mib), mib(objects_mib), scratch, f"{memory['lasting_mib']:.1f} MiB"])
    if not rows:
        return []
    head = ["", "the process", "tracked objects", "most during a collection", "after"]
    return [f"### Memory that heapkeeper's collector takes, {count(page_size(sized))} objects", table(head, rows)]


def phases_section(results, sized):
    """Where the time of our collections goes."""
    timed = {}
    for _, settled, label, result in figures.rows_of(sized[page_size(sized)]) if sized else ():
        timed[label] = figures.phases(result, case(OWN, settled))
        timed[f"{label}: first"] = figures.phases(result, case(OWN, settled), "first")
    for kind in GARBAGE if "garbage" in results else ():
        timed[f"garbage: {kind}"] = figures.phases(results["garbage"], f"{OWN} {kind}")
    names = list(dict.fromkeys(name for phases in timed.values() for name in phases))
    rows = [[label, *(number(phases.get(name), 1) for name in names)] for label, phases in timed.items() if phases]
    if not rows:
        return []
    words = "Nanoseconds an object by phase of heapkeeper's collector, on average over a round's collections."
    return ["### Where the time goes", words, table(["", *names], rows)]


# --- garbage, young collections, the service ---


def garbage_section(result, labels):
    """Heaps of nothing but garbage."""
    if not result:
        return []
    keys = [key for key in (BASE, ON_HEAP, OWN) if any(result["cases"].get(f"{key} {kind}") for kind in GARBAGE)]
    ratios = figures.garbage_ratios(result)
    rows = [
        [
            words,
            *(number(figures.nanoseconds(result, f"{key} {kind}")) for key in keys),
            *([f"**{times(ratios[kind])}**"] if OWN in keys else []),
        ]
        for kind, words in GARBAGE.items()
    ]
    head = ["ns an object", *(labels[key] for key in keys), *(["times as fast"] if OWN in keys else [])]
    return ["### Heaps of nothing but garbage", table(head, rows)]


def young_section(result, labels):
    """Young collections, and allocation with automatic collection."""
    if not result:
        return []
    keys = collectors_of([result])
    ratios = figures.young_ratios(result)
    rows = [
        [
            words,
            *(number(figures.median(result, key, name), 1) for key in keys),
            *([f"**{times(ratios[name])}**"] if OWN in keys else []),
        ]
        for name, words in YOUNG.items()
    ]
    head = ["ns an object", *(labels[key] for key in keys), *(["times as fast"] if OWN in keys else [])]
    counts = {labels[key]: figures.median(result, key, "full_collections") for key in keys}
    full = [f"{label} {number(counted)}" for label, counted in counts.items() if counted is not None]
    note = f"Full collections while the last two ran, by collector: {listed(full)}." if full else ""
    return ["### Young collections", table(head, rows), note]


def service_section(result, labels):
    """The service under load."""
    if not result:
        return []
    percentiles = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "longest"}
    rows = []
    for key in collectors_of([result]):
        latency = [number(figures.median(result, key, name), 1) for name in percentiles]
        others = [number(figures.median(result, key, name)) for name in ("full_collections", "peak_rss_mib")]
        p99 = result["cases"][key]["p99"]
        spread = f"{min(p99):.1f} to {max(p99):.1f}"
        rows.append([labels[key], number(figures.median(result, key, "requests_per_s")), *latency, spread, *others])
    head = ["collector", "requests a second", *(f"{words}, ms" for words in percentiles.values())]
    return [
        "### A web service under load",
        table([*head, "p99 by round, ms", "full collections", "peak RSS, MiB"], rows),
    ]


def pyperformance_section(result):
    """pyperformance's benchmarks of the collector, as ratios."""
    if not result:
        return []
    others = [key for key in SUITE_LABELS if key in result["rivals"] and key != "pymalloc"]
    suites = {key: {row["name"]: row["mean"] for row in suite_figures.suite_table(result, key)} for key in others}
    rows = [[code(name), *(times(suites[key].get(name), 3) for key in others)] for name in result["benchmarks"]]
    rows.append(["mean", *(mean_of(list(suites[key].values())) for key in others)])
    words = (
        f"pyperformance {result['versions']['pyperformance']}, times as fast as CPython's collector on its own heap:"
    )
    return ["### pyperformance", words, table(["", *(SUITE_LABELS[key] for key in others)], rows)]


def remarks(results, labels):
    """Who has no figure, and why."""
    found = {}
    for name, result in results.items():
        for key, reason in result["missing"].items():
            collector = next(known for known in sorted(labels, key=len, reverse=True) if key.startswith(known))
            found.setdefault((labels[collector], reason), {})[name.partition(" ")[0]] = None
        for benchmark, row in result.get("benchmarks", {}).items():
            for key, reason in row["failed"].items():
                found.setdefault((SUITE_LABELS[key], reason), {})[benchmark] = None
    return [
        f"- *{label}*: {reason} ({listed([code(name) for name in names])})." for (label, reason), names in found.items()
    ]
