"""A C program that embeds CPython, starts it and ends it again and again."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

WORK = """
import gc, heapkeeper, json, zlib
name = heapkeeper.status()["allocator"]["name"]
class Node: pass
nodes = [Node() for _ in range(20_000)]
for node in nodes:
    node.me, node.text = node, str(id(node))
assert json.loads(json.dumps([node.text for node in nodes])) == [node.text for node in nodes]
assert zlib.decompress(zlib.compress(bytes(100_000))) == bytes(100_000)
print(name)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """embedded.c, compiled and linked with this interpreter's library."""
    library_folder, version = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDVERSION")
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        pytest.skip("this interpreter was built without its shared library")
    program = tmp_path_factory.mktemp("embedding") / "embedded"
    source = Path(__file__).with_name("embedded.c")
    command = ["cc", "-O1", "-o", program, source, f"-I{sysconfig.get_path('include')}", f"-L{library_folder}"]
    subprocess.run([*command, f"-Wl,-rpath,{library_folder}", f"-lpython{version}", "-lpthread"], check=True)
    return program


@pytest.mark.parametrize("turns", [1, 8])
def test_interpreter_starts_and_ends(program, turns):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEAPKEEPER"))}
    outcomes = []
    for variables in ({}, {"HEAPKEEPER": "on"}):
        command = [program, sys.executable, str(turns), WORK]
        answer = subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=300)
        outcomes.append((answer.returncode, answer.stderr))
        expected = "heapkeeper\n" if variables else "cpython\n"
        assert answer.stdout == expected * 2 * turns, answer
    assert outcomes == [(0, "")] * 2


def test_own_table_of_modules(program):
    """The interpreter may have another table of built-in modules than its own, which is no more when we are installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEAPKEEPER"))}
    code = "import heapkeeper\nheapkeeper.install()\n" + WORK + "print(heapkeeper.gc.stats()['mode'])"
    command = [program, sys.executable, "1", code, "own-table"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "heapkeeper\nheapkeeper\n" * 2
