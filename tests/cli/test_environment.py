"""HEAPKEEPER in the environment: its grammar, and the child processes that come along by it."""

import random

import pytest
from heapkeeper import HeapkeeperError, SettingsError, _settings


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4096", 4096),
        ("1", 1),
        ("512K", 2**19),
        ("512k", 2**19),
        ("64M", 2**26),
        ("64MB", 2**26),
        ("64MiB", 2**26),
        ("1.5G", 3 * 2**29),
        ("0.5K", 512),
        ("2T", 2**41),
        ("10B", 10),
        ("0", 0),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_sizes(text, size_bytes):
    assert _settings.size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "banana",
        "-1",
        "+1",
        " 1",
        "1 M",
        "1.5",
        "1.",
        ".5G",
        "1..5G",
        "1e6",
        "0x10",
        "1_000",
        "64MM",
        "64iB",
        "64Mi",
    ]
    + ["1,5G", "٣", "²", "1\n", "inf", "nan", str(2**63), "8388608T", "9" * 10_000],
)
def test_what_is_no_size(text):
    with pytest.raises(SettingsError) as caught:
        _settings.size(text)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, (HeapkeeperError, ValueError))


def test_grammar():
    parse = _settings.parse
    for off in ("", "0", "off"):
        assert not parse(off).on
    for on in ("1", "on", "report", "on,json", "profile=off"):
        assert parse(on).on
    settings = parse(
        "profile=off,sample-bytes=64K,max-heap=1.5G,allocator=cpython,gc=verify,report=12,json,seed=3,log=/a b/c=d"
    )
    assert (settings.profile, settings.sample_bytes, settings.max_heap) == ("off", 65536, 3 * 2**29)
    assert (settings.allocator, settings.report, settings.json) == ("cpython", 12, True)
    assert (settings.gc, settings.seed, settings.log) == ("verify", 3, "/a b/c=d")
    assert parse("report").report == _settings.EVERY_PROCESS
    assert parse("1").report is None
    assert [parse(f"gc={name}").gc for name in _settings.COLLECTORS] == [
        "heapkeeper",
        "background",
        "cpython",
        "verify",
    ]
    assert parse("1").gc is None
    assert [parse(f"profile={name}").profile for name in _settings.PROFILES] == ["sample", "exact", "off"]
    assert parse("profile=exact,output=/path/%p.hk,max-heap=2G").output == "/path/%p.hk"
    assert parse("output=/a=b/ c").output == "/a=b/ c" and parse("1").output is None


BAD = [
    "banana",
    "2",
    "true",
    "max-heap",
    "max-heap=",
    "max-heap=banana",
    "max-heap=0",
    "max-heap=4096",
    "profile=",
    "profile=exactly",
    "report=",
    "report=x",
]
BAD += [
    "report=0",
    "report=-1",
    "allocator=malloc",
    "gc",
    "gc=",
    "gc=off",
    "gc=heapkeeper,gc=ours",
    "seed=",
    "seed=0",
    "seed=-1",
    "seed=99999999999999999999",
    "log=",
    "log",
    "output",
    "output=",
    "output=/a,b.hk",
    "as-tracemalloc=1",
    "at-heap",
    "at-heap=0",
    "at-heap=much",
    "max-heap=64M,at-heap=65M",
    "on-limit",
    "on-limit=stop",
    "socket=",
    "socket=/" + "x" * 107,
]
BAD += ["json=1", "on=1", "report,", ",", "report,,json", " report", "off,report", "Report"]


@pytest.mark.parametrize("text", BAD)
def test_bad_values_cost_one_line_and_never_the_program(driver, text):
    with pytest.raises(SettingsError):
        _settings.parse(text)
    plain = driver.python("-c", "import sys; print(sys.argv); sys.exit(3)", "x")
    ours = driver.python("-c", "import sys; print(sys.argv); sys.exit(3)", "x", env={"HEAPKEEPER": text})
    assert (ours.status, ours.stdout) == (plain.status, plain.stdout)
    assert ours.stderr.startswith("heapkeeper: HEAPKEEPER ignored: ") and ours.stderr.count("\n") == 1


def test_bad_value_with_a_closed_stderr(driver):
    outcome = driver.call(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", "python3", "-c", "print(1)"], env={"HEAPKEEPER": "banana"}
    )
    assert (outcome.status, outcome.stdout) == (0, "1\n")


def test_compose_is_the_inverse_of_parse():
    draw = random.Random(20).choice
    for _ in range(500):
        settings = _settings.Settings()
        settings.profile = draw(_settings.PROFILES)
        settings.allocator = draw(_settings.ALLOCATORS)
        settings.gc = draw(_settings.COLLECTORS)
        settings.sample_bytes = draw([1, 4096, _settings.DEFAULT_SAMPLE_BYTES, 2**40])
        settings.max_heap = draw([None, 2**23, 2**30])
        settings.report = draw([None, _settings.EVERY_PROCESS, 1, 4_000_000])
        settings.json = draw([False, True])
        settings.seed = draw([None, 1, 2**64 - 1])
        settings.log = draw([None, "x", "/a=b/ c"])
        settings.output = draw([None, "/x.hk", "/a=b/ %p%p.hk", "/é/\udcff"])
        settings.at_heap = draw([None, 1, 2**23])
        settings.on_limit = draw([None, *_settings.ON_LIMIT])
        settings.socket = draw([None, "/run/a=b %p.sock"])
        settings.as_tracemalloc = draw([False, True])
        assert _settings.parse(_settings.compose(settings)) == settings


