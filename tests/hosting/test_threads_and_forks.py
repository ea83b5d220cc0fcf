"""Threads that share, hand over and outlive each other's blocks; forks from a busy program; daemon threads at exit."""

import pytest

BUSY = """
    import threading, zlib

    stop = threading.Event()

    def busy():
        # Objects of every size, and zlib's own memory: from the raw domain, taken and freed without the GIL.
        data = bytes(range(256)) * 300
        while not stop.is_set():
            kept = [[number] * (number % 70) for number in range(300)]
            assert zlib.decompress(zlib.compress(data)) == data
            del kept

    threads = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
"""


def test_threads_hand_objects_to_each_other(run):
    answer = run("""
        import gc, queue, threading

        channel = queue.Queue(1000)
        sums = []

        def produce(seed):
            for number in range(40_000):
                channel.put([seed, number, str(number) * (number % 40)])

        def consume():
            total = 0
            while (item := channel.get()) is not None:
                assert item[2] == str(item[1]) * (item[1] % 40)
                total += item[0] * item[1]
            sums.append(total)

        gc.collect()
        before = heapkeeper.status()["heap"]["live_blocks"]
        producers = [threading.Thread(target=produce, args=(seed,)) for seed in range(1, 5)]
        consumers = [threading.Thread(target=consume) for _ in range(4)]
        for thread in producers + consumers:
            thread.start()
        for thread in producers:
            thread.join()
        for _ in consumers:
            channel.put(None)
        for thread in consumers:
            thread.join()
        del producers, consumers, thread
        gc.collect()
        after = heapkeeper.status()["heap"]["live_blocks"]
        print(sum(sums), after - before < 5_000)
    """)
    assert answer.stdout.split() == [str(10 * sum(range(40_000))), "True"]


def test_objects_outlive_the_thread_that_made_them(run):
    answer = run("""
        import threading

        made = []
        for turn in range(200):
            thread = threading.Thread(target=lambda: made.append({name: [name] * 9 for name in map(str, range(200))}))
            thread.start()
            thread.join()
        assert all(each[str(name)] == [str(name)] * 9 for each in made for name in range(200))
        live = heapkeeper.status()["heap"]["live_blocks"]
        made.clear()
        print(live - heapkeeper.status()["heap"]["live_blocks"] > 200 * 200 * 2)
    """)
    assert answer.stdout == "True\n"


def test_raw_domain_is_used_without_the_gil(run):
    answer = run("""
        import bz2, hashlib, lzma, threading, zlib

        data = b"".join(hashlib.sha256(bytes([number])).digest() * 40 for number in range(256))
        right = []

        def work():
            for _ in range(12):
                for codec in (zlib, bz2, lzma):
                    assert codec.decompress(codec.compress(data)) == data
            right.append(True)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(right))
    """)
    assert answer.stdout == "6\n"


def test_raw_blocks_change_hands_between_threads(run):
    """Straight to the C API, which ctypes calls without the GIL: every size and call, contents checked."""
    answer = run("""
        import ctypes, random, threading

        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        library = ctypes.CDLL(None)

        def function(name, result, *arguments):
            found = getattr(library, name)
            found.restype, found.argtypes = result, arguments
            return found

        malloc = function("PyMem_RawMalloc", pointer, size)
        calloc = function("PyMem_RawCalloc", pointer, size, size)
        realloc = function("PyMem_RawRealloc", pointer, pointer, size)
        free = function("PyMem_RawFree", None, pointer)
        shared, lock, right = [], threading.Lock(), []

        def work(seed):
            chance, mine = random.Random(seed), {}
            for _ in range(4000):
                length, step = chance.choice([0, 1, 15, 16, 17, 100, 512, 513, 4000, 20_000, 70_000, 300_000]), chance.random()
                if step < 0.5 or not mine:
                    block = calloc(1, length) if step < 0.2 else malloc(length)
                    assert step >= 0.2 or not any(ctypes.string_at(block, length))
                    mine[block] = bytes([seed]) * length
                    ctypes.memmove(block, mine[block], length)
                    continue
                block = chance.choice(list(mine))
                content = mine.pop(block)
                assert ctypes.string_at(block, len(content)) == content
                if step < 0.7:
                    block = realloc(block, length)
                    mine[block] = ctypes.string_at(block, min(length, len(content))) + bytes(max(0, length - len(content)))
                    assert mine[block].startswith(content[:length])
                    ctypes.memmove(block, mine[block], length)
                elif step < 0.9:
                    free(block)
                else:
                    with lock:
                        shared.append((block, content))
                        if len(shared) > 50:
                            block, content = shared.pop(0)
                            mine[block] = content
            for block in mine:
                free(block)
            right.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(sorted(right))
    """)
    assert answer.stdout == "[1, 2, 3, 4, 5, 6]\n"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("forker", ["main", "another"])
def test_forks_from_a_threaded_program(run, forker):
    answer = run(
        BUSY
        + """
    import os, gc, sys

    def fork_often():
        alive = 0
        for turn in range(300):
            pid = os.fork()
            if pid == 0:
                # The child works with what it inherited and with memory of its own, and must not wait for threads it does not have.
                try:
                    inherited[turn].append(turn)
                    own = {number: str(number) * 20 for number in range(3000)}
                    assert zlib.decompress(zlib.compress(b"child" * 999)) == b"child" * 999
                    inherited.clear()
                    gc.collect()
                    assert own[2999] == "2999" * 20
                    assert heapkeeper.status()["allocator"]["name"] == "heapkeeper"
                    os._exit(0)
                except BaseException as error:
                    os.write(2, repr(error).encode())
                    os._exit(1)
            _, status = os.waitpid(pid, 0)
            alive += status == 0
        print(alive, flush=True)

    inherited = [[number] for number in range(300)]
    """
        + (
            "fork_often()"
            if forker == "main"
            else "thread = threading.Thread(target=fork_often)\n    thread.start()\n    thread.join()"
        )
        + "\n    stop.set()\n    [thread.join() for thread in threads]",
        flags=("-W", "ignore::DeprecationWarning"),
    )
    assert answer.stdout == "300\n"


def test_forked_children_end_like_any_process(run):
    """Through the whole of finalization, and again as parents themselves."""
    answer = run(
        BUSY
        + """
    import os, sys

    def descend(depth):
        pid = os.fork()
        if pid == 0:
            cycle = [None]
            cycle[0] = cycle
            if depth:
                descend(depth - 1)
            sys.exit(40 + depth)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 40 + depth

    for _ in range(10):
        descend(4)
    stop.set()
    print("done")
    """,
        flags=("-W", "ignore::DeprecationWarning"),
    )
    assert answer.stdout == "done\n"


@pytest.mark.parametrize("turn", range(10))
def test_daemon_threads_still_allocate_at_exit(run, turn):
    answer = run(BUSY + "\n    import time\n    time.sleep(0.05)\n    print('leaving')")
    assert answer.stdout == "leaving\n"


def test_exit_without_finalization(run):
    run(BUSY + "\n    import os\n    os._exit(7)", status=7)


def test_exec_keeps_the_heap(run):
    answer = run("""
        import os, sys
        code = "import heapkeeper; print(heapkeeper.status()['allocator']['name'])"
        os.execv(sys.executable, [sys.executable, "-c", code])
    """)
    assert answer.stdout == "heapkeeper\n"
