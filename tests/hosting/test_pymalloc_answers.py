"""What CPython says of its allocator, answered for our heap."""

import pytest


def test_getallocatedblocks_rises_and_falls(run):
    answer = run("""
        import gc, sys

        class Slotted:
            __slots__ = ("one", "two")

        gc.collect()
        start = sys.getallocatedblocks()
        kept = [Slotted() for _ in range(100_000)]
        risen = sys.getallocatedblocks() - start
        kept.clear()
        gc.collect()
        left = sys.getallocatedblocks() - start
        print(risen, left)
    """)
    risen, left = map(int, answer.stdout.split())
    assert 100_000 <= risen <= 100_100
    assert abs(left) <= 100


def test_getallocatedblocks_counts_what_came_before(run):
    answer = run(
        """
        import gc, heapkeeper, sys
        gc.collect()
        before = sys.getallocatedblocks()
        kept = [object() for _ in range(50_000)]
        heapkeeper.install()
        more = [object() for _ in range(50_000)]
        risen = sys.getallocatedblocks() - before
        kept.clear()
        fallen = before + risen - sys.getallocatedblocks()
        print(risen, fallen)
        """,
        heapkeeper=None,
    )
    risen, fallen = map(int, answer.stdout.split())
    assert 100_000 <= risen <= 110_000  # importing _native allocates too
    assert 49_900 <= fallen <= 50_100


def test_debugmallocstats_speaks_of_our_heap(run):
    answer = run("import sys; kept = [[] for _ in range(50_000)]; sys._debugmallocstats(); print('on')", quiet=False)
    assert answer.stdout == "on\n"
    assert "heapkeeper" in answer.stderr
    assert "PyFrameObject" in answer.stderr or "PyDictObject" in answer.stderr or "PyTupleObject" in answer.stderr


@pytest.mark.parametrize("size_bytes", [100, 600, 5_000, 70_000, 5_000_000])
def test_status_follows_the_program(run, size_bytes):
    answer = run(f"""
        import gc
        count = max(1, 20_000_000 // {size_bytes})
        gc.collect()
        before = heapkeeper.status()["heap"]  # some hundred blocks itself
        kept = [bytes({size_bytes}) for _ in range(count)]
        full = heapkeeper.status()["heap"]
        assert count <= full["live_blocks"] - before["live_blocks"] <= count + 1000
        grown = full["live_bytes"] - before["live_bytes"]
        requested = count * ({size_bytes} + 33)
        assert requested <= grown <= requested * 1.3 + 500_000, (grown, requested)
        assert full["peak_bytes"] >= full["held_bytes"] >= full["live_bytes"]
        kept.clear()
        after = heapkeeper.status()["heap"]
        assert abs(after["live_blocks"] - before["live_blocks"]) <= 1000
        assert after["peak_bytes"] >= full["live_bytes"]
        print("right")
    """)
    assert answer.stdout == "right\n"


def test_process_figures_are_the_kernels(run):
    answer = run("""
        kept = bytearray(b"x") * 200_000_000
        process = heapkeeper.status()["process"]
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        rss = int(lines["VmRSS"].split()[0]) * 1024
        assert abs(process["rss_bytes"] - rss) < 20_000_000, (process, rss)
        assert process["peak_rss_bytes"] >= 200_000_000
        assert process["outside_bytes"] < process["rss_bytes"] - 195_000_000
        print("right")
    """)
    assert answer.stdout == "right\n"
