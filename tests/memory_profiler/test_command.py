"""`python -m heapkeeper.memory_profiler`."""

import sys

MODULE = ("-m", "heapkeeper.memory_profiler")

PROGRAM = """\
import sys
@profile
def work(size):
    block = bytes(size)
    return len(block)

if __name__ == "__main__":
    print(sys.argv[1:], work(int(sys.argv[1])))
"""


def test_script(driver, profiled):
    (table,) = profiled(PROGRAM, *MODULE, "--precision", "2", "program.py", "3000000")
    assert table["block = bytes(size)"].increment_mib == 2.86
    driver.write("program.py", PROGRAM)
    outcome = driver.python(*MODULE, "program.py", "3000000", "-o")
    assert outcome.stdout.splitlines()[0] == "['3000000', '-o'] 3000000"
    assert "Filename: program.py" in outcome.stdout


def test_module(profiled):
    (table,) = profiled(PROGRAM, *MODULE, "program", "3000000")
    assert table["block = bytes(size)"].increment_mib == 2.861


def test_output_file_is_appended_to(driver):
    driver.write("program.py", PROGRAM)
    for _ in range(2):
        outcome = driver.python(*MODULE, "-o", "table.txt", "program.py", "100")
        assert (outcome.status, outcome.stdout) == (0, "['100'] 100\n")
    assert (driver.folder / "table.txt").read_text().count("Filename: ") == 2


def test_a_program_that_fails_is_reported_and_fails(driver):
    driver.write("program.py", "@profile\ndef work():\n    raise KeyError('x')\nwork()\n")
    outcome = driver.python(*MODULE, "program.py")
    assert outcome.status == 1
    assert "Filename: program.py" in outcome.stdout
    assert outcome.stderr.splitlines()[-1] == "KeyError: 'x'"


def test_exit_status_is_the_programs(driver):
    driver.write("program.py", "import sys\nsys.exit(3)\n")
    assert driver.python(*MODULE, "program.py").status == 3


def test_timestamps(driver):
    program = """
import asyncio
@profile
def outer():
    inner()

@profile
def inner():
    with profile.timestamp("a_block"):
        pass

@profile
async def waits():
    await asyncio.sleep(0)

outer()
asyncio.run(waits())
"""
    driver.write("program.py", program)
    outcome = driver.python(*MODULE, "--timestamp", "program.py")
    assert (outcome.status, outcome.stderr) == (0, "")
    rows = [line.split() for line in outcome.stdout.splitlines()]
    assert [(row[0], row[1].rpartition(".")[2], row[6]) for row in rows] == [
        ("FUNC", "outer", "0"),
        ("FUNC", "inner", "1"),
        ("FUNC", "waits", "0"),
        ("FUNC", "a_block", "2"),
    ]
    for row in rows:
        assert float(row[2]) > 1 and float(row[3]) <= float(row[5])


def test_the_debugger_starts_at_a_size(driver):
    driver.write(
        "program.py", "@profile\ndef work():\n    block = bytes(200_000_000)\n    last = 1\n    return block\nwork()\n"
    )
    outcome = driver.python(*MODULE, "--pdb-mmem", "150", "program.py", stdin="p len(block)\nq\n")
    assert outcome.stdout.count("Stepping into the debugger") == 1
    assert "(Pdb) 200000000" in outcome.stdout


def test_usage(driver):
    outcome = driver.python(*MODULE)
    assert (outcome.status, outcome.stdout) == (1, "A program to run must be provided. Use -h for help\n")
    outcome = driver.python(*MODULE, "nowhere.py")
    assert (outcome.status, outcome.stderr) == (1, "Could not find script nowhere.py\n")
    outcome = driver.python(*MODULE, "--backend", "guess", "x.py")
    assert outcome.status == 2 and "invalid choice" in outcome.stderr
    outcome = driver.python(*MODULE, "--help")
    assert outcome.status == 0 and sys.executable not in outcome.stdout
