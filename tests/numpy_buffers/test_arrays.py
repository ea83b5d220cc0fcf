"""The data of arrays on our heap: where it is, who is named for it, what the limit does to it, and how it goes."""

import pytest

LIVE = """\
import gc
import numpy as np
import numpy.random

def live_bytes():
    gc.collect()
    return heapkeeper.status()["heap"]["live_bytes"]

"""

MAKERS = [
    "np.empty(1_000_000)",
    "np.zeros((1000, 1000))",
    "np.ones(1_000_000)",
    "np.arange(1_000_000.0)",
    "np.random.default_rng(1).normal(size=1_000_000)",
    "np.array([0.5] * 1_000_000)",
    "np.fromiter(iter(range(1_000_000)), dtype=float)",
    "np.concatenate([np.ones(10), np.zeros(999_990)])",
    "np.ones(1_000_000)[::-1].copy()",
    "np.frombuffer(bytes(8_000_000)).copy()",
    "np.sort(np.ones(1_000_000))",
]


def test_arrays_are_on_our_heap(run):
    program = "import heapkeeper\n" + LIVE
    for maker in MAKERS:
        program += f"""\
before = live_bytes()
made = {maker}
grown = live_bytes() - before
assert 8_000_000 <= grown < 10_500_000, ({maker!r}, grown)
del made
left = live_bytes() - before
assert left < 200_000, ({maker!r}, left)
"""
    program += """\
before = live_bytes()
small = [np.full(20, number) for number in range(50_000)]
grown = live_bytes() - before
assert grown > 50_000 * (160 + 100), grown
assert sum(int(each[7]) for each in small) == 50_000 * 49_999 // 2
assert heapkeeper.status()["allocator"] == {"name": "heapkeeper", "reason": None, "numpy": None}
"""
    run(program)


def test_memory_outside_our_heap_does_not_grow(run):
    run("""
import heapkeeper, numpy as np
outside = lambda: heapkeeper.status()["process"]["outside_bytes"]
before = outside()
kept = [np.ones(1_000_000) for _ in range(20)]
assert outside() - before < 4_000_000, outside() - before
""")


@pytest.mark.parametrize("collector", ["", "import gc; gc.disable()\n"], ids=["collector", "no collector"])
def test_the_limit_holds_from_the_first_array_on(run, collector):
    """Nothing of ours is called before: NumPy is found while it is imported."""
    answer = run(
        collector
        + """
import numpy as np
for make in (np.ones, np.zeros, np.empty):
    try:
        make(100_000_000)
    except MemoryError as error:
        print("refused", "763. MiB" in str(error))
print(int(np.ones(1_000_000).sum()))
kept = []
try:
    while True:
        kept.append(np.ones(1_000_000))
except MemoryError:
    print(20 < len(kept) <= (200 << 20) // 8_000_000)
array = kept.pop()
kept.clear()
try:
    array.resize(100_000_000)
except MemoryError:
    print(array.shape, array.sum())
array.resize(2_000_000)
print(array.sum())
""",
        heapkeeper="max-heap=200M",
        check_heap=False,
    )
    expected = ["refused True"] * 3 + ["1000000", "True", "(1000000,) 1000000.0", "1000000.0"]
    assert answer.stdout.splitlines() == expected


SITES = """
def image():
    return np.zeros((1000, 1000))

def small():
    return [np.arange(30) for _ in range(1000)]

def work():
    gone = np.empty(5_000_000)
    del gone
    return image(), small()
"""


def test_exact_counts_name_the_line(run):
    answer = run(
        "import heapkeeper, numpy as np"
        + SITES
        + """
work()
with heapkeeper.Tracker() as tracker:
    kept = work()
for moment in ("peak", "live"):
    site = tracker.sites(moment, top=1)[0]
    print(site.bytes // 1000, site.frames[0].function, site.frames[1].function)
buffers = [site for site in tracker.sites("live", top=None) if site.bytes >= 240_000 and site.frames[0].line == 6]
print(len(buffers) >= 1)
""",
        check_heap=False,
    )
    assert answer.stdout.splitlines() == ["40000 work <module>", "8000 image work", "True"]


def test_the_report_names_the_line(run):
    """Exact counts of whole stacks, and the sampler."""
    for profile in ("exact", "sample"):
        answer = run(
            "import heapkeeper, numpy as np"
            + SITES
            + """
kept = work()
site = heapkeeper.status()["profile"]["at_end"][0]
print(site["frames"][0]["function"])
""",
            heapkeeper=f"profile={profile},seed=1",
            check_heap=False,
        )
        assert answer.stdout == "image\n"


