"""Starting, stopping, clearing: what is printed under CPython's tracemalloc is printed under ours, digit by digit."""

import pytest

SAME = {
    "blocks from before the start": """
        old = [bytearray(1000) for _ in range(100)]
        freed = [b"f" * (1000 + number) for number in range(50)]
        gone = ["g" * (2000 + number) for number in range(50)]
        module.start()
        del freed
        say(0)
        for each in old[:50]:
            each.extend(bytes(5000))
        say(1)
        for each in old[50:]:
            del each[10:]
        say(2)
        gone.clear()
        old.clear()
        say(3)
    """,
    "blocks from between two starts": """
        module.start()
        first = [bytearray(3000) for _ in range(10)]
        module.stop()
        second = [bytearray(3000) for _ in range(10)]
        module.start()
        for each in first + second:
            each.extend(bytes(3000))
        say(0)
        first.clear()
        say(1)
        second.clear()
        say(2)
    """,
    "clear": """
        module.start()
        kept = [bytearray(1000) for _ in range(10)]
        say(0)
        module.clear_traces()
        assert module.is_tracing()
        say(1)
        kept.pop()
        more = bytearray(300)
        kept[0].extend(bytes(2000))
        say(2)
        print(module.get_object_traceback(kept[1]), module.get_object_traceback(more))
    """,
    "peaks": """
        module.start()
        large = bytes(1_000_000)
        del large
        say(0)
        module.reset_peak()
        say(1)
        large = bytes(500_000)
        del large
        say(2)
        module.clear_traces()
        say(3)
        grows = bytearray()
        for _ in range(100):
            grows += bytes(999)
        say(4)
    """,
    "fifty times": """
        for number in range(50):
            assert not module.is_tracing() and module.get_traced_memory() == (0, 0)
            module.start(1 + number % 3)
            module.start(7)
            assert module.is_tracing() and module.get_traceback_limit() == 1 + number % 3
            kept = [bytearray(1000) for _ in range(number)]
            print(module.get_traced_memory()[0] // 1000 >= number, len(module.take_snapshot().traces) >= 2 * number)
            module.stop()
            module.stop()
            module.clear_traces()
    """,
    "tracebacks": """
        def make():
            return bytearray(100_000)

        def middle():
            return make()

        for frames in (1, 2, 3, 20):
            module.start(frames)
            made = middle()
            traceback = module.get_object_traceback(made)
            print(list(traceback), module.get_traceback_limit())
            [largest] = module.take_snapshot().filter_traces([module.Filter(True, "<string>")]).statistics("traceback")[:1]
            print(largest.size // 1000, largest.traceback == traceback, largest.traceback.total_nframe)
            module.stop()
        print(module.get_object_traceback(made))
    """,
    "recursion": """
        def recurse(levels):
            return recurse(levels - 1) if levels else bytearray(100)

        sys.setrecursionlimit(2000)
        for frames in (1, 5, 100):
            module.start(frames)
            traceback = module.get_object_traceback(recurse(500))
            print(len(traceback), traceback[0], traceback[-1])
            module.stop()
    """,
    "errors": """
        for arguments in ((0,), (-1,), (65536,), ("one",), (1, 2)):
            try:
                module.start(*arguments)
            except Exception as error:
                print(type(error).__name__)
        for call in (module.take_snapshot,):
            try:
                call()
            except Exception as error:
                print(type(error).__name__, error)
        print(module.is_tracing(), module.get_traced_memory(), module.get_traceback_limit())
        print(module.get_object_traceback(object()))
    """,
    "snapshots": """
        import tempfile
        module.start(3)
        first = module.take_snapshot()
        gc.collect()  # Empties the free lists.
        kept = [bytes(1000 + number) for number in range(100)]
        second = module.take_snapshot()
        with tempfile.NamedTemporaryFile() as file:
            second.dump(file.name)
            second = module.Snapshot.load(file.name)
        of_ours = [module.Filter(True, "<string>")]
        for change in second.filter_traces(of_ours).compare_to(first.filter_traces(of_ours), "lineno")[:1]:
            print(change)
    """,
    "memory errors": """
        module.start()
        kept = bytearray(1000)
        before = module.get_traced_memory()[0]
        for _ in range(10):
            try:
                bytes(2**62)
            except MemoryError:
                pass
            try:
                kept.extend(range(2**70))
            except (MemoryError, OverflowError):
                pass
        print(len(kept), module.get_traced_memory()[0] - before < 2000)
    """,
}

