"""What the report at exit says of the collector, in runs of real programs."""

import json

import pytest

# Full collections only, so that what they free is theirs.
CYCLES = """
import gc
gc.disable()

class Node: __slots__ = ("me",)

def make(number):
    for _ in range(number):
        node = Node(); node.me = node

for _ in range(4):
    make(30_000)
    gc.collect()
"""


def lines(driver, *arguments):
    """The report's paragraphs about the collector, each in one line, by their keys."""
    outcome = driver.run(*arguments)
    assert outcome.status == 0
    found, key = {}, None
    for line in outcome.stderr.splitlines():
        if line and not line.startswith(" "):
            key = line.split(maxsplit=1)[0]
            found[key] = line[len(key) :].strip()
        elif line and key:
            found[key] += " " + line.strip()
    return found


def test_a_run_says_what_its_collections_did(driver):
    report = lines(driver, "--gc", "heapkeeper", "-c", CYCLES)
    assert "collections of generation 0 / 1 / 2 freed" in report["Collector"]
    assert "heapkeeper's full ones looked at" in report["Collector"]
    assert " and found mostly 120,000 Node" in report["Collector"]
    assert "Pauses: p50" in report["Collector"]
    assert report["Advice"].startswith("Break the cycle of Node")


def test_a_run_on_cpythons_collector_says_so(driver):
    report = lines(driver, "--gc", "cpython", "-c", "import gc; gc.collect()")
    assert report["Collector"].endswith("All are CPython's.")
    assert "Advice" not in report


def test_a_verified_run_says_what_came_out(driver):
    report = lines(driver, "--gc", "verify", "-c", CYCLES)
    assert "4 full ones compared with heapkeeper's, without a difference." in report["Collector"]


@pytest.mark.parametrize("mode", ["cpython", "heapkeeper"])
def test_a_collector_that_is_off_while_objects_pile_up_is_pointed_at(driver, mode):
    code = "import gc; gc.disable(); kept = [[] for _ in range(200_000)]"
    assert lines(driver, "--gc", mode, "-c", code)["Advice"].startswith("Nothing collects (gc.disable()), and 20")
    assert "Advice" not in lines(driver, "--gc", mode, "-c", code + "; gc.enable()")


def test_the_json_report_has_the_same_figures(driver):
    outcome = driver.run("--json", "--gc", "heapkeeper", "-c", CYCLES)
    collector = json.loads(outcome.stderr)["collector"]
    assert collector["mode"] == "heapkeeper"
    assert collector["generations"][2]["collected"] >= 120_000
