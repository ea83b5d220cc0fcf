"""The benchmark pages: their arithmetic, their verdicts, and that the page in docs/ is the one its figures make.

Nothing is timed here, and no test depends on how fast anything is.
"""

import copy
import json
import re
import subprocess
import sys

import alloc_page
import figures
import instructions
import machine
import page
import promises
import pytest
import records
import rivals
import timing

PARTS = ("churn", "json_documents")


def run(seconds, peak=100.0, end=20.0):
    """A run of alloc_mix in which every part took the same time."""
    return {
        "seconds": dict.fromkeys(PARTS, seconds),
        "total_s": seconds * len(PARTS),
        "peak_rss_mib": peak,
        "end_rss_mib": end,
    }


def rival(label, *runs, baseline="pymalloc", missing=""):
    return {"label": label, "baseline": baseline, "missing": missing, "runs": list(runs)}


@pytest.fixture
def record(provenance):
    """A record in which heapkeeper keeps every promise, by a hand's breadth."""
    alloc_mix = {
        "rounds": 3,
        "share": 1,
        "rivals": {
            "pymalloc": rival("pymalloc", run(2.0), run(2.0), run(9.0)),
            "mimalloc": rival("mimalloc", missing="not installed: apt install libmimalloc2.0"),
            "glibc": rival("glibc malloc", run(2.5), run(2.5), run(2.5)),
            "heapkeeper": rival("heapkeeper", run(1.0, 104.0, 19.0), run(1.6, 104.0, 19.0), run(1.6, 104.0, 19.0)),
            "pymalloc-small": rival("pymalloc, no huge pages", run(2.0)),
            "heapkeeper-small": rival("heapkeeper, no huge pages", run(1.8), baseline="pymalloc-small"),
        },
    }
    entrants = {
        key: {"label": key, "missing": "", "counts": {"instructions": count}}
        for key, count in (("pymalloc", 1_000_000), ("unsampled", 900_000), ("sampled", 906_300))
    }
    startup = {
        "runs": 3,
        "ways": {
            "plain": {"label": "plain python", "missing": "", "milliseconds": [10.0, 11.0, 30.0]},
            "environment": {"label": "`HEAPKEEPER=1`", "missing": "", "milliseconds": [15.0, 16.0, 17.0]},
            "script": {"label": "`heapkeeper run`", "missing": "", "milliseconds": [31.0, 35.9, 36.0]},
        },
    }
    suite = {
        "rounds": 3,
        "versions": {"pyperformance": "1.14.0", "pyperf": "2.10.0"},
        "rivals": ["pymalloc", "heapkeeper"],
        "missing": {},
        "benchmarks": {
            # Slower by 4 % twice and by 2 % once: within the noise.
            "float": {
                "loops": 1,
                "failed": {},
                "seconds": {"pymalloc": [[1.0]] * 3, "heapkeeper": [[1.04], [1.02], [1.04]]},
            },
            "mako": {"loops": 1, "failed": {}, "seconds": {"pymalloc": [[1.0]] * 3, "heapkeeper": [[0.9]] * 3}},
        },
        "skipped": {"2to3": "no module lib2to3 for CPython 3.13.0"},
        "processes": {"workers": 6, "workers_on_heapkeeper": 6, "others_on_heapkeeper": 2, "on_cpython": 0},
    }
    results = {"alloc_mix": alloc_mix, "startup": startup, "pyperformance": suite}
    results["instructions"] = {"share": 0.1, "caches": ["--D1=49152,12,64"], "entrants": entrants}
    facts = provenance("python benches/alloc.py", {"mimalloc": None, "jemalloc": "5.3.0"}, duration_s=12.3)
    about = {"implementation": "CPython", "version": "3.12.1", "compiler": "GCC", "optimized": True, "shared": True}
    parts = {part: {**facts, "result": result} for part, result in results.items()}
    return {"interpreters": {"CPython 3.12.1": {"interpreter": about, "parts": parts}}}


def verdicts(record):
    """Figure and verdict of each promise, in the order of the page."""
    parts = record["interpreters"]["CPython 3.12.1"]["parts"]
    return [(verdict.figure, verdict.holds) for verdict in promises.verdicts(parts)]


def result(record, part):
    return record["interpreters"]["CPython 3.12.1"]["parts"][part]["result"]


def test_ratios_come_from_medians_so_that_one_slow_run_changes_nothing(record):
    compared = figures.comparisons(result(record, "alloc_mix"))
    assert compared["heapkeeper"]["against"]["mean"] == pytest.approx(2.0 / 1.6)
    assert compared["heapkeeper"]["against"]["mean_by_minima"] == pytest.approx(2.0)
    assert compared["glibc"]["against"]["mean"] == pytest.approx(0.8)
    assert compared["pymalloc"]["against"] is None
    assert "mimalloc" not in compared


def test_a_run_without_huge_pages_is_compared_with_pymalloc_without_them(record):
    record_without = copy.deepcopy(record)
    result(record_without, "alloc_mix")["rivals"]["pymalloc-small"]["runs"] = []
    small = figures.comparisons(result(record, "alloc_mix"))["heapkeeper-small"]["against"]
    assert small["mean"] == pytest.approx(2.0 / 1.8)
    assert figures.comparisons(result(record_without, "alloc_mix"))["heapkeeper-small"]["against"] is None


def test_every_promise_that_is_kept_is_said_to_hold(record):
    assert verdicts(record) == [
        ("1.25×", True),
        ("1.11×", True),
        ("95 % of pymalloc's", True),
        ("104 % of pymalloc's", True),
        ("0 of 2", True),
        ("1.037×", True),
        ("+0.70 %", True),
        ("24.9 ms", True),
    ]


