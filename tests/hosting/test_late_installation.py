"""`heapkeeper.install()` in the middle of a program: what was allocated before stays CPython's, is freed there, and moves over when it grows."""

import sys

import pytest


def test_what_was_there_before_stays_valid(run):
    answer = run(
        """
        import heapkeeper

        class Thing:
            def __init__(self, number):
                self.number, self.text = number, str(number) * 5

        before = [Thing(number) for number in range(100_000)]
        table = {thing.text: thing for thing in before}
        heapkeeper.install()
        assert heapkeeper.status()["allocator"]["name"] == "heapkeeper"
        after = [Thing(number) for number in range(100_000)]
        for old, new in zip(before, after):
            assert old.text == new.text and table[old.text] is old
        live = heapkeeper.status()["heap"]["live_blocks"]
        assert live > 200_000, live
        del table, old, new
        before.clear()      # to CPython's allocator
        assert heapkeeper.status()["heap"]["live_blocks"] > live - 2_000
        after.clear()       # to ours
        assert heapkeeper.status()["heap"]["live_blocks"] < live - 200_000
        again = [Thing(number) for number in range(100_000)]
        assert all(thing.text == str(number) * 5 for number, thing in enumerate(again))
        print("right")
        """,
        heapkeeper=None,
    )
    assert answer.stdout == "right\n"


@pytest.mark.parametrize(
    ("make", "grow", "expected"),
    [
        ("[]", "value.append(number)", "list(range(200_000))"),
        ("bytearray()", "value.append(number % 256)", "bytearray(number % 256 for number in range(200_000))"),
        ("{}", "value[number] = number", "{number: number for number in range(200_000)}"),
        ("set()", "value.add(number)", "set(range(200_000))"),
        ("array.array('q')", "value.append(number)", "array.array('q', range(200_000))"),
        ("''", "value += chr(97 + number % 26)", "''.join(chr(97 + number % 26) for number in range(200_000))"),
        (
            "io.BytesIO()",
            "value.write(b'%d' % number)",
            "io.BytesIO(b''.join(b'%d' % number for number in range(200_000)))",
        ),
        ("collections.deque()", "value.append(number)", "collections.deque(range(200_000))"),
    ],
)
@pytest.mark.parametrize("installed_at", [1, 40, 5_000, 150_000])
def test_values_grow_across_installation(run, make, grow, expected, installed_at):
    """Small and large blocks of CPython's, resized after it: copied over, with the right length of the old block."""
    answer = run(
        f"""
        import array, collections, heapkeeper, io
        value = {make}
        for number in range(200_000):
            if number == {installed_at}:
                heapkeeper.install()
            {grow}
        expected = {expected}
        print(value.getvalue() == expected.getvalue() if hasattr(value, "getvalue") else value == expected)
        print(heapkeeper.status()["allocator"]["name"])
        """,
        heapkeeper=None,
    )
    assert answer.stdout.split() == ["True", "heapkeeper"]


def test_values_shrink_across_installation(run):
    answer = run(
        """
        import heapkeeper
        lists = [list(range(size)) for size in range(0, 4000, 7)]
        buffers = [bytearray(b"abcdefgh" * size) for size in range(0, 4000, 7)]
        heapkeeper.install()
        for value in lists + buffers:
            del value[len(value) // 3:]
        assert all(value == list(range(7 * index // 3)) for index, value in enumerate(lists))
        assert all(value == (b"abcdefgh" * 7 * index)[:8 * 7 * index // 3] for index, value in enumerate(buffers))
        lists.clear()
        buffers.clear()
        print(heapkeeper.status()["allocator"]["name"])
        """,
        heapkeeper=None,
    )
    assert answer.stdout == "heapkeeper\n"


def test_installing_again_changes_nothing(run):
    answer = run("""
        kept = [str(number) for number in range(50_000)]
        blocks = heapkeeper.status()["heap"]["live_blocks"]
        for _ in range(5):
            assert heapkeeper.install()
        print(abs(heapkeeper.status()["heap"]["live_blocks"] - blocks) < 500, kept[-1])
    """)
    assert answer.stdout == "True 49999\n"


def test_installing_while_other_threads_allocate(run):
    """The other threads are inside zlib and friends, in the raw domain without the GIL, when the hooks change."""
    for _ in range(5):
        answer = run(
            """
            import heapkeeper, sys, threading, zlib
            sys.setswitchinterval(1e-5)
            stop = threading.Event()
            turns = [0] * 4

            def busy(index):
                data = bytes(range(256)) * 50
                while not stop.is_set():
                    kept = [[number] * (number % 70) for number in range(200)]
                    assert zlib.decompress(zlib.compress(data)) == data
                    turns[index] += 1

            def wait():
                seen = list(turns)
                while any(now < then + 20 for now, then in zip(turns, seen)):
                    stop.wait(0.001)

            threads = [threading.Thread(target=busy, args=(index,)) for index in range(4)]
            for thread in threads:
                thread.start()
            wait()
            installer = threading.Thread(target=heapkeeper.install)
            installer.start()
            installer.join()
            wait()
            stop.set()
            for thread in threads:
                thread.join()
            print(heapkeeper.status()["allocator"]["name"])
            """,
            heapkeeper=None,
        )
        assert answer.stdout == "heapkeeper\n"


def test_where_tells_old_from_new(run):
    answer = run(
        """
        import heapkeeper
        class Thing: pass
        old = Thing()
        heapkeeper.install()
        new = Thing()
        print(heapkeeper.where(old)["owner"], heapkeeper.where(new)["owner"])
        """,
        heapkeeper=None,
    )
    assert answer.stdout == "cpython heapkeeper\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="an interpreter has a GIL of its own from CPython 3.12 on")
def test_installing_while_interpreters_with_their_own_gil_run(run):
    for _ in range(5):
        answer = run(
            """
            import sys, threading, time
            try:
                import _interpreters as low
            except ImportError:
                import _xxsubinterpreters as low

            def create():
                return low.create("isolated") if sys.version_info >= (3, 13) else low.create(isolated=True)

            WORK = "import time; end = time.time() + 2\\nwhile time.time() < end: kept = [[n] * (n % 50) for n in range(2000)]"
            interpreters = [create() for _ in range(3)]
            threads = [threading.Thread(target=low.run_string, args=(each, WORK)) for each in interpreters]
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            import heapkeeper
            heapkeeper.install()
            kept = [[number] * 20 for number in range(200_000)]
            for thread in threads:
                thread.join()
            assert all(each == [number] * 20 for number, each in enumerate(kept))
            for each in interpreters:
                low.destroy(each)
            print(heapkeeper.status()["heap"]["interpreters"])
            """,
            heapkeeper=None,
        )
        assert answer.stdout == "1\n"
