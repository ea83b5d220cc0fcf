"""How a process comes to our collector: the settings, and the line that says why CPython's stays.

The native part is replaced here, by one that writes down what it is asked: which interpreters it serves, and how, is
tested where it is real.
"""

import pytest

# `asked` holds each call of the native part, in order.
NATIVE = """
import os, sys, heapkeeper, _heapkeeper_boot
from heapkeeper import _boot, _native

asked, allocator, collector = [], {allocator!r}, {collector!r}

def install(sample_bytes, max_heap, seed):
    asked.append("allocator")
    return allocator

def gc_install(mode):
    asked.append(mode)
    return collector

_native.install, _native.gc_install, _native.installed = install, gc_install, lambda: allocator is None
"""


def outcome(driver, code, allocator=None, collector=None):
    """The outcome of a program that runs on such a native part, without anything in its environment."""
    return driver.python("-c", NATIVE.format(allocator=allocator, collector=collector) + code)


def boot(value, main=True):
    """Code that starts an interpreter with this HEAPKEEPER once more, and prints what was asked."""
    return f"""
os.environ["HEAPKEEPER"] = {value!r}
_heapkeeper_boot._booted, _native.in_main_interpreter = False, lambda: {main}
_heapkeeper_boot.boot()
print(*asked)
"""


@pytest.mark.parametrize(
    ("value", "main", "asked"),
    [
        ("1", True, "allocator heapkeeper"),
        ("gc=cpython", True, "allocator cpython"),
        ("gc=heapkeeper", True, "allocator heapkeeper"),
        ("gc=verify", True, "allocator verify"),
        ("1", False, "heapkeeper"),
        ("gc=heapkeeper", False, "heapkeeper"),
        ("gc=verify,allocator=cpython", False, ""),
        ("off", False, ""),
    ],
)
def test_each_interpreter_asks_for_its_own_collector(driver, value, main, asked):
    found = outcome(driver, boot(value, main))
    assert (found.status, found.stdout, found.stderr) == (0, asked + "\n", "")


@pytest.mark.parametrize("main", [True, False])
def test_a_reason_is_one_line_on_stderr(driver, main):
    found = outcome(driver, boot("gc=heapkeeper", main), collector="lists of another shape")
    assert found.stderr == "heapkeeper: CPython's collector stays: lists of another shape\n"
    assert found.status == 0


def test_without_our_heap_the_collector_is_not_asked_for(driver):
    found = outcome(driver, boot("gc=heapkeeper"), allocator="no memory")
    assert found.stdout == "allocator\n"
    assert found.stderr.splitlines() == [
        "heapkeeper: CPython's allocator stays: no memory",
        "heapkeeper: CPython's collector stays: ours works on our heap only",
    ]
    plain = driver.python("-c", "print(1)", env={"HEAPKEEPER": "allocator=cpython,gc=verify"})
    assert (plain.stdout, plain.stderr) == (
        "1\n",
        "heapkeeper: CPython's collector stays: ours works on our heap only\n",
    )


CATCH = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(heapkeeper.install(gc={mode!r}))
print(*asked)
for each in caught:
    print(each.category.__name__, each.message, os.path.basename(each.filename))
"""


def test_install(driver):
    assert outcome(driver, CATCH.format(mode="cpython")).stdout == "True\nallocator cpython\n"
    assert outcome(driver, CATCH.format(mode="verify")).stdout == "True\nallocator verify\n"
    found = outcome(driver, CATCH.format(mode="heapkeeper"), collector="lists of another shape")
    assert found.stdout.splitlines() == [
        "True",
        "allocator heapkeeper",
        "RuntimeWarning CPython's collector stays: lists of another shape <string>",
    ]
    found = outcome(driver, CATCH.format(mode="heapkeeper"), allocator="no memory")
    assert found.stdout.splitlines()[:2] == ["False", "allocator"]
    assert [line.partition(":")[0] for line in found.stdout.splitlines()[2:]] == [
        "RuntimeWarning CPython's allocator stays",
        "RuntimeWarning CPython's collector stays",
    ]