PRELUDE = """
import gc, os, sys
import tracemalloc as standard
import heapkeeper.tracemalloc
module = {"standard": standard, "ours": heapkeeper.tracemalloc}[sys.argv[1]]
assert heapkeeper.status()["allocator"]["name"] == {"standard": "cpython", "ours": "heapkeeper"}[sys.argv[1]]

def say(stage):
    # To ask leaves traces, too: a process asks once.
    if str(stage) == sys.argv[2]:
        print(*module.get_traced_memory(), flush=True)
        os._exit(0)

# What functions keep for their next call.
for _ in range(2):
    module.start()
    say(None)
    module.get_traced_memory()
    module.reset_peak()
    module.clear_traces()
    module.get_object_traceback(gc)
    module.take_snapshot()
    module.stop()
gc.collect()
gc.disable()
"""


@pytest.mark.parametrize("program", SAME.values(), ids=SAME)
def test_same_as_the_standard_module(both, program):
    stages = program.count("say(")
    for stage in range(max(stages, 1)):
        assert both(PRELUDE, program, stage)


def test_the_standard_module_runs_already(run):
    """Somebody else's: it goes on, with all that it has traced."""
    answer = run(
        """
        import tracemalloc as standard
        import heapkeeper.tracemalloc as ours
        before = bytearray(100_000)
        assert standard.is_tracing() and not ours.is_tracing()
        ours.start()
        between = bytearray(200_000)
        live, peak = ours.get_traced_memory()
        # Our heap serves the standard module's own tables.
        assert 200_000 < live < 300_000, live
        assert sum(trace.size for trace in ours.take_snapshot().traces) < 300_000
        ours.stop()
        assert standard.is_tracing() and not ours.is_tracing()
        for kept in (before, between):
            assert standard.get_object_traceback(kept) is not None
        after = bytearray(300_000)
        assert standard.get_traced_memory()[0] > 600_000
        assert standard.get_object_traceback(after) is not None
        standard.stop()
        assert heapkeeper.status()["heap"]["live_bytes"] > 600_000
        print("right")
        """,
        flags=("-X", "tracemalloc=3"),
    )
    assert answer.stdout == "right\n"


@pytest.mark.parametrize("first_to_stop", ["standard", "ours"])
def test_the_standard_module_starts_later(run, first_to_stop):
    answer = run(
        f"""
        import tracemalloc as standard
        import heapkeeper.tracemalloc as ours
        ours.start()
        before = bytearray(100_000)
        standard.start()
        between = bytearray(200_000)
        assert 300_000 < ours.get_traced_memory()[0] < 310_000, ours.get_traced_memory()
        {first_to_stop}.stop()
        after = bytearray(300_000)
        if ours.is_tracing():
            assert 600_000 < ours.get_traced_memory()[0] < 610_000, ours.get_traced_memory()
        before.extend(bytes(10))
        del between, after
        ours.stop()
        standard.stop()
        kept = [bytearray(number) for number in range(1000)]
        assert not ours.is_tracing() and not standard.is_tracing()
        print("right")
        """
    )
    assert answer.stdout == "right\n"


