"""Collections that C code asks for, and C types that tell the collector something wrong."""

import os
import subprocess
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
    )
    assert said.splitlines()[:2] == ["0 0", "[10, 10, 10]"]


def test_verify_mode_names_the_type_that_forgets(run, extension):
    """No collection differs by it, so it is looked for: what a block holds is compared with what is visited."""
    answer = run.under(
        "verify",
        TRASH
        + """
import wrong_traverse
holder = wrong_traverse.Forgets()
holder.own([holder])
del holder
gc.collect()
""",
        environment=extension,
        quiet=False,
    )
    assert "wrong_traverse.Forgets" in answer.stderr


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


def test_verify_mode_names_the_type_that_borrows(run, extension):
    answer = run.under(
        "verify",
        BORROWING.replace("KIND", "Borrows").replace("HOLDERS", "3"),
        environment=extension,
        quiet=False,
    )
    assert "wrong_traverse.Borrows" in answer.stderr


@pytest.mark.parametrize("held", ["in a local", "in a list", "in C"])
def test_child_that_is_visited_twice(run, extension, held):
    """The child's only other reference is outside: for CPython it may be trash while it is in use. Ours takes nothing apart that CPython would not."""
    program = (
        TRASH
        + f"""
import ctypes, wrong_traverse

class Child:
    pass

def main(held={held!r}):
    holder, child = wrong_traverse.Twice(), Child()
    child.text = "text"
    holder.own(child)
    child.holder = holder
    if held == "in a list":
        kept = [child]
        del child
    elif held == "in C":
        kept = ctypes.py_object(child)
        del child
    del holder
    print(gc.collect())
    child = child if held == "in a local" else kept[0] if held == "in a list" else kept.value
    print(type(child), getattr(child, "text", "cleared"))

main()
"""
    )
    answers = {mode: run.under(mode, program, environment=extension, quiet=False).stdout for mode in run.modes}
    if "cleared" not in answers["cpython"]:
        assert len(set(answers.values())) == 1, answers
