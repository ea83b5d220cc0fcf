"""The crate's benchmark: its arithmetic, its verdicts, its rounds, and its part of the page.

Nothing is built or timed here. That the crates compute the same on every workload, and who leaks, is asserted where they are
compiled: `cargo test --manifest-path benches/runtime/Cargo.toml`.
"""

import re
import stat
import subprocess
import sys

import machine
import page
import pytest
import records
import runtime
import runtime_figures as figures
import runtime_page
import timing

OWN, RC = "heapkeeper", "rc"


def run(ns, name="alloc_drop", peak_mib=50.0, leaked=0.0, **more):
    """A run of three repetitions, whose phases took the same; the first, on fresh memory, took twice as long."""
    return {
        "phases": {phase: [ns * 2, ns, ns] for phase in runtime_page.WORKLOADS[name][1]},
        "peak_bytes": round(peak_mib * 2**20),
        "leaked_bytes_per_object": leaked,
        **more,
    }


def entry(*runs, missing=""):
    return {"missing": missing, "runs": list(runs)}


@pytest.fixture
def record(provenance):
    """A record in which the crate keeps every promise, by a hand's breadth."""
    facts = provenance("python benches/runtime.py", {"rustc": "rustc 1.95.0", "heapkeeper": "0.1.0"})

    def workload(crates, objects=1_000_000):
        return {**facts, "result": {"rounds": 3, "objects": objects, "checksum": "00", "crates": crates}}

    kept = {"name": "keep"}
    return {
        "workloads": {
            "alloc_drop": workload(
                {
                    OWN: entry(run(5.0), run(5.0), run(9.0)),
                    RC: entry(run(5.0)),
                    "gc-arena": entry(run(4.0)),
                    "rust-cc": entry(run(11.0), run(10.0), run(10.0)),
                    "gc": entry(run(20.0)),
                }
            ),
            "keep": workload(
                {
                    OWN: entry(run(9.0, **kept, bytes_per_object=48.0)),
                    RC: entry(run(9.0, **kept, bytes_per_object=40.0)),
                    "rust-cc": entry(run(9.0, **kept, bytes_per_object=48.0)),
                }
            ),
            "list": workload(
                {OWN: entry(run(9.0, "list", peak_mib=50.9)), "rust-cc": entry(missing="overflows the stack")}
            ),
            "cycles": workload(
                {
                    OWN: entry(run(20.0, "cycles", peak_mib=50.9)),
                    RC: entry(run(0.0, "cycles", peak_mib=30.0, leaked=64.0)),
                    "rust-cc": entry(run(40.0, "cycles")),
                }
            ),
            "aged": workload({OWN: entry(run(60.0, "aged", live_bytes=1000, scratch_bytes=100))}, objects=10_000_000),
        }
    }


def results(record):
    return {name: part["result"] for name, part in record["workloads"].items()}


def verdicts(record):
    """Figure and verdict of each promise, in the order of the page."""
    kept = results(record)
    ran = {name: figures.summaries(result) for name, result in kept.items()}
    return [(verdict.figure, verdict.holds) for verdict in runtime_page.verdicts(kept, ran)]