def test_stop_while_threads_allocate(run):
    answer = run(
        """
        import threading, zlib
        import heapkeeper.tracemalloc as ours
        data = bytes(range(256)) * 300
        done = threading.Event()

        def work():
            while not done.is_set():
                kept = [bytearray(number) for number in range(200)]
                for each in kept:
                    each.extend(b"x" * 500)
                # Allocates in the raw domain, without the GIL.
                assert zlib.decompress(zlib.compress(data)) == data

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(50):
            ours.start(1 + number % 5)
            kept = bytearray(1_000_000)
            if number % 3 == 0:
                ours.clear_traces()
            elif number % 3 == 1:
                assert ours.get_traced_memory()[0] > 1_000_000
                assert ours.get_object_traceback(kept) is not None
            if number % 10 == 0:
                ours.take_snapshot()
            ours.stop()
        done.set()
        for thread in threads:
            thread.join()
        ours.start()
        kept = bytearray(1_000_000)
        assert 1_000_000 < ours.get_traced_memory()[0] < 1_010_000, ours.get_traced_memory()
        print("right")
        """
    )
    assert answer.stdout == "right\n"


def test_replace(run):
    answer = run(
        """
        import heapkeeper.tracemalloc
        import tracemalloc as early
        heapkeeper.tracemalloc.replace()
        import tracemalloc
        from tracemalloc import Snapshot, start, take_snapshot
        assert tracemalloc is heapkeeper.tracemalloc and early is not tracemalloc
        start(5)
        kept = bytearray(100_000)
        assert tracemalloc.get_object_traceback(kept)
        assert isinstance(take_snapshot(), Snapshot)
        tracemalloc.stop()
        print("right")
        """
    )
    assert answer.stdout == "right\n"


def test_replace_takes_over(run):
    """Where -X tracemalloc has started the standard module, ours goes on with as many frames."""
    answer = run(
        """
        import tracemalloc as standard
        import heapkeeper.tracemalloc
        heapkeeper.tracemalloc.replace()
        import tracemalloc
        assert tracemalloc.is_tracing() and tracemalloc.get_traceback_limit() == 7
        kept = bytearray(100_000)
        assert tracemalloc.get_object_traceback(kept)
        assert 100_000 < tracemalloc.get_traced_memory()[0] < 200_000
        tracemalloc.stop()
        assert not standard.is_tracing()
        print("right")
        """,
        flags=("-X", "tracemalloc=7"),
    )
    assert answer.stdout == "right\n"


def test_on_a_process_that_was_not_on_our_heap(run):
    """start() puts it there: a program need not be started by `heapkeeper run`."""
    answer = run(
        """
        import heapkeeper
        import heapkeeper.tracemalloc as ours
        old = [bytearray(1000) for _ in range(100)]
        ours.start()
        kept = bytearray(100_000)
        for each in old:
            each.extend(bytes(9000))
        live = ours.get_traced_memory()[0]
        assert 1_100_000 < live < 1_250_000, live
        del old, each
        live = ours.get_traced_memory()[0]
        assert 100_000 < live < 110_000, live
        assert heapkeeper.status()["allocator"]["name"] == "heapkeeper"
        print("right")
        """,
        heapkeeper=None,
    )
    assert answer.stdout == "right\n"


def test_allocations_are_counted_once(run):
    """In all, not only what is live: of objects that are new, of blocks that grow, on every version."""
    answer = run(
        """
        from heapkeeper import _native
        import heapkeeper.tracemalloc as ours
        kept = [None] * 1000
        ours.start()
        ours.stop()
        ours.start()
        def counts(work):
            before = _native.exact_usage()[4]
            work()
            return _native.exact_usage()[4] - before
        def objects():
            for number in range(1000):
                kept[number] = object()
        def texts():
            for number in range(1000):
                kept[number] = "t" * number
        def lists():
            for number in range(1000):
                kept[number] = [number]
        def nothing():
            for number in range(1000):
                kept[number] = None
        base = counts(nothing)
        for work, most in ((objects, 1000), (texts, 1000), (lists, 2000)):
            kept[:] = [None] * 1000
            found = counts(work) - counts(nothing)
            # Numbers above 256 are objects too; none of the loops keeps them.
            print(work.__name__, found - most)
        """
    )
    for line in answer.stdout.splitlines():
        assert abs(int(line.split()[1])) < 30, answer.stdout
