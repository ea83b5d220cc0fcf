"""A forked child that collects shares its objects with its parent as before: our search writes to none of them."""

PRIVATE = """
import gc, os

def private_bytes():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Private_Dirty"))

heap = [[number] for number in range(200_000)]
gc.collect()
gc.collect()
child = os.fork()
if not child:
    before = private_bytes()
    gc.collect()
    print(private_bytes() - before, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_child_that_collects_copies_no_heap(run):
    objects_bytes = 200_000 * 72
    copied = {mode: int(run.under(mode, PRIVATE).stdout) for mode in ("cpython", "heapkeeper")}
    assert copied["heapkeeper"] < objects_bytes / 10
    assert copied["cpython"] > objects_bytes / 2, "else this test sees nothing"
