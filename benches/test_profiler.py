"""The profilers' benchmark: its arithmetic, its verdicts, its part of the page, and that who is measured is who it says.

Nothing is timed here. The workload runs small, on plain python, under tracemalloc, and on our heap with each profile.
"""

import copy
import subprocess
import sys
from pathlib import Path

import instructions
import machine
import page
import profiler
import profiler_figures as figures
import profiler_page
import profiler_promises
import pytest
import rivals
import timing
from profiler_figures import ALLOC_MIX, INSTRUCTIONS, OFF, PLAIN

PARTS = ("churn", "strings")


def ran(seconds, peak_mib=100.0, wrote=None, parts=PARTS):
    """A profiler's figures: rounds of which the last was slow, for everybody."""
    column = [seconds, seconds, seconds * 7]
    return {
        "seconds": dict.fromkeys(parts, column),
        "whole_s": column,
        "peak_rss_mib": [peak_mib] * 3,
        "capture_bytes": [wrote] * 3,
    }


def workload(**cases):
    return {"rounds": 3, "loops": None, "cases": cases, "missing": {}}


@pytest.fixture
def record(provenance):
    """A record in which the profiler keeps every promise, by a hand's breadth."""
    counts = {"pymalloc": 1_100_000, "unsampled": 1_000_000, "sampled": 1_009_900, "exact": 1_400_000}
    results = {
        ALLOC_MIX: workload(
            plain=ran(2.0),
            off=ran(1.6, 100.0),
            sample=ran(1.6, 102.0),
            exact=ran(3.0, 115.0),
            capture=ran(3.1, 116.0, wrote=1_000_000),
            memray=ran(8.0, wrote=73_400_000),
        ),
        "float": workload(**{key: ran(spent, parts=["float"]) for key, spent in (("plain", 1.0), ("exact", 1.2))}),
        "mako": workload(**{key: ran(spent, parts=["mako"]) for key, spent in (("plain", 1.0), ("exact", 1.4))}),
        INSTRUCTIONS: {
            "rounds": 1,
            "share": 0.05,
            "entrants": {
                key: {"label": key, "missing": "", "counts": {"instructions": count}} for key, count in counts.items()
            },
        },
    }
    about = {"implementation": "CPython", "version": "3.12.1", "compiler": "GCC", "optimized": True, "shared": True}
    facts = provenance("python benches/profiler.py", {"memray": "1.20.0"})
    parts = {name: {**facts, "result": result} for name, result in results.items()}
    return {"interpreters": {"CPython 3.12.1": {"interpreter": about, "parts": parts}}}


def results(record):
    return {name: part["result"] for name, part in record["interpreters"]["CPython 3.12.1"]["parts"].items()}


def verdicts(record):
    """Figure and verdict of each promise, in the order of the page."""
    return [(verdict.figure, verdict.holds) for verdict in profiler_promises.verdicts(results(record))]


def test_runs_are_compared_within_their_round_so_that_a_slow_one_changes_nothing(record):
    assert figures.cost(results(record)[ALLOC_MIX], "exact") == pytest.approx(1.5)
    assert figures.ratio([2.0, None, 30.0], [1.0, 5.0, 10.0]) == 2.5
    assert figures.ratio([None, 1.0], [1.0, None]) is None


def test_every_promise_that_is_kept_is_said_to_hold(record):
    assert verdicts(record) == [
        ("1.50×", True),
        ("1.30×", True),
        ("1.0099×", True),
        ("1.0 MB", True),
        ("+15.00 % of plain python's, +15.00 % of our heap's", True),
        ("+2.00 % of plain python's, +2.00 % of our heap's", True),
    ]


def test_every_promise_that_is_broken_is_said_to_be_broken(record):
    measured = results(record)
    measured[ALLOC_MIX]["cases"].update(
        off=ran(1.6, 99.0), sample=ran(1.6, 101.5), exact=ran(3.02, 114.5), capture=ran(3.1, wrote=1_000_001)
    )
    measured["float"]["cases"]["exact"] = ran(1.21, parts=["float"])
    measured[INSTRUCTIONS]["entrants"]["sampled"]["counts"]["instructions"] = 1_010_100
    assert [holds for _, holds in verdicts(record)] == [False] * 6
    assert profiler_page.page(record).count("| **no** |") == 6


def test_what_was_not_measured_is_neither_kept_nor_broken(record):
    assert [verdict.holds for verdict in profiler_promises.verdicts({})] == [None] * 6
    measured = results(record)
    del measured["mako"]["cases"]["exact"]
    verdict = profiler_promises.verdicts(measured)[1]
    assert (verdict.figure, verdict.holds) == ("not measured", None)


def test_the_tables_say_what_each_profiler_costs(record):
    text = profiler_page.page(record)
    assert "| times as long | `churn` | `strings` | mean | of ours | from start to end | peak RSS | of ours |" in text
    assert "| heapkeeper, `--profile exact` | 1.50× | 1.50× | **1.50×** | 1.88× | 1.50× | 115 % | 115 % |" in text
    assert "| memray | 4.00× | 4.00× | **4.00×** | 5.00× | 4.00× | 100 % | 100 % |" in text
    assert "| heapkeeper, `--profile exact` | 1.20× | 1.40× | **1.30×** | – | 100 % | – |" in text
    assert "| memray | 73.4 MB | – | – |" in text
    assert "| heapkeeper, `--profile exact` | 1.2727× | 1.4000× |" in text
    results(record)["mako"]["cases"].pop("exact")
    text = profiler_page.page(record)
    assert "| heapkeeper, `--profile exact` | 1.20× | – | **1.20×**, of 1 | – | 100 % | – |" in text


