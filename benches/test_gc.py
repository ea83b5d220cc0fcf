"""The collector's benchmark: its arithmetic, its verdicts, its part of the page, and that its workloads are what they say.

Nothing is timed here. The workloads run small, on plain python and on our heap.
"""

import json
import subprocess
import sys

import collector
import collector_figures as figures
import collector_page
import collector_promises
import page
import pytest
import records
import rivals
import service
import timing
from collector_figures import BASE, ON_HEAP, OWN, case

OBJECTS = 3_000_000


def heap(ns, first=None, replaced=None, scratch_mib=9.5, lasting_mib=1.0, phases=None):
    """A collector's figures on one heap of 100 MiB: three rounds, whose collections took the same, but for the last's."""
    seconds = ns * OBJECTS / 1e9
    return {
        "objects": [OBJECTS] * 3,
        "tracked_bytes": [100 << 20] * 3,
        "resident_mib": [300.0] * 3,
        "lasting_mib": [lasting_mib] * 3,
        "scratch_mib": [scratch_mib] * 3,
        "first_s": [(first or ns) * OBJECTS / 1e9] * 3,
        "again_s": [[seconds * 2, seconds], [seconds, seconds], [seconds * 9, seconds * 8]],
        "replaced_s": [(replaced or ns) * OBJECTS / 1e9] * 3,
        "first_phases": [phases or {}] * 3,
        "again_phases": [phases or {}] * 3,
    }


def heaps(base, own, settled_base=80, settled_own=82):
    """A heap's part of the record."""
    cases = {BASE: base, OWN: own}
    cases |= {case(BASE, True): heap(settled_base), case(OWN, True): heap(settled_own)}
    return {"rounds": 3, "cases": cases, "missing": {}}


@pytest.fixture
def record(provenance):
    """A record in which the collector keeps every promise, by a hand's breadth."""
    mark = {"mark": 0.15, "count": 0.06}
    results = {
        f"recycled {OBJECTS}": heaps(
            heap(720, first=700, replaced=710), heap(119, first=349, replaced=236, phases=mark), 440, 110
        ),
        f"shuffled {OBJECTS}": heaps(heap(750), heap(107)),
        f"trees {OBJECTS}": heaps(heap(530), heap(151)),
        "recycled 1000000": heaps(heap(600), heap(100)),
        "garbage": {
            "rounds": 3,
            "cases": {
                f"{key} {kind}": {"objects": [1000], "again_s": [[ns / 1e6]], "again_phases": [{}]}
                for key, ns in ((BASE, 100), (OWN, 103))
                for kind in figures.GARBAGE
            },
            "missing": {},
        },
        "young": {
            "rounds": 3,
            "cases": {
                key: {**{name: [ns] for name in figures.YOUNG}, "full_collections": [2]}
                for key, ns in ((BASE, 30.0), (OWN, 30.9))
            },
            "missing": {ON_HEAP: "not installed for this interpreter: make build"},
        },
        "service": {
            "rounds": 3,
            "load": {"objects": 1_000_000, "warm_up": 500, "requests": 5000, "rate": 600, "seconds": 15.0},
            "cases": {
                key: {
                    **dict.fromkeys(("p50", "p999", "max"), p99),
                    "p99": p99,
                    "requests_per_s": [4000.0],
                    "full_collections": [1],
                    "peak_rss_mib": [200.0],
                }
                for key, p99 in (
                    (BASE, [300.0, 310.0, 290.0]),
                    (f"{BASE} off", [3.0, 4.0, 3.5]),
                    (OWN, [4.9, 9.0, 3.0]),
                    (figures.BESIDE, [3.2, 4.8, 4.1]),
                )
            },
            "missing": {},
        },
        "pyperformance": {
            "rounds": 1,
            "versions": {"pyperformance": "1.14.0"},
            "rivals": ["pymalloc", OWN],
            "missing": {},
            "benchmarks": {
                "gc_collect": {"loops": 1, "failed": {}, "seconds": {"pymalloc": [[1.0]], OWN: [[0.5]]}},
                "gc_traversal": {"loops": 1, "failed": {OWN: "exit status -11"}, "seconds": {"pymalloc": [[1.0]]}},
            },
            "skipped": {},
        },
    }
    about = {"implementation": "CPython", "version": "3.12.1", "compiler": "GCC", "optimized": True, "shared": True}
    facts = provenance("python benches/collector.py", {})
    parts = {name: {**facts, "result": result} for name, result in results.items()}
    return {"interpreters": {"CPython 3.12.1": {"interpreter": about, "parts": parts}}}


