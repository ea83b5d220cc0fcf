"""tracemalloc beneath, above and across our installation, and the interpreter's own debugging allocators."""

import pytest

USE = """
    import gc, tracemalloc

    def check():
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        kept = [bytearray(1000) for _ in range(5000)]
        big = bytearray(3_000_000)
        traced = tracemalloc.get_traced_memory()[0] - before
        assert 8_000_000 < traced < 9_000_000, traced
        top = tracemalloc.take_snapshot().statistics("lineno")[:4]
        assert any(each.size >= 3_000_000 for each in top), top
        big.extend(bytes(2_000_000))
        assert tracemalloc.get_traced_memory()[0] - before > 9_900_000
        del kept, big, top
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
        assert left < 400_000, left
"""

STARTED_BEFORE = [("-X tracemalloc", ("-X", "tracemalloc"), {}), ("PYTHONTRACEMALLOC", (), {"PYTHONTRACEMALLOC": "5"})]


@pytest.mark.parametrize(
    ("flags", "environment"), [each[1:] for each in STARTED_BEFORE], ids=[each[0] for each in STARTED_BEFORE]
)
@pytest.mark.parametrize(
    "ending", ["tracemalloc.stop()", "tracemalloc.stop(); tracemalloc.start(); check(); tracemalloc.stop()", "pass"]
)
def test_running_before_us(run, flags, environment, ending):
    """Its stop() puts back what it saved at its start: that must be us by then."""
    answer = run(
        USE
        + f"""
    assert tracemalloc.is_tracing()
    check()
    kept = [str(number) * 3 for number in range(50_000)]
    {ending}
    more = [str(number) * 3 for number in range(50_000)]
    assert kept == more
    kept.clear()
    blocks = heapkeeper.status()["heap"]["live_blocks"]
    fresh = [[number] for number in range(50_000)]
    assert heapkeeper.status()["heap"]["live_blocks"] > blocks + 50_000, "no longer on our heap"
    print("right")
    """,
        flags=flags,
        environment=environment,
    )
    assert answer.stdout == "right\n"


@pytest.mark.parametrize("stop", ["before exit", "at exit"])
def test_started_after_us(run, stop):
    answer = run(
        USE
        + f"""
    for _ in range(3):
        tracemalloc.start(3)
        check()
        tracemalloc.stop()
    tracemalloc.start(10)
    check()
    if {stop == "before exit"}:
        tracemalloc.stop()
    print("right")
    """
    )
    assert answer.stdout == "right\n"


@pytest.mark.parametrize("ending", ["tracemalloc.stop()", "pass"])
def test_started_then_installed_late(run, ending):
    answer = run(
        USE
        + f"""
    import heapkeeper
    tracemalloc.start()
    before = [str(number) * 3 for number in range(50_000)]
    heapkeeper.install()
    assert heapkeeper.status()["allocator"]["name"] == "heapkeeper", heapkeeper.status()["allocator"]
    check()
    after = [str(number) * 3 for number in range(50_000)]
    {ending}
    assert before == after
    before.clear()
    after.clear()
    blocks = heapkeeper.status()["heap"]["live_blocks"]
    fresh = [[number] for number in range(50_000)]
    assert heapkeeper.status()["heap"]["live_blocks"] > blocks + 50_000
    print("right")
    """,
        heapkeeper=None,
    )
    assert answer.stdout == "right\n"


def test_started_and_stopped_before_installation(run):
    answer = run(
        USE
        + """
    import heapkeeper
    tracemalloc.start()
    tracemalloc.stop()
    heapkeeper.install()
    tracemalloc.start()
    check()
    tracemalloc.stop()
    print(heapkeeper.status()["allocator"]["name"])
    """,
        heapkeeper=None,
    )
    assert answer.stdout == "heapkeeper\n"


def test_threads_under_tracemalloc(run):
    """tracemalloc's raw hook takes the GIL by itself: no lock of ours may be held meanwhile.

    Started before the threads and stopped after them: with threads in its raw hook, stop() of plain CPython 3.10 frees
    what they are about to read (Modules/_tracemalloc.c, traceback_new).
    """
    answer = run(
        """
        import bz2, threading, tracemalloc, zlib
        data = bytes(range(256)) * 400

        def work():
            for _ in range(5):
                assert bz2.decompress(bz2.compress(zlib.decompress(zlib.compress(data)))) == data

        for _ in range(6):
            tracemalloc.start()
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            [str(number) for number in range(2000)]
            for thread in threads:
                thread.join()
            tracemalloc.stop()
        print("right")
        """
    )
    assert answer.stdout == "right\n"


@pytest.mark.parametrize("allocator", ["debug", "malloc", "malloc_debug", "pymalloc", "pymalloc_debug", "default"])
def test_pythonmalloc(run, allocator):
    """Each is served, or stays with one line that says why."""
    program = """
        import heapkeeper
        kept = [[str(number)] * (number % 40) for number in range(20_000)]
        assert all(len(each) == number % 40 for number, each in enumerate(kept))
        buffer = bytearray()
        for number in range(3000):
            buffer += b"x" * number
        assert len(buffer) == sum(range(3000))
        kept.clear()
        allocator = heapkeeper.status()["allocator"]
        print(allocator["name"], bool(allocator["reason"]))
    """
    answer = run(program, environment={"PYTHONMALLOC": allocator}, check_heap=False, quiet=False)
    assert answer.stdout in ("heapkeeper False\n", "cpython True\n")
    assert len(answer.stderr.splitlines()) == (answer.stdout.startswith("cpython"))


def test_development_mode(run):
    answer = run("kept = [str(number) for number in range(50_000)]; print(len(kept))", flags=("-X", "dev"))
    assert answer.stdout == "50000\n"


@pytest.mark.parametrize("variables", [{"PYTHONMALLOC": "debug"}, {}], ids=["PYTHONMALLOC=debug", "-X dev"])
def test_debug_hooks_still_catch_a_fault(run, variables):
    """A buffer overrun, found when the block is freed, as in plain python."""
    pytest.importorskip("_testcapi", reason="CPython's own test extension was not installed with this interpreter")
    flags = () if variables else ("-X", "dev")
    answer = run(
        "import _testcapi; _testcapi.pymem_buffer_overflow()",
        flags=flags,
        environment=variables,
        status=-6,
        quiet=False,
    )
    assert "bad trailing pad byte" in answer.stderr