def row(text, label):
    """The cells of the first row of a table that begins with `label`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_a_figure_is_a_median_of_medians_so_that_one_slow_run_and_the_first_repetition_change_nothing(record):
    own = figures.summaries(results(record)["alloc_drop"])[OWN]
    assert own["phases"]["all"] == {"median_ns": 5.0, "min_ns": 5.0, "first_ns": 10.0}
    assert own["peak_bytes"] == 50 * 2**20
    assert own["bytes_per_object"] is None


def test_every_promise_that_is_kept_is_said_to_hold(record):
    assert verdicts(record) == [
        ("2.00×", True),
        ("2.00×", True),
        ("1.00×", True),
        ("100 %", True),
        ("0 of 3", True),
        ("60.0 ns", True),
        ("10 %", True),
    ]


def test_every_promise_that_is_broken_is_said_to_be_broken(record):
    kept = results(record)
    kept["alloc_drop"]["crates"][OWN]["runs"] = [run(5.1)]
    kept["cycles"]["crates"][OWN]["runs"] = [run(20.4, "cycles", peak_mib=51.1)]
    kept["keep"]["crates"][OWN]["runs"][0]["bytes_per_object"] = 48.5
    kept["aged"]["crates"][OWN]["runs"] = [run(60.1, "aged", live_bytes=1000, scratch_bytes=101)]
    assert [holds for _, holds in verdicts(record)] == [False] * 7
    text = runtime_page.page(record)
    assert text.count("| **no** |") == 7
    assert "1 of 3: pairs in cycles" in text


def test_what_was_not_measured_is_neither_kept_nor_broken(record):
    nothing = [(verdict.figure, verdict.holds) for verdict in runtime_page.verdicts({}, {})]
    assert nothing == [("not measured", None)] * 7
    results(record)["aged"]["objects"] = 9_999_999
    assert verdicts(record)[-2:] == [("not measured", None)] * 2


def test_the_best_collector_is_none_that_leaks_nor_one_of_another_kind(record):
    ran = figures.summaries(results(record)["alloc_drop"])
    assert figures.best(ran, "all") == ("rust-cc", 10.0)
    assert RC not in figures.summaries(results(record)["cycles"])


def test_who_could_not_do_a_workload_is_named_with_the_reason(record):
    text = runtime_page.page(record)
    assert "- rust-cc overflows the stack: a list of 1 M." in text
    assert "- `Rc` leaks: pairs in cycles (64 bytes an object made)." in text
    assert row(text, "a list of 1 M: build") == ["**9.0**", "–", "–", "stack", "–"]
    assert row(text, "pairs in cycles: collect 1 M") == ["**20.0**", "leaks", "–", "40.0", "–"]


def test_the_tables_say_who_is_fastest_and_by_how_much(record):
    text = runtime_page.page(record)
    assert row(text, "allocate and drop") == ["5.0", "5.0", "**4.0**", "10.0", "20.0"]
    ratios = text.partition("Times as fast as each:")[2]
    assert row(ratios, "allocate and drop") == ["1.00×", "0.80×", "2.00×", "4.00×", "**2.00×**", "2.00×"]
    assert row(text.partition("Peak memory")[2], "pairs in cycles") == ["51 MiB", "leaks", "–", "50 MiB", "–"]
    assert "live node of 32 bytes costs: `Rc` 40, heapkeeper 48 and rust-cc 48." in text


def test_words_follow_the_figures(record):
    text = runtime_page.page(record)
    pairs = "pairs in cycles: make, nothing collects (2.00×) and pairs in cycles: collect 1 M (2.00×)"
    assert f"- heapkeeper is faster than the best collector¹ on allocate and drop (2.00×), {pairs}." in text
    assert "slower" not in text.partition("## Time")[2].partition("## How")[0]
    results(record)["alloc_drop"]["crates"][OWN]["runs"] = [run(20.0)]
    text = runtime_page.page(record)
    assert "- It is **slower** than that on allocate and drop (0.50×)." in text
    assert "- It is **slower** than `Rc` on allocate and drop (0.25×)." in text


def test_workloads_measured_apart_say_so(record):
    assert runtime_page.page(record).count("<sub>") == 1
    record["workloads"]["keep"]["command"] = "python benches/runtime.py --workloads keep"
    text = runtime_page.page(record)
    assert text.count("<sub>") == 2
    assert "Rounds: 3. `keep`.</sub>" in text


def test_the_part_without_figures_says_so():
    assert "Not measured yet." in runtime_page.page({"workloads": {}})


def test_the_page_holds_both_parts():
    text = page.text()
    assert text.startswith("# Benchmarks: heapkeeper's heap and its peers\n")
    assert text.count(f"\n{runtime_page.TITLE}\n") == 1


def test_rounds_are_interleaved_and_who_fails_or_leaks_is_not_run_again():
    asked = []

    def run_once(_, crate, name, objects):
        asked.append(crate)
        if crate == "broken" and asked.count(crate) == 2:
            raise timing.RunFailed("exit status -11")
        sum_of_it, leaked = "bad" if crate == "liar" else "good", 16.0 if crate == "leaky" else 0.0
        return {"crate": crate, "workload": name, "objects": objects, "checksum": sum_of_it, **run(1.0, leaked=leaked)}

    # The first to be asked decides what is right: see that it is none that lies.
    result = runtime.measure("bench", ["a", "b", "broken", "leaky", "liar"], "keep", 3, 10, run_once)
    assert [sorted(asked[:5]), sorted(asked[5:8]), sorted(asked[8:])] == [
        ["a", "b", "broken", "leaky", "liar"],
        ["a", "b", "broken"],
        ["a", "b"],
    ]
    assert [len(crate["runs"]) for crate in result["crates"].values()] == [3, 3, 1, 1, 0]
    assert result["crates"]["broken"]["missing"] == "exit status -11"
    assert result["crates"]["liar"]["missing"] == "computed something else than the crate before"
    assert (result["objects"], result["checksum"], result["rounds"]) == (10, "good", 3)


def test_nothing_measured_is_no_result():
    def run_once(*_):
        raise timing.RunFailed("exit status 1")

    with pytest.raises(runtime.Stop, match="keep: no crate did it"):
        runtime.measure("bench", ["a"], "keep", 2, 10, run_once)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("echo 'fatal runtime error: stack overflow, aborting' >&2; kill -ABRT $$", "overflows the stack"),
        ("echo gone >&2; exit 3", "exit status 3: gone"),
        ("kill -SEGV $$", "exit status -11"),
    ],
)
def test_a_process_that_dies_says_how(tmp_path, ending, reason):
    program = tmp_path / "bench"
    program.write_text(f"#!/bin/sh\n{ending}\n")
    program.chmod(stat.S_IRWXU)
    with pytest.raises(timing.RunFailed, match=f"^{reason}$"):
        runtime.run_once(str(program), "rc", "list", None)


def test_who_is_stopped_keeps_the_workloads_that_are_done(tmp_path, monkeypatch, capsys):
    def measure_all(_, record):
        record["workloads"]["keep"] = {}
        records.write(runtime.RECORD, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(runtime, "RECORD", tmp_path / "results" / "runtime.json")
    monkeypatch.setattr(runtime, "measure_all", measure_all)
    monkeypatch.setattr(sys, "argv", ["runtime.py"])
    assert runtime.main() == 130
    assert records.read(runtime.RECORD, None) == {"workloads": {"keep": {}}}
    assert "the workloads that were done are kept" in capsys.readouterr().err
    assert [path.name for path in runtime.RECORD.parent.iterdir()] == ["runtime.json"]


def test_the_page_and_the_program_know_the_same_workloads_phases_and_crates():
    sources = runtime.PROJECT / "src"
    named = re.findall(r'\bworkload\("(\w+)"', (sources / "workloads" / "mod.rs").read_text())
    assert named == list(runtime_page.WORKLOADS)
    crates = re.findall(r'\("([\w-]+)", measure::<', (sources / "main.rs").read_text())
    assert crates == list(runtime_page.LABELS)
    texts = "".join(path.read_text() for path in (sources / "workloads").glob("*.rs"))
    timed = set(re.findall(r'phase(?:_with_scratch)?\(\s*"(\w+)"', texts))
    assert timed == {phase for _, phases in runtime_page.WORKLOADS.values() for phase in phases}


def test_versions_come_from_the_lock_file():
    names = [name for name in runtime_page.LABELS if name != "rc"]
    versions = machine.locked_versions(runtime.PROJECT / "Cargo.lock", names)
    assert [version.rpartition(".")[0] for version in versions.values()] == ["0.1", "0.7", "2.1", "0.6", "0.5", "0.4"]


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--rounds", "many"], ["--workloads", "everything"]])
def test_bad_options_are_refused_before_anything_is_measured(arguments):
    script = machine.ROOT / "benches" / "runtime.py"
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: runtime.py" in done.stderr
