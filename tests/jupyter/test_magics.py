"""`%load_ext heapkeeper`: %%heapkeeper, %memit, %mprun, in IPython's own shell."""

import re

import pytest

# A shell that shows objects as a terminal would, and the HTML that a notebook would get.
SHELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.display_formatter.active_types = ["text/plain", "text/html"]
def publish(data, metadata=None, **_):
    print("TEXT", data["text/plain"], sep="\\n")
    print("HTML", data.get("text/html"), sep="\\n")
shell.display_pub.publish = publish

def cell(source):
    result = shell.run_cell(source, store_history=True)
    result.raise_error()

cell("%load_ext heapkeeper")
"""


@pytest.fixture
def notebook(driver):
    """Runs cells in a new shell; returns what they print."""

    def run(*cells, status=0):
        driver.write("shop.py", "def load():\n    rows = bytes(5_000_000)\n    return rows\n")
        driver.write("notebook.py", SHELL + "".join(f"cell({source!r})\n" for source in cells))
        outcome = driver.python("notebook.py", env={"IPYTHONDIR": str(driver.folder / "ipython"), "PYTHONPATH": "."})
        assert (outcome.status, outcome.stderr) == (status, "")
        return outcome.stdout

    return run


def test_cell(notebook):
    text = notebook(
        "import shop",
        "%%heapkeeper\nkept = bytes(3_000_000)\nrows = shop.load()\ndel rows\nlen(kept)",
        "print(len(kept))",
    )
    assert "3000000" in text.splitlines()
    rows = text[text.index("TEXT") :].splitlines()
    assert re.fullmatch(r"Peak 7\.6 MiB, 2\.9 MiB of it stayed; 7\.\d MiB in [\d,]+ allocations in all\.", rows[1])
    assert rows[2:5] == [
        " at the peak    blocks  line        allocated by",
        "     4.8 MiB         1  In[3]:2     shop.py:2 in load",
        "     2.9 MiB         1  In[3]:1",
    ]
    html = text[text.index("HTML") :]
    assert "<td>4.8 MiB</td><td>1</td><td>In[3]:2</td><td>shop.py:2 in load</td>" in html


def test_cell_options(notebook):
    text = notebook(
        "%%heapkeeper -n 1 -q -o\nkept = bytes(3_000_000)\nmore = bytes(2_000_000)",
        "%heapkeeper -n 1 more = bytes(4_000_000)",
        "print(more[:1])",
    )
    assert text.count("MiB") > 1 and "TEXT\nPeak 3.8 MiB" in text
    assert "b'\\x00'" in text


def test_the_object(notebook):
    text = notebook(
        "memory = get_ipython().run_cell_magic('heapkeeper', '-o -q', 'kept = bytes(3_000_000)')",
        "print(memory.peak_bytes > 3_000_000, memory.live_bytes > 3_000_000, memory.sites[0].blocks)",
    )
    assert text.splitlines()[-1] == "True True 1"


def test_a_cell_that_fails_is_still_told_of(notebook):
    text = notebook("%%heapkeeper\nkept = bytes(3_000_000)\n1 / 0")
    assert "ZeroDivisionError" in text
    assert "Peak 2.9 MiB" in text and "jupyter.py" not in text


def test_html_is_escaped(notebook):
    text = notebook("%%heapkeeper\nkept = (lambda: bytes(3_000_000))()")
    assert "<td>In[2]:1</td><td>&lt;lambda&gt;</td>" in text[text.index("HTML") :]


def test_memit(notebook):
    (line,) = notebook("%memit bytes(50_000_000)").splitlines()
    peak, increment = map(float, re.fullmatch(r"peak memory: (\S+) MiB, increment: (\S+) MiB", line).groups())
    assert 47.6 < increment < 49 and peak > increment + 5
    text = notebook(
        "%%memit size = 20_000_000\nblock = bytes(size)\ndel block",
        "result = %memit -o -q -r 3 bytes(10_000_000)",
        "print(len(result.mem_usage), round(max(result.mem_usage) - result.baseline, 1))",
        "result",
    )
    first, second, shown = text.splitlines()
    assert re.fullmatch(r"peak memory: \S+ MiB, increment: 19\.\d+ MiB", first)
    repeated, increment = second.split()
    assert repeated == "3" and 9.5 <= float(increment) < 10.5
    assert re.fullmatch(r"Out\[5\]: <MemitResult : peak memory: \S+ MiB, increment: \S+ MiB>", shown)


def test_mprun(notebook):
    text = notebook(
        "import shop",
        "%mprun -T table.txt -f shop.load shop.load()",
        "print(open('table.txt').read() != '')",
    )
    assert re.search(r"^ +2 +\S+ MiB +4\.8 MiB +1 +rows = bytes\(5_000_000\)$", text, re.MULTILINE)
    assert "*** Profile printout saved to text file table.txt." in text
    assert text.splitlines()[-1] == "True"


def test_mprun_of_a_function_from_a_cell(notebook):
    text = notebook(
        "def load():\n    rows = bytes(5_000_000)\n    return rows",
        "%%mprun -f load\nload()\n@profile\ndef other():\n    return bytes(2_000_000)\nother()",
    )
    assert re.search(r"^ +2 +\S+ MiB +4\.8 MiB +1 +rows = bytes\(5_000_000\)$", text, re.MULTILINE)


def test_mprun_of_nothing(driver, notebook):
    text = notebook(
        "try:\n    get_ipython().run_line_magic('mprun', '-f nothing 1')\nexcept Exception as error:\n    print(error)"
    )
    assert "Could not find function 'nothing'" in text


def test_memory_profilers_own_extension(notebook):
    assert "increment" in notebook("%load_ext heapkeeper.memory_profiler", "%memit 1")