def test_tracemalloc_counts_each_array_once(run):
    run("""
import numpy as np
from heapkeeper import tracemalloc
import tracemalloc as standard

domain = getattr(np.lib, "tracemalloc_domain")
tracemalloc.start(5)
before = tracemalloc.get_traced_memory()[0]
kept = [np.ones(1_000_000) for _ in range(3)]
grown = tracemalloc.get_traced_memory()[0] - before
assert 24_000_000 <= grown < 24_100_000, grown
snapshot = tracemalloc.take_snapshot()
arrays = snapshot.filter_traces([tracemalloc.DomainFilter(True, domain)])
assert sum(trace.size for trace in arrays.traces) == 24_000_000
others = snapshot.filter_traces([tracemalloc.DomainFilter(False, domain)])
assert sum(trace.size for trace in others.traces) < 1_000_000
kept[0].resize(2_000_000)
grown = tracemalloc.get_traced_memory()[0] - before
assert 32_000_000 <= grown < 32_200_000, grown
del kept, snapshot, arrays, others
left = tracemalloc.get_traced_memory()[0] - before
assert left < 200_000, left
tracemalloc.stop()

# Where nobody else records them, they are counted by us again.
import heapkeeper
with heapkeeper.Tracker() as tracker:
    kept = np.ones(1_000_000)
assert 8_000_000 <= tracker.live_bytes < 8_100_000, tracker.live_bytes
""")


KINDS = """
import io, mmap, os, pickle, tempfile
import numpy as np

array = np.arange(1000)
for length in (3000, 2, 100_000, 1_000_000, 10, 0, 5):
    array.resize(length, refcheck=False)
    print("resized", array.shape, array[:5].tolist(), int(array.sum()))
print("reshaped", np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1).ravel()[:6].tolist())
views = [np.arange(length + 10)[length // 2 :: 2] for length in range(2000)]
print("views", sum(int(view.sum()) for view in views))
with tempfile.NamedTemporaryFile() as file:
    mapped = np.memmap(file.name, dtype="<i8", mode="w+", shape=(1000, 100))
    mapped[:] = np.arange(100_000).reshape(1000, 100)
    mapped.flush()
    print("memmap", int(np.memmap(file.name, dtype="<i8").sum()), int(mapped[3].copy().sum()))
    del mapped
owner = bytearray(8000)
over = np.frombuffer(owner, dtype="<i8")
over += 7
print("frombuffer", owner[:9].hex(), over.flags.owndata)
anonymous = mmap.mmap(-1, 4096)
other = np.ndarray((512,), dtype="<i8", buffer=anonymous)
other[:] = 3
print("of mmap", int(other.sum()))
pointer = np.ctypeslib.as_array((__import__("ctypes").c_int * 5)(1, 2, 3))
print("of ctypes", pointer.tolist())
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    again = pickle.loads(pickle.dumps(np.arange(5000), protocol))
    assert (again == np.arange(5000)).all()
buffers = []
data = pickle.dumps(np.arange(5000), 5, buffer_callback=buffers.append)
print("pickled", int(pickle.loads(data, buffers=buffers).sum()))
stream = io.BytesIO()
np.save(stream, np.arange(3000).reshape(30, 100))
stream.seek(0)
print("saved", np.load(stream).shape)
things = np.array([[number] for number in range(5000)] + [None], dtype=object)
print("objects", things[:3].tolist(), sum(each[0] for each in things[:-1]))
print("strings", np.array(["a" * length for length in range(500)])[[1, 9]].tolist())
print("records", np.zeros(3, dtype=[("a", "i4"), ("b", "O")]).tolist())
print("empty", np.empty((0, 5)).size, np.zeros(()).item(), np.array([]).tolist())
print("sorted", np.sort(np.arange(100_000)[::-1], kind="stable")[:3].tolist(), np.unique([3, 1, 3]).tolist())
print("assigned", np.add(np.arange(5), 1, out=np.zeros(5, dtype=int)).tolist())
array = np.arange(10)
array.shape = 2, 5
array.__setstate__(np.arange(6).reshape(3, 2).__reduce__()[2])
print("state", array.tolist())
try:
    np.empty(2**62, dtype="u1")
except MemoryError:
    print("too large")
"""