LOOK = "import heapkeeper; print(heapkeeper.status()['allocator']['name'])"


@pytest.mark.parametrize(
    ("value", "allocator"),
    [
        (None, "cpython"),
        ("", "cpython"),
        ("0", "cpython"),
        ("off", "cpython"),
        ("1", "heapkeeper"),
        ("on", "heapkeeper"),
    ]
    + [("allocator=cpython", "cpython"), ("profile=off", "heapkeeper")],
)
def test_switch(driver, value, allocator):
    outcome = driver.python("-c", LOOK, env={} if value is None else {"HEAPKEEPER": value})
    assert (outcome.stdout, outcome.stderr) == (allocator + "\n", "")


def test_without_it_nothing_of_ours_is_loaded(driver):
    look = "import sys; print([name for name in sys.modules if 'heapkeeper' in name])"
    assert driver.python("-c", look).stdout == "[]\n"
    for flag in ("-I", "-E", "-s"):
        assert "_native" in driver.python(flag, "-c", look, env={"HEAPKEEPER": "1"}).stdout
    assert driver.python("-S", "-c", look, env={"HEAPKEEPER": "1"}).stdout == "[]\n"


def test_start_up_imports_nothing_large(driver):
    # Every child interpreter pays for these: each costs 1 to 15 ms.
    look = "import sys; print(sorted({'argparse', 'json', 're', 'enum', 'dataclasses', 'typing', 'logging', 'importlib.metadata', 'pathlib', 'warnings', 'signal'} & set(sys.modules)))"
    plain = driver.python("-I", "-c", look).stdout
    assert driver.python("-I", "-c", look, env={"HEAPKEEPER": "1"}).stdout == plain
    assert driver.python("-I", "-c", look, env={"HEAPKEEPER": "report,seed=1"}).stdout == plain
    assert driver.python("-I", "-c", "import heapkeeper, heapkeeper.cli, heapkeeper._run\n" + look).stdout == plain


def test_report_of_every_process(driver):
    child = "import os, subprocess, sys; print(1, flush=True); subprocess.run([sys.executable, '-c', 'print(2)'])"
    outcome = driver.python("-c", child, env={"HEAPKEEPER": "report,json"})
    assert outcome.stdout == "1\n2\n"
    assert outcome.stderr.count("\n") == 2


def processes(driver):
    """The log's lines, split: pid, version, allocator, command."""
    return [line.split("\t") for line in (driver.folder / "processes").read_text().splitlines()]


CHILDREN = """
import multiprocessing, os, subprocess, sys

def work(_): return os.getpid()

if __name__ == "__main__":
    subprocess.run([sys.executable, "-c", "pass", "by subprocess"], check=True)
    os.system(f"'{sys.executable}' -c pass 'by a shell'")
    os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", "pass", "by spawnl")
    if os.fork() == 0:
        os.execl(sys.executable, sys.executable, "-c", "pass", "by exec")
    os.wait()
    for way in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(way).Pool(1) as pool:
            print(pool.map(work, range(3)) != [os.getpid()] * 3)
    subprocess.run([sys.executable, "-I", "-c", "pass", "isolated"], check=True)
    subprocess.run([sys.executable, "-c", "pass", "off"], env={**os.environ, "HEAPKEEPER": "off"}, check=True)
"""


def test_children_come_along(driver):
    driver.write("app.py", CHILDREN)
    plain = driver.python("app.py")
    outcome = driver.run("-q", "app.py", env={"HEAPKEEPER": "log=processes"})
    assert outcome == plain
    rows = processes(driver)
    assert {row[2] for row in rows} == {"heapkeeper"}
    commands = "\n".join(row[3] for row in rows)
    for way in ("by subprocess", "by a shell", "by spawnl", "by exec", "spawn_main", "forkserver", "isolated"):
        assert way in commands
    assert "pass off" not in commands
    assert len({row[0] for row in rows}) >= 8


def test_forked_children_stay_on_our_heap(driver):
    code = "import os, heapkeeper\nif os.fork() == 0:\n print(heapkeeper.status()['allocator']['name'], flush=True)\n os._exit(0)\nos.wait()"
    assert driver.run("-q", "-c", code).stdout == "heapkeeper\n"


def test_log_lines_are_whole(driver):
    driver.write(
        "app.py",
        """
import subprocess, sys
code = "pass\\n# a second line\\t, a tab and ä"
running = [subprocess.Popen([sys.executable, "-c", code, "x" * 2000]) for _ in range(12)]
for each in running: each.wait()
""",
    )
    assert driver.python("app.py", env={"HEAPKEEPER": "log=processes"}).stderr == ""
    rows = processes(driver)
    assert len(rows) == 13
    assert all(len(row) == 4 and row[0].isdecimal() for row in rows)


def test_log_that_cannot_be_written(driver):
    outcome = driver.python("-c", "print(1)", env={"HEAPKEEPER": "log=absent/processes"})
    assert (outcome.status, outcome.stdout) == (0, "1\n")
    assert outcome.stderr.startswith("heapkeeper: FileNotFoundError") and outcome.stderr.count("\n") == 1
