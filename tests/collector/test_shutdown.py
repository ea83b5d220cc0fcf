"""The interpreter's end under each collector: the same last words, the same exit status."""

import pytest


def test_cycles_and_finalizers_at_the_end(run):
    said = run.alike(
        """
import atexit, gc, os, sys, weakref

class Finalized:
    def __init__(self, name):
        self.name, self.me, self.write = name, self, os.write
    def __del__(self):
        self.write(1, f"finalized {self.name}\\n".encode())

kept = Finalized("module global")
sys.of_mine = Finalized("attribute of sys")
gc.of_mine = Finalized("attribute of gc")
Finalized.of_mine = Finalized("attribute of its class")
weakref.finalize(kept, print, "finalize", flush=True)
reference = weakref.ref(kept, lambda reference: print("called back", flush=True))
atexit.register(lambda: print("at exit", gc.collect(), gc.isenabled(), flush=True))
gc.callbacks.append(lambda phase, info, print=print: None)
Finalized("trash")
gc.collect()
print("end", flush=True)
"""
    )
    assert said.splitlines()[:2] == ["finalized trash", "end"] and "finalized attribute of sys" in said


def test_collections_inside_the_last_finalizers(run):
    run.alike(
        """
import gc, os

class Finalized:
    def __init__(self):
        self.me, self.write, self.collect, self.objects = self, os.write, gc.collect, gc.get_objects
    def __del__(self):
        cycle = []
        cycle.append(cycle)
        self.write(1, f"finalized {self.collect() >= 0} {len(self.objects()) > 100}\\n".encode())

kept = [Finalized() for _ in range(3)]
"""
    )


@pytest.mark.parametrize(
    "ending", ["sys.exit(3)", "raise SystemExit(3)", "os._exit(3)", "os.kill(os.getpid(), 9)", "1 / 0"]
)
def test_exit_statuses(run, ending):
    said = []
    for mode in run.modes:
        status = {"os.kill(os.getpid(), 9)": -9, "1 / 0": 1}.get(ending, 3)
        answer = run.under(
            mode,
            f"""
import gc, os, sys
cycle = []
cycle.append(cycle)
del cycle
gc.collect()
print("here", flush=True)
{ending}
""",
            status=status,
            quiet=False,
        )
        said.append((answer.stdout, answer.stderr.splitlines()[-1:]))
    assert said == said[:1] * len(said)


@pytest.mark.parametrize("turn", range(3))
def test_daemon_thread_is_in_the_middle_of_a_finalizer(run, mode, turn):
    """It never comes back from there; the interpreter ends without it, collecting as it does."""
    said = run.under(
        mode,
        """
import gc, threading, time

class Finalized:
    def __init__(self):
        self.me = self
    def __del__(self):
        reached.set()
        time.sleep(100)

reached = threading.Event()

def collect():
    Finalized()
    gc.collect()

gc.disable()
kept = [[number] for number in range(1000)]
for each in kept:
    each.append(kept)
threading.Thread(target=collect, daemon=True).start()
reached.wait()
print(gc.collect(), len(gc.get_objects()) > 1000)
""",
    ).stdout
    assert said == "0 True\n"


@pytest.mark.parametrize("turn", range(3))
def test_daemon_threads_are_collecting(run, mode, turn):
    # No more of them than so many: while the interpreter waits for its turn to finalize one, nobody else collects.
    run.under(
        mode,
        """
import gc, threading, time

class Finalized:
    alive = set()
    def __init__(self):
        self.me = self
        self.alive.add(id(self))
    def __del__(self):
        self.kept = [[] for _ in range(10)]
        self.alive.discard(id(self))

def collect():
    while True:
        for _ in range(50):
            if len(Finalized.alive) < 200:
                Finalized()
        gc.collect()

for _ in range(3):
    threading.Thread(target=collect, daemon=True).start()
time.sleep(0.1)
""",
    )


def test_finalizer_ends_the_process(run):
    """Everything of the collection is in the middle when the interpreter begins to end."""
    for mode in run.modes:
        run.under(
            mode,
            """
import gc, os

class Finalized:
    def __init__(self):
        self.me = self
    def __del__(self):
        os._exit(7)

Finalized()
gc.collect()
""",
            status=7,
        )