def test_arrays_of_every_kind(run):
    assert run(KINDS).stdout == run(KINDS, heapkeeper=None).stdout


def test_arrays_older_than_us(run):
    """The functions that made them resize and free them."""
    run(
        """
import numpy as np
small = [np.arange(number % 50 + 1) for number in range(20_000)]
large = [np.ones(300_000) for _ in range(10)]
import heapkeeper
assert heapkeeper.install()
live = lambda: heapkeeper.status()["heap"]["live_bytes"]
before = live()
kept = np.ones(1_000_000)
assert live() - before >= 8_000_000
for array in large[:5]:
    array.resize(900_000, refcheck=False)
    assert array.sum() == 300_000
    array.resize(100, refcheck=False)
for array in small[::3]:
    first = array[0]
    array.resize(500, refcheck=False)
    assert array[0] == first
assert sum(int(array.sum()) for array in small) == sum(sum(range(number % 50 + 1)) for number in range(20_000))
del small, large, array
again = [np.arange(number % 50 + 1) for number in range(20_000)]
assert int(again[49][49]) == 49
""",
        heapkeeper=None,
    )


def test_threads(run):
    """Products, sorts and ufuncs run without the GIL, and arrays go from thread to thread."""
    run(
        LIVE
        + """
import queue, threading
from concurrent.futures import ThreadPoolExecutor

def work(seed):
    random = np.random.default_rng(seed)
    total = 0
    for turn in range(20):
        matrix = random.integers(0, 100, size=(60 + turn, 60 + turn)).astype(float)
        total += int(np.dot(matrix, matrix).sum()) + int(np.sort(random.integers(0, 9, 30_000))[-1])
        total += int(np.cumsum(np.ones(50_000 * (turn % 3 + 1)))[-1])
    return total

alone = [work(seed) for seed in range(8)]
before = live_bytes()
for _ in range(3):
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == alone

arrays = queue.Queue(100)

def produce():
    for number in range(5000):
        arrays.put(np.full(number % 700 + 1, number))
    arrays.put(None)

thread = threading.Thread(target=produce)
thread.start()
count = 0
while (array := arrays.get()) is not None:
    assert array[-1] == count
    count += 1
thread.join()
assert count == 5000
del array, thread
assert live_bytes() - before < 3_000_000, live_bytes() - before
""",
    )


def test_forks(run):
    run("""
import multiprocessing, os
import numpy as np

def total(array):
    return float((array * 2).sum())

kept = [np.ones(number * 1000 + 1) for number in range(50)]
for _ in range(5):
    child = os.fork()
    if child == 0:
        kept.clear()
        again = [np.ones(100_000) for _ in range(20)]
        os._exit(0 if sum(int(each.sum()) for each in again) == 2_000_000 else 1)
    assert os.waitpid(child, 0)[1] == 0
assert all(int(array.sum()) == len(array) for array in kept)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(total, kept) == [len(array) * 2.0 for array in kept]
""")


def test_pandas(run):
    program = """
import numpy as np
import pandas as pd

random = np.random.default_rng(5)
frame = pd.DataFrame({"key": random.integers(0, 100, 50_000), "value": random.integers(0, 1000, 50_000) / 8})
frame["name"] = frame["key"].map("name {}".format)
print(frame.groupby("key")["value"].sum().round(3).head(3).to_dict())
print(frame.merge(frame.drop_duplicates("key"), on="key").shape, frame.sort_values(["value", "key"]).iloc[0].tolist())
print(pd.concat([frame, frame]).pivot_table(index="key", values="value", aggfunc="mean").iloc[[0, 99]].round(3).values.tolist())
frame.loc[10, "value"] = np.nan
print(frame["value"].rolling(5).mean().isna().sum(), frame.memory_usage().sum())
"""
    assert run(program).stdout == run(program, heapkeeper=None).stdout


@pytest.mark.parametrize("table", ["None", "object()", "unittest.mock.Mock()"])
def test_modules_that_only_look_like_numpy(run, table):
    run(f"""
import sys, types, unittest.mock
for name in ("numpy._core.umath", "numpy._core._multiarray_umath"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name]._ARRAY_API = {table}
sys.modules["numpy.core.umath"] = sys.modules["numpy.core._multiarray_umath"] = unittest.mock.Mock()
import _bisect, heapkeeper
assert heapkeeper.status()["allocator"]["numpy"] is None
""")