def test_every_promise_that_is_broken_is_said_to_be_broken(record):
    allocators = result(record, "alloc_mix")["rivals"]
    allocators["heapkeeper"]["runs"] = [run(1.61, 105.4, 20.1)]
    allocators["heapkeeper-small"]["runs"] = [run(1.82)]
    benchmarks = result(record, "pyperformance")["benchmarks"]
    benchmarks["float"]["seconds"]["heapkeeper"] = [[1.04], [1.031], [1.2]]
    benchmarks["mako"]["seconds"]["heapkeeper"] = [[1.0]] * 3
    result(record, "instructions")["entrants"]["sampled"]["counts"]["instructions"] = 909_100
    result(record, "startup")["ways"]["environment"]["milliseconds"] = [36.1]
    assert [holds for _, holds in verdicts(record)] == [False] * 8
    page = alloc_page.page(record)
    assert page.count("| **no** |") == 8
    assert "1 of 2: float" in page
    assert "**slower**" in page


def test_what_was_not_measured_is_neither_kept_nor_broken():
    assert [(verdict.figure, verdict.holds) for verdict in promises.verdicts({})] == [("not measured", None)] * 8


def test_a_rival_that_failed_or_is_missing_is_named_with_its_reason(record):
    result(record, "alloc_mix")["rivals"]["glibc"] = rival("glibc malloc", missing="failed in round 1: exit status -11")
    page = alloc_page.page(record)
    assert "*mimalloc*: not installed: apt install libmimalloc2.0." in page
    assert "*glibc malloc*: failed in round 1: exit status -11." in page
    assert "`2to3` was left out: no module lib2to3 for CPython 3.13.0." in page


def test_readme_keeps_all_but_the_figures(record):
    text = f"Before\n{alloc_page.BEGIN}\nold\n{alloc_page.END}\nAfter\n"
    renewed = alloc_page.readme(text, record)
    assert renewed.startswith(f"Before\n{alloc_page.BEGIN}\n")
    assert renewed.endswith(f"{alloc_page.END}\nAfter\n")
    assert "old" not in renewed
    assert "| heapkeeper | 1.25× | 104 % | 95 % |" in renewed
    assert alloc_page.readme(renewed, record) == renewed
    assert alloc_page.readme("no place", record) is None


def test_the_page_in_docs_is_the_one_its_figures_make():
    assert page.PAGE.read_text() == page.text()


def test_the_record_is_compact_and_the_same_data():
    data = {"seconds": [[1.5, 2e-06], []], "names": ["a", "b"], "runs": [{"total_s": 1}]}
    text = records.compact(json.dumps(data, indent=1))
    assert json.loads(text) == data
    assert "[1.5, 2e-06]" in text


def test_callgrind_reports_are_read():
    report = (
        "version: 1\nevents: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\nfn=(1) f\n0 9 9\ntotals: 100 9 9 9 3 4 5 6 7\n"
    )
    assert instructions.events_of(report) == {"instructions": 100, "d1_misses": 7, "ll_misses": 18}
    assert instructions.events_of("events: Ir\nsummary: 7\n") == {"instructions": 7}


@pytest.mark.parametrize("entrant", rivals.peers(), ids=lambda entrant: entrant.key)
def test_the_workload_runs_on_each_peer_and_says_so(entrant, monkeypatch):
    # A shell's own settings must not decide what is measured.
    monkeypatch.setenv("PYTHONMALLOC", "malloc" if entrant.key == "pymalloc" else "pymalloc")
    if entrant.missing:
        assert re.search("not installed: apt install lib", entrant.missing)
        return
    measured = timing.alloc_mix_run(entrant, sys.executable, share=0.01, seed=1)
    assert list(measured["seconds"]) == ["churn", "json_documents", "instances", "strings", "nested_tuples"]
    assert measured["peak_rss_mib"] >= measured["end_rss_mib"] > 1


def test_a_run_on_the_wrong_allocator_is_not_booked():
    liar = rivals.Rival("mimalloc", "mimalloc", "mimalloc")
    with pytest.raises(timing.RunFailed, match="ran on pymalloc instead of mimalloc"):
        timing.alloc_mix_run(liar, sys.executable, share=0.01, seed=1)


def test_huge_pages_are_really_off_where_the_page_says_so():
    small = next(entrant for entrant in rivals.heapkeeper_runs(True) if entrant.key == "pymalloc-small")
    assert timing.alloc_mix_run(small, sys.executable, share=0.01, seed=1)["huge_pages_allowed"] is False


def test_a_failed_run_says_how_it_ended():
    with pytest.raises(timing.RunFailed, match="exit status 3: gone"):
        timing.output_of([sys.executable, "-c", "import sys; print('gone', file=sys.stderr); sys.exit(3)"], {})


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--rounds", "many"], ["--parts", "everything"]])
def test_bad_options_are_refused_before_anything_is_measured(arguments):
    script = rivals.BENCHES / "alloc.py"
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: alloc.py" in done.stderr


def test_time_that_others_take_is_told_from_our_own():
    earlier = machine.CpuTime(total_s=100, busy_s=40, stolen_s=1, ours_s=10)
    later = machine.CpuTime(total_s=120, busy_s=52, stolen_s=2, ours_s=17)
    assert later.disturbance(earlier) == {"others": 0.25, "stolen": 0.05}
    assert machine.CpuTime.now().total_s > machine.CpuTime.now().busy_s > 0
