"""What the figures of a capture say of each other, and of the report at exit."""

import json
import re

import recorded
from processes import COMMAND

MIB = 2**20


def test_the_peak_is_not_below_what_is_live_at_the_exit(driver):
    """Of blocks that spans round up, most bytes are held when less of them is live than at the exit."""
    driver.write(
        "program.py",
        """
import heapkeeper
rounded = [bytes(33_000) for _ in range(1000)]  # 31 MiB, and 48 KiB are held for each.
del rounded
kept = bytes(38 << 20)
status = heapkeeper.status()["profile"]
assert status["peak_bytes"] >= status["live_bytes"] > 37 << 20, status
""",
    )
    outcome = driver.run("-q", "--sample-bytes", "16K", "-o", "run.hk", "program.py")
    assert (outcome.status, outcome.stderr) == (0, "")
    ticks = recorded.read(driver.folder / "run.hk").ticks
    assert all(tick["peak_bytes"] >= tick["live_bytes"] for tick in ticks)
    capture = recorded.read(driver.folder / "run.hk")
    assert sum(site.peak_bytes for site in capture.sites) == ticks[-1]["peak_bytes"] > 37 * MIB
    assert ticks[-1]["peak_at_ms"] == ticks[-1]["at_ms"]


def test_a_peak_stays_when_less_is_live_again(driver):
    """Also one that was no peak of held bytes, but was live at a mark."""
    driver.write(
        "program.py",
        """
import heapkeeper, time
rounded = [bytes(33_000) for _ in range(1000)]
del rounded
kept = bytes(38 << 20)
heapkeeper.mark("most")
time.sleep(0.5)
del kept
""",
    )
    assert driver.run("-q", "--sample-bytes", "16K", "-o", "run.hk", "program.py").status == 0
    capture = recorded.read(driver.folder / "run.hk")
    last = capture.ticks[-1]
    assert last["live_bytes"] < 5 * MIB and last["peak_bytes"] > 37 * MIB
    assert sum(site.peak_bytes for site in capture.sites) == last["peak_bytes"]


def test_memory_kept_for_reuse_is_not_outside_our_heap(driver):
    """Free slots between used ones stay resident: they are our heap's, for the capture as for the report at exit."""
    driver.write("program.py", "a = [bytes(3000) for _ in range(60_000)]\nkept = a[::40]\ndel a\n")
    outcome = driver.run("--json", "-o", "run.hk", "program.py")
    assert outcome.status == 0
    status = json.loads(outcome.stderr)
    assert status["heap"]["retained_bytes"] > 10 * MIB
    outside = status["process"]["outside_bytes"]
    last = recorded.read(driver.folder / "run.hk").ticks[-1]
    assert abs(last["outside_bytes"] - outside) < 3 * MIB
    summary = driver.call([COMMAND, "report", "run.hk"]).stdout.replace("\n", " ")
    shown = float(re.search(r"; ([\d.]+) MiB outside our heap", summary)[1])
    assert abs(shown - outside / MIB) < 3
