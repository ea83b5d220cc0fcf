"""Collections that C code asks for, and C types that tell the collector something wrong."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TRASH = """
import gc, sys

class Node:
    pass

def trash(number):
    for _ in range(number):
        node = Node()
        node.me = node

gc.collect()
"""


@pytest.fixture(scope="module")
def extension(tmp_path_factory) -> dict[str, str]:
    """What a process needs in its environment to import wrong_traverse.c."""
    folder = tmp_path_factory.mktemp("extension")
    source = Path(__file__).with_name("wrong_traverse.c")
    library = folder / f"wrong_traverse{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", include, "-o", library, source], check=True)
    return {"PYTHONPATH": os.fspath(folder)}


def test_collections_from_c(run):
    said = run.alike(
        TRASH
        + """
from ctypes import c_ssize_t, pythonapi

pythonapi.PyGC_Collect.restype = c_ssize_t
infos = []
gc.callbacks.append(lambda phase, info: infos.append((phase, info)))
trash(6)
print(pythonapi.PyGC_Collect())
print(infos)
print(pythonapi.PyGC_IsEnabled(), pythonapi.PyGC_Disable(), gc.isenabled(), pythonapi.PyGC_IsEnabled())
trash(5000)
print(sum(type(each) is Node for each in gc.get_objects()), pythonapi.PyGC_Collect())
print(gc.collect(), pythonapi.PyGC_Enable(), gc.isenabled())
gc.callbacks.append(lambda phase, info: print(phase, pythonapi.PyGC_Collect(), gc.collect()))
trash(2)
print(pythonapi.PyGC_Collect() > 0)
"""
    )
    assert "start 0 0\n" in said


def test_right_types_are_collected(run, extension):
    said = run.alike(
        TRASH
        + """
import wrong_traverse
for _ in range(10):
    holder = wrong_traverse.Right()
    holder.own([holder])
    del holder
print(gc.collect())
""",
        environment=extension,
    )
    assert said == "20\n"


def test_forgotten_child_leaks_and_nothing_else_happens(run, extension):
    """The child's count says that somebody outside holds it: it stays, as it does under CPython, and so does all it refers to."""
    said = run.alike(
        TRASH
        + """
import wrong_traverse

class Child(list):
    pass

for _ in range(10):
    holder, child, tail = wrong_traverse.Forgets(), Child(), Node()
    holder.own(child)
    child.append(holder)
    child.append(tail)
    tail.child = child
del holder, child, tail
print(gc.collect(), gc.collect())
print([sum(type(each) is kind for each in gc.get_objects()) for kind in (wrong_traverse.Forgets, Child, Node)])
trash(5)
print(gc.collect() > 0)
""",
        environment=extension,
        modes=("cpython", "heapkeeper"),  # verify says what it saw
    )
    assert said.splitlines()[:2] == ["0 0", "[10, 10, 10]"]


BORROWING = (
    TRASH
    + """
import wrong_traverse

class Target:
    pass

target = Target()
target.attribute = "whole"
target.list = [1, target]
gc.collect()
holders = [wrong_traverse.KIND() for _ in range(HOLDERS)]
for holder in holders:
    holder.borrow(target)
del holder
for _ in range(3):
    trash(5)
    gc.collect()
print(target.attribute, target.list[0], target.list[1] is target)
holders.clear()
target.list.clear()
print(target.attribute, gc.collect())
"""
)


@pytest.mark.parametrize("holders", [1, 2, 50])
def test_borrowed_object_that_is_alive_stays_whole(run, extension, holders):
    """Its count comes out too low, even below zero; it is reached from a module all the same. No mode may take it apart."""
    for mode in run.modes:
        answer = run.under(
            mode,
            BORROWING.replace("KIND", "Borrows").replace("HOLDERS", str(holders)),
            environment=extension,
            quiet=False,
        )
        assert answer.stdout.startswith("whole 1 True\nwhole"), (mode, answer)


IN_USE = (
    TRASH
    + """
import wrong_traverse

class Target:
    pass

def main():
    target, holder = Target(), wrong_traverse.KIND()
    target.attribute, target.holder = "whole", holder
    if type(holder) is wrong_traverse.Twice:
        holder.own(target)
    else:
        holder.borrow(target)
    del holder
    collected = gc.collect()
    print(collected, getattr(target, "attribute", "cleared"))
    # No more of it: what CPython cleared may not be fit for a second collection.
    sys.stdout.flush()
    import os
    os._exit(0)

main()
"""
)


@pytest.mark.parametrize("kind", ["Borrows", "Twice"])
def test_object_in_use_whose_count_comes_out_too_low(run, extension, kind, tmp_path):
    """CPython takes it apart while a running function holds it. Ours knows what running functions hold; verify mode names the type in its record."""
    program = IN_USE.replace("KIND", kind)
    answers = {
        mode: run.under(mode, program, environment=extension | {"TMPDIR": str(tmp_path)}, quiet=mode != "verify")
        for mode in run.modes
    }
    # The dict of an instance is an object of its own up to 3.10.
    objects = 3 if sys.version_info < (3, 11) else 2
    assert answers["cpython"].stdout == f"{objects} cleared\n"
    assert answers["heapkeeper"].stdout == "0 whole\n"
    assert answers["verify"].stdout == answers["cpython"].stdout
    told = answers["verify"].stderr
    assert told.startswith("heapkeeper: verify: ") and told.count("\n") == 1
    assert str(tmp_path) in told
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("heapkeeper-verify-*.json")]
    assert record["unreachable"] == {"cpython": objects, "heapkeeper": 0}
    assert any(each.startswith(f"wrong_traverse.{kind} ") for each in record["only_cpython"])


def test_after_a_difference_the_collector_is_cpythons(run, extension, tmp_path):
    """The program runs on, with its callbacks, and no more is said."""
    answer = run.under(
        "verify",
        IN_USE.replace("KIND", "Borrows").replace(
            "    sys.stdout.flush()\n    import os\n    os._exit(0)\n",
            """    target.attribute = 1
    gc.disable()
    gc.callbacks.append(lambda phase, info: print(phase, info["generation"]))
    trash(5)
    print(gc.collect() > 0, heapkeeper.status()["collector"]["verified"]["differences"])
    trash(5)
    print(gc.collect() > 0, heapkeeper.status()["collector"]["verified"]["differences"])
""",
        ),
        environment=extension | {"TMPDIR": str(tmp_path)},
        quiet=False,
    )
    assert answer.stdout.splitlines()[1:] == ["start 2", "stop 2", "True 1", "start 2", "stop 2", "True 1"]
    assert answer.stderr.count("\n") == 1
    assert len(list(tmp_path.glob("heapkeeper-verify-*.json"))) == 1