def results(record):
    return collector_page.results_of(record["interpreters"]["CPython 3.12.1"])


def verdicts(record):
    """Figure and verdict of each promise, in the order of the page."""
    return [(verdict.figure, verdict.holds) for verdict in collector_promises.verdicts(results(record))]


def row(text, label):
    """The cells of the first row of a table that begins with `label`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_a_figure_is_the_median_of_the_fastest_repetitions_so_that_one_slow_round_changes_nothing(record):
    recycled = results(record)[f"recycled {OBJECTS}"]
    assert figures.nanoseconds(recycled, OWN) == pytest.approx(119)
    assert figures.speed(recycled, OWN, BASE) == pytest.approx(720 / 119)
    assert figures.milliseconds(recycled, BASE) == pytest.approx(2160)
    assert figures.nanoseconds(recycled, ON_HEAP) is None


def test_every_promise_that_is_kept_is_said_to_hold(record):
    assert verdicts(record) == [
        ("6.05×", True),
        ("4.00×", True),
        ("7.01×", True),
        ("0.98×", True),
        ("3.51×", True),
        ("2.01×", True),
        ("3.01×", True),
        ("0.97× (pairs)", True),
        ("0.97× (young)", True),
        ("4.9 ms; without 3.0 to 4.0 ms", True),
        ("4.1 ms; without 3.0 to 4.0 ms", True),
        ("9.5 %", True),
        ("1.0 MiB", True),
    ]


def test_every_promise_that_is_broken_is_said_to_be_broken(record):
    kept = results(record)
    recycled = heaps(heap(720), heap(121, first=361, replaced=241, scratch_mib=10.1, lasting_mib=1.1), 440, 111)
    kept[f"recycled {OBJECTS}"].update(recycled)
    kept[f"shuffled {OBJECTS}"].update(heaps(heap(750), heap(108), 80, 83))
    kept[f"trees {OBJECTS}"].update(heaps(heap(530), heap(152)))
    kept["garbage"]["cases"][f"{OWN} dicts"]["again_s"] = [[104 / 1e6]]
    kept["young"]["cases"][OWN]["churn"] = [31.0]
    kept["service"]["cases"][OWN]["p99"] = [5.1, 5.2, 3.0]
    kept["service"]["cases"][figures.BESIDE]["p99"] = [5.1, 5.2, 3.0]
    assert [holds for _, holds in verdicts(record)] == [False] * 13
    text = collector_page.page(record)
    assert text.count("| **no** |") == 13
    assert "0.96× (dicts)" in text


def test_what_was_not_measured_is_neither_kept_nor_broken(record):
    nothing = [(verdict.figure, verdict.holds) for verdict in collector_promises.verdicts({})]
    assert nothing == [("not measured", None)] * 13
    for name in list(results(record)):
        if name.endswith(str(OBJECTS)):
            del record["interpreters"]["CPython 3.12.1"]["parts"][name]
    assert [holds for _, holds in verdicts(record)][:7] == [None] * 7


def test_the_tables_say_what_each_collector_costs_and_by_how_much_ours_is_faster(record):
    text = collector_page.page(record)
    assert row(text, "recycled") == ["720", "119", "**6.05×**", "6.05×"]
    assert row(text.partition("a tenth of the objects was replaced:")[2], "recycled") == [
        "710",
        "236",
        "**3.01×**",
        "3.01×",
    ]
    pauses = text.partition("### Pauses")[2]
    assert row(pauses, "recycled") == ["1800 → 300 (6.00×)", "2160 → 357 (6.05×)"]
    assert row(pauses, "trees") == ["–", "1590 → 453 (3.51×)"]
    assert row(text.partition("### Memory")[2], "trees, settled") == [
        "300 MiB",
        "100 MiB",
        "9.5 MiB (9.5 %)",
        "1.0 MiB",
    ]
    phases = text.partition("### Where the time goes")[2]
    # The median of the rounds' averages, of which two phases claim 70.
    assert row(phases, "recycled") == ["50.0", "20.0", "108.5", "178.5"]
    assert row(phases, "recycled: first") == ["50.0", "20.0", "279.0", "349.0"]
    assert row(text.partition("### A web")[2], "CPython's")[2] == "300.0"
    assert row(text, "`gc_collect`") == ["2.000×"]


def test_who_did_not_run_is_named_with_the_reason(record):
    text = collector_page.page(record)
    assert "- *CPython's on our heap*: not installed for this interpreter: make build (`young`)." in text
    assert "- *heapkeeper's*: exit status -11 (`gc_traversal`)." in text
    assert row(text, "`gc_traversal`") == ["–"]


def test_an_interpreter_without_our_collector_has_its_own_figures(record):
    for result in results(record).values():
        for key in [key for key in result.get("cases", {}) if key.startswith(OWN)]:
            result["cases"][key] = {}
    record["interpreters"]["CPython 3.12.1"]["interpreter"]["implementation"] = "PyPy"
    text = collector_page.page(record)
    assert row(text, "ns an object") == ["PyPy's"]
    assert row(text, "recycled") == ["720"]
    assert "was to be reached" not in text
    assert "heapkeeper's" not in text.partition("### Full")[2].partition("### pyperformance")[0]


def test_the_part_without_figures_says_so():
    assert "Not measured yet." in collector_page.page({"interpreters": {}})


def test_the_page_holds_this_part():
    assert page.text().count(f"\n{collector_page.TITLE}\n") == 1


def rival(key):
    """A collector that is at hand here."""
    found = {rival.key: rival for rival in rivals.collectors(sys.executable, "CPython", True)}
    return found[key]


@pytest.mark.parametrize("settled", [(), ("--settled",)], ids=["not settled", "settled"])
@pytest.mark.parametrize("kind", figures.HEAPS)
def test_a_heap_has_as_many_objects_as_was_asked_for_and_hardly_any_garbage(kind, settled):
    own, on_heap = (
        collector.output(rival(key), sys.executable, 1, "gc_heaps.py", kind, 60_000, "--repeats", 2, *settled)
        for key in (BASE, ON_HEAP)
    )
    # An interpreter has a few thousand of its own, and more on our heap.
    assert 60_000 < own["objects"] < 80_000
    assert own["tracked_bytes"] > own["objects"] * 40
    assert [collection["found"] for collection in own["repeated"]] == [0, 0]
    assert own["replaced"]["found"] == on_heap["replaced"]["found"] < own["objects"] / 10
    assert own["first"]["scratch_mib"] is not None


def test_our_collector_does_the_same_and_says_where_the_time_went():
    own, base = (
        collector.output(rival(key), sys.executable, 1, "gc_heaps.py", "shuffled", 60_000, "--repeats", 1)
        for key in (OWN, BASE)
    )
    assert own["replaced"]["found"] == base["replaced"]["found"] > 0
    assert own["phases"]["first"].keys() == own["phases"]["repeated"].keys()
    assert 0 < sum(own["phases"]["first"].values()) <= own["first"]["s"]
    assert base["phases"] == {"first": {}, "repeated": {}}


def test_a_tenth_of_the_objects_is_replaced():
    """In every kind of heap, by as many new ones: neither forgotten nor added to."""
    program = (
        "import gc, json, random, gc_heaps\n"
        "replaced = {}\n"
        "for name, kind in gc_heaps.KINDS.items():\n"
        "    random.seed(1)\n"
        "    heap = kind(3000)\n"
        "    gc.collect()\n"
        "    before = {id(each): each for each in gc.get_objects()}\n"
        "    kept = len(before)\n"
        "    heap.replace(300)\n"
        "    new = sum(id(each) not in before for each in gc.get_objects())\n"
        "    replaced[name] = new\n"
        "    del before\n"
        "print(json.dumps(replaced))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=collector.PROGRAMS, capture_output=True, text=True, check=True
    )
    replaced = json.loads(done.stdout)
    assert list(replaced) != [] and set(replaced) == set(figures.HEAPS)
    for name, count in replaced.items():
        expected = 600 if name == "pointers" else 900
        assert expected * 0.95 <= count <= expected * 1.15, name


@pytest.mark.parametrize("kind", figures.GARBAGE)
def test_all_of_a_heap_of_garbage_is_found_every_time(kind):
    told = collector.output(rival(BASE), sys.executable, 1, "gc_garbage.py", kind, 6_000, "--repeats", 3)
    assert [collection["found"] for collection in told["collections"]] == [6_000] * 3


def test_the_memory_of_a_collection_and_its_phases_are_measured():
    """By a collector that takes 16 MiB and gives them back, with a phase of two seconds: as if it were ours."""
    program = (
        "import collecting, gc, json, mmap\n"
        "taken, seconds = [], {'mark_s': 1.0}\n"
        "def collect(phase, info):\n"
        "    if phase == 'start':\n"
        "        taken.append(mmap.mmap(-1, 16 << 20))\n"
        "        [taken[0].write(bytes(1 << 20)) for _ in range(16)]\n"
        "    else:\n"
        "        taken.pop().close()\n"
        "        seconds['mark_s'] += 2.0\n"
        "collecting.own_collector = lambda: {'mode': 'heapkeeper', 'phases': seconds}\n"
        "gc.disable()\n"
        "gc.callbacks.append(collect)\n"
        "phases = collecting.Phases()\n"
        "both = [collecting.collection(), collecting.collection()]\n"
        "print(json.dumps([both, phases.each(2), phases.each(), collecting.collected_by()]))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=collector.PROGRAMS, capture_output=True, text=True, check=True)
    collections, each, since, collected_by = json.loads(done.stdout)
    assert all(15 < collection["scratch_mib"] < 20 for collection in collections)
    assert (each, since) == ({"mark": 2.0}, {"mark": 0.0})
    assert collected_by == "heapkeeper"


def test_young_collections_are_timed_in_every_way_the_page_shows():
    told = collector.output(rival(BASE), sys.executable, 1, "gc_young.py", 30_000)
    assert set(told["ns"]) == set(figures.YOUNG)
    assert all(told["ns"].values())
    assert told["full_collections"] >= 0


def test_what_is_measured_is_what_the_page_shows(provenance):
    """Every workload but pyperformance, small, through the record and onto the page."""
    entrants = rivals.collectors(sys.executable, "CPython", True)
    load = service.Load(objects=3_000, warm_up=20, requests=100, rate=200, seconds=0.2)
    measured = {
        "fresh 20000": collector.heaps(entrants, sys.executable, 1, "fresh", 20_000),
        "garbage": collector.garbage(entrants, sys.executable, 1, 600),
        "young": collector.young(entrants, sys.executable, 1, 6_000),
        "service": collector.web_service(entrants, sys.executable, True, 1, load),
    }
    assert [result["missing"] for result in measured.values()] == [{}] * 4
    about = {"implementation": "CPython", "version": "3.12.1", "compiler": "GCC", "optimized": True, "shared": True}
    facts = provenance("python benches/collector.py", {})
    parts = {name: {**facts, "result": json.loads(json.dumps(result))} for name, result in measured.items()}
    text = collector_page.page({"interpreters": {"CPython 3.12.1": {"interpreter": about, "parts": parts}}})
    assert "–" not in "".join(row(text, "fresh, settled") + row(text, "pairs of instances"))
    assert text.count("| not measured | – |") == 9
    assert "walk" in text.partition("### Where the time goes")[2]


def test_the_service_answers_whatever_its_load():
    load = service.Load(objects=3_000, warm_up=20, requests=100, rate=200, seconds=0.5)
    told = service.run(rival(BASE), sys.executable, load)
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"] <= told["latency_ms"]["max"]
    assert (told["collected_by"], told["served_by"]) == ("cpython", "pymalloc")
    assert told["full_collections"] is not None


def test_a_service_that_does_not_start_says_so():
    with pytest.raises(timing.RunFailed, match=r"did not start: .*No module named"):
        service.run(
            rivals.Rival("none", "none", "none", launcher=("-m", "nosuchmodule")), sys.executable, service.QUICK
        )


def test_a_run_on_another_collector_or_heap_is_not_booked():
    run = {"collected_by": "cpython", "served_by": "heapkeeper"}
    with pytest.raises(timing.RunFailed, match="collected by cpython instead of heapkeeper"):
        collector.verified(run, rivals.Rival("heapkeeper", "ours", "heapkeeper", collects="heapkeeper"))
    with pytest.raises(timing.RunFailed, match="served by heapkeeper instead of pymalloc"):
        collector.verified(run, rivals.Rival("cpython", "CPython's", "pymalloc"))
    same = collector.SameGarbage()
    same.check(3)
    same.check(3)
    with pytest.raises(timing.RunFailed, match="found 4 objects of garbage where the run before found 3"):
        same.check(4)


def test_a_heapkeeper_without_the_option_leaves_cpythons_collector_on_our_heap(monkeypatch):
    rivals.collectors.cache_clear()
    monkeypatch.setattr(rivals, "has_gc_option", lambda _: False)
    without = {rival.key: rival for rival in rivals.collectors("python", "CPython", True)}
    assert without[OWN].missing == rivals.NO_GC_OPTION
    assert not without[ON_HEAP].missing and "--gc" not in without[ON_HEAP].launcher
    assert [rival.collects for rival in rivals.collectors("pypy3", "PyPy", False)] == ["pypy"]
    assert all(rival.missing for rival in rivals.collectors("python3", "CPython", False) if rival.key != BASE)
    rivals.collectors.cache_clear()


def test_who_runs_once_runs_in_the_first_round_and_who_fails_is_not_run_again():
    asked = []

    def run(key, number):
        asked.append(key)
        if key == "broken":
            raise timing.RunFailed("exit status 1")
        return number

    missing = {"steady": "", "once": "", "broken": "", "absent": "not here"}
    runs, reasons = timing.interleaved("work", missing, 3, run, str, once=("once",))
    assert runs == {"steady": [0, 1, 2], "once": [0], "broken": [], "absent": []}
    assert reasons == {**missing, "broken": "failed in round 1: exit status 1"}
    assert sorted(asked) == ["broken", "once", "steady", "steady", "steady"]


def test_the_entrants_of_pyperformance_are_put_on_our_collector_by_the_environment():
    ours = {rival.key: rival for rival in collector.suite_rivals(True, True)}
    assert ours[OWN].environment == {"HEAPKEEPER": "gc=heapkeeper"}
    assert ours[ON_HEAP].environment == {"HEAPKEEPER": "gc=cpython"}
    assert rivals.logged(ours[OWN], "LOG").environment == {"HEAPKEEPER": "gc=heapkeeper,log=LOG"}
    through = rivals.heapkeeper_through_environment(True)
    assert through.environment == {"HEAPKEEPER": "1"}
    assert rivals.logged(through, "LOG").environment == {"HEAPKEEPER": "log=LOG"}
    assert not ours[OWN].missing
    older = {rival.key: rival for rival in collector.suite_rivals(False, True)}
    assert older[OWN].missing == rivals.NO_GC_OPTION
    assert older[ON_HEAP].environment == {"HEAPKEEPER": "1"}


def test_who_is_stopped_keeps_the_workloads_that_are_done(tmp_path, monkeypatch, capsys):
    def measure_all(_, record):
        record["interpreters"]["CPython 3.12.1"] = {}
        records.write(collector.RECORD, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(collector, "RECORD", tmp_path / "results" / "gc.json")
    monkeypatch.setattr(collector, "measure_all", measure_all)
    monkeypatch.setattr(sys, "argv", ["collector.py"])
    assert collector.main() == 130
    assert records.read(collector.RECORD, None) == {"interpreters": {"CPython 3.12.1": {}}}
    assert "the workloads that were done are kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--sizes", "0"], ["--sizes", "many"], ["--workloads", "everything"]]
)
def test_bad_options_are_refused_before_anything_is_measured(arguments):
    script = rivals.BENCHES / "collector.py"
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: collector.py" in done.stderr