def test_who_did_not_run_is_named_with_the_reason(record):
    results(record)["float"]["missing"]["scalene"] = "failed in round 1: exit status -11"
    results(record)[INSTRUCTIONS]["entrants"]["exact"].update(counts=None, missing="no valgrind")
    text = profiler_page.page(record)
    assert "- *scalene, `--memory --profile-all`*: failed in round 1: exit status -11 (`float`)." in text
    assert "- *heapkeeper, `--profile exact`*: no valgrind (`instructions`)." in text


def test_the_part_without_figures_says_so():
    assert profiler_page.page({"interpreters": {}}).endswith("Not measured yet.\n")


def test_the_page_holds_this_part():
    assert profiler_page.TITLE in page.text()


def test_rounds_are_added_to_those_kept_and_who_was_in_one_only_has_no_figure_in_the_other():
    kept = workload(plain=ran(1.0), memray=ran(4.0, wrote=5))
    later = {**workload(plain=ran(1.0), exact=ran(1.5)), "rounds": 6}
    both = profiler.added(copy.deepcopy(kept), later)
    assert both["rounds"] == 6
    assert both["cases"]["exact"]["whole_s"] == [None] * 3 + [1.5, 1.5, 10.5]
    assert both["cases"]["memray"]["seconds"]["churn"] == [4.0, 4.0, 28.0] + [None] * 3
    assert figures.cost(both, "exact") == pytest.approx(1.5)
    assert figures.cost(both, "memray") == pytest.approx(4.0)
    assert figures.cost(both, "memray", "exact") is None


def test_who_failed_once_and_ran_later_has_figures_and_no_reason():
    kept = {**workload(plain=ran(1.0)), "missing": {"scalene": "no end after 90 s", "memray": "exit status 1"}}
    later = {**workload(plain=ran(1.0), scalene=ran(1.2)), "rounds": 6}
    assert profiler.added(kept, later)["missing"] == {"memray": "exit status 1"}


def test_the_error_of_a_process_is_told_from_what_it_says_after():
    said = "Traceback\n  line\nRuntimeError: Unexpected\nTo view: elsewhere\n"
    assert timing.ending(1, said) == "exit status 1: RuntimeError: Unexpected"
    assert timing.ending(-9, "one\ntwo\n") == "exit status -9: two"
    assert timing.ending(3, "") == "exit status 3"


def test_how_disturbed_added_rounds_were_is_that_of_all_of_them(provenance):
    quiet = provenance("python benches/profiler.py", {}, duration_s=30.0)
    loud = {**provenance("python benches/profiler.py --add", {}, duration_s=10.0)}
    loud["disturbance"] = {"others": 0.09, "stolen": 0.04}
    both = profiler.with_earlier(loud, quiet)
    assert both["disturbance"] == {"others": 0.03, "stolen": 0.01}
    assert (both["duration_s"], both["command"]) == (40.0, quiet["command"])


OURS = [rival for rival in rivals.profilers(True, "") if rival.key.partition("-")[0] not in ("memray", "scalene")]


@pytest.mark.parametrize("key", [rival.key for rival in OURS])
def test_each_profiler_runs_the_workload_and_leaves_no_file(key, tmp_path):
    rival = next(rival for rival in rivals.profilers(True, tmp_path) if rival.key == key)
    run = profiler.run_alloc_mix(rival, sys.executable, tmp_path, share=0.01, seed=1)
    assert list(run["seconds"]) == ["churn", "json_documents", "instances", "strings", "nested_tuples"]
    assert run["whole_s"] >= sum(run["seconds"].values())
    assert run["peak_rss_mib"] > 1
    assert (run["capture_bytes"] or 0) > 1000 if key == "capture" else run["capture_bytes"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_profiler_that_writes_nothing_is_not_booked(tmp_path):
    lazy = rivals.Rival("memray", "memray", "pymalloc", capture=tmp_path / "never")
    with pytest.raises(timing.RunFailed, match="wrote nothing"):
        profiler.run_alloc_mix(lazy, sys.executable, tmp_path, share=0.01, seed=1)


def test_a_starter_keeps_the_peak_size_of_this_process_out_of_the_workers():
    question = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    ballast = b"x" * (64 << 20)
    command = [*profiler.STARTER, sys.executable, "-c", question]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert int(told) * 1024 < len(ballast)


def test_instructions_are_counted_for_each_way_that_the_page_shows():
    counted = profiler.counted_entrants(True, Path("folder"))
    assert set(profiler_page.COUNTED) < set(counted)
    assert set(instructions.entrants(True)) < set(counted)
    settings = counted["capture"][1].environment["HEAPKEEPER"]
    assert settings == "profile=exact,seed=1,output=folder/counted-%p.hk"


def test_a_record_names_the_commit_that_last_changed_what_was_measured():
    assert machine.commit(["LICENSE-MIT"], last_change=True).rstrip("+") != machine.commit(["LICENSE-MIT"]).rstrip("+")


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--workloads", "everything"]])
def test_bad_options_are_refused_before_anything_is_measured(arguments):
    script = rivals.BENCHES / "profiler.py"
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: profiler.py" in done.stderr


def test_every_workload_has_plain_python_as_its_base():
    assert [rival.key for rival in rivals.profilers(True, "")][:2] == [PLAIN, OFF]
