"""Pools of processes by every start method: the workers are on our heap, and answer as plain python's do."""

import pytest

WORK = """
import heapkeeper, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor

def where_am_i(_):
    status = heapkeeper.status()
    return status["allocator"]["name"], status["heap"]["live_blocks"] > 1000, os.getpid()

def count(number):
    words = [str(each) * (each % 20) for each in range(number)]
    return number, sum(map(len, words)), {word[:3] for word in words[:5]}

def expected(number):
    return number, sum(len(str(each)) * (each % 20) for each in range(number)), {(str(each) * each)[:3] for each in range(min(5, number))}

def fail(number):
    raise ValueError(number)
"""


@pytest.fixture
def run_script(run, tmp_path):
    """Runs a program in a file, which spawned workers import again, on our heap."""

    def call(body: str, method: str) -> str:
        path = tmp_path / "pool.py"
        main = "\n".join("    " + line for line in body.replace("METHOD", repr(method)).splitlines())
        path.write_text(f"{WORK}\nif __name__ == '__main__':\n{main}\n")
        launch = "import os, sys; os.execv(sys.executable, [sys.executable, '-W', 'ignore::DeprecationWarning', sys.argv[1]])"
        return run(launch, arguments=(str(path),)).stdout

    return call


methods = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@methods
def test_multiprocessing_pool(run_script, method):
    output = run_script(
        """
with multiprocessing.get_context(METHOD).Pool(3) as pool:
    assert pool.map(count, range(0, 3000, 50)) == list(map(expected, range(0, 3000, 50)))
    assert sorted(pool.imap_unordered(count, range(100)), key=str) == sorted(map(expected, range(100)), key=str)
    found = set(pool.map(where_am_i, range(30)))
    try:
        pool.apply(fail, (7,))
    except ValueError as error:
        print(error)
    pool.close()
    pool.join()
print({each[:2] for each in found}, os.getpid() not in {each[2] for each in found})
""",
        method,
    )
    assert output == "7\n{('heapkeeper', True)} True\n"


@methods
def test_process_pool_executor(run_script, method):
    output = run_script(
        """
with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context(METHOD)) as pool:
    assert list(pool.map(count, range(0, 3000, 50), chunksize=3)) == list(map(expected, range(0, 3000, 50)))
    print({each[:2] for each in pool.map(where_am_i, range(30))})
    print(repr(pool.submit(fail, 7).exception()))
""",
        method,
    )
    assert output == "{('heapkeeper', True)}\nValueError(7)\n"


@methods
def test_shared_memory_queues_and_managers(run_script, method):
    output = run_script(
        """
from multiprocessing import shared_memory
context = multiprocessing.get_context(METHOD)
with context.Manager() as manager:
    table = manager.dict()
    with context.Pool(2) as pool:
        pool.starmap(table.__setitem__, [(number, str(number) * 9) for number in range(200)])
    assert dict(table) == {number: str(number) * 9 for number in range(200)}
queue = context.Queue()
workers = [context.Process(target=queue.put, args=(bytes(range(256)) * 4000,)) for _ in range(4)]
for worker in workers: worker.start()
assert [queue.get() for _ in workers] == [bytes(range(256)) * 4000] * 4
for worker in workers: worker.join()
print([worker.exitcode for worker in workers])
""",
        method,
    )
    assert output == "[0, 0, 0, 0]\n"


@methods
def test_workers_survive_the_limit(run_script, method):
    """A worker that hits the hard limit hands MemoryError to its caller and serves on."""
    output = run_script(
        """
heapkeeper.limit("80M")
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(METHOD), initializer=heapkeeper.limit, initargs=("80M",)) as pool:
    failures = [type(pool.submit(bytearray, 1 << 30).exception()).__name__ for _ in range(4)]
    print(set(failures), sum(number for number, _, _ in pool.map(count, range(100))))
""",
        method,
    )
    assert output == "{'MemoryError'} 4950\n"
