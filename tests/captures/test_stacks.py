"""`heapkeeper diff`, `heapkeeper export` and `heapkeeper report --flamegraph` on the capture of test_reports.py."""

import gzip
import json
import os
import pty
import shutil
from pathlib import Path

import pytest
from processes import COMMAND

SHOP = Path(__file__).with_name("shop.hk")
MIB = 1 << 20


@pytest.fixture
def heapkeeper(driver):
    """Calls a verb in a folder with the shop's capture in it, and a part of it: what a process killed early leaves."""
    shutil.copy(SHOP, driver.folder / "shop.hk")
    (driver.folder / "killed.hk").write_bytes(SHOP.read_bytes()[: SHOP.stat().st_size // 2])
    return lambda *arguments, **options: driver.call([COMMAND, *arguments], **options)


def good(outcome):
    """What a verb printed that had nothing to complain of."""
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.stdout


def test_collapsed_stacks(heapkeeper):
    lines = good(heapkeeper("export", "--to", "collapsed", "shop.hk")).splitlines()
    assert lines[1] == (
        "MainThread;<module> (/home/ada/shop/app.py:99);main (/home/ada/shop/app.py:88);"
        "load (/home/ada/shop/app.py:60);Index.add (/home/ada/shop/index.py:17) 75497472"
    )
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 333 * MIB


def test_moments_threads_and_temporary_allocations(heapkeeper):
    def total(*options):
        lines = good(heapkeeper("export", "--to", "collapsed", *options, "shop.hk")).splitlines()
        return sum(int(line.rpartition(" ")[2]) for line in lines) // MIB

    assert total("--at", "end") == 76
    assert total("--at", "5") == 210
    assert total("--thread", "worker-1") == 40
    assert total("--temporary") > 1500
    assert 0 < total("--temporary", "--at", "2") < total("--temporary")


def test_several_captures_add_up(heapkeeper):
    one = json.loads(good(heapkeeper("export", "--to", "speedscope", "shop.hk")))
    two = json.loads(good(heapkeeper("export", "--to", "speedscope", "shop.hk", "shop.hk")))
    assert one["profiles"][0]["endValue"] == 333 * MIB
    assert two["profiles"][0]["endValue"] == 666 * MIB


def test_files_of_other_tools(heapkeeper, driver):
    for form, name in (("pprof", "shop.pb.gz"), ("parquet", "shop.parquet"), ("speedscope", "shop.json")):
        assert good(heapkeeper("export", "shop.hk", "--to", form, "-o", name)) == ""
    profile = gzip.decompress((driver.folder / "shop.pb.gz").read_bytes())
    for word in (b"inuse_space", b"alloc_objects", b"load_rows", b"worker-1"):
        assert word in profile
    table = (driver.folder / "shop.parquet").read_bytes()
    assert table[:4] == table[-4:] == b"PAR1"
    assert json.loads((driver.folder / "shop.json").read_text())["name"] == "app.py · live at the peak"


def test_binary_formats_go_through_a_pipe_but_to_no_terminal(heapkeeper, driver):
    with driver.start([COMMAND, "export", "--to", "parquet", "shop.hk"]) as process:
        assert process.communicate()[0][:4] == b"PAR1"
    controller, terminal = pty.openpty()
    outcome = heapkeeper("export", "--to", "pprof", "shop.hk", stdout=terminal)
    os.close(terminal)
    os.close(controller)
    assert outcome.status == 2
    assert "pprof is nothing for a terminal" in outcome.stderr


def test_a_flame_graph(heapkeeper, driver):
    assert good(heapkeeper("report", "--flamegraph", "shop.html", "shop.hk")) == ""
    page = (driver.folder / "shop.html").read_text()
    assert "<title>app.py · live at the peak · heapkeeper</title>" in page
    assert "load_rows" in page and "http://" not in page and "https://" not in page
    page = good(heapkeeper("report", "--temporary", "--flamegraph", "-", "shop.hk"))
    assert "<title>app.py · allocated and freed at the end · heapkeeper</title>" in page


def test_two_moments_of_one_capture(heapkeeper, driver):
    text = good(heapkeeper("diff", "--at", "5,end", "--flamegraph", "change.html", "shop.hk"))
    assert text.splitlines()[:3] == [
        "Before     app.py · live at 5 s: 210 MiB in 3.4 million blocks.",
        "After      app.py · live at the end: 76 MiB in 1.2 million blocks.",
        "Change     −134 MiB (−64 %). app.py:42 (load_rows) shrank most: −130 MiB.",
    ]
    assert "130 MiB → gone" in text
    page = (driver.folder / "change.html").read_text()
    assert "<title>app.py · live at 5 s → app.py · live at the end · heapkeeper</title>" in page


def test_two_captures(heapkeeper):
    assert good(heapkeeper("diff", "shop.hk", "shop.hk")).endswith("Change     none.\n")
    outcome = heapkeeper("diff", "killed.hk", "shop.hk")
    assert outcome.status == 0
    assert outcome.stderr.startswith("heapkeeper diff: killed.hk: damaged in tick")
    assert outcome.stderr.count("\n") == 1
    assert "load_rows" in outcome.stdout


def test_a_thread_that_is_in_one_capture_only(heapkeeper):
    text = good(heapkeeper("diff", "--at", "0,end", "--thread", "worker-1", "shop.hk"))
    assert "new → 60 MiB" in text


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["export", "shop.hk"], 2, "--to"),
        (["export", "--to", "pprof"], 2, "FILE"),
        (["export", "--to", "svg", "shop.hk"], 2, "'svg'"),
        (["export", "--to", "pprof", "-x", "shop.hk"], 2, "-x"),
        (["export", "--to", "collapsed", "-o", "./shop.hk", "shop.hk"], 2, "is a capture"),
        (["export", "--to", "collapsed", "--at", "never", "shop.hk"], 2, "neither peak, end nor a number"),
        (["export", "--to", "collapsed", "--thread", "ada", "shop.hk"], 2, "threads: MainThread, worker-1"),
        (["export", "--to", "collapsed", "none.hk"], 1, "none.hk: No such file or directory"),
        (["export", "--to", "collapsed", "app.py"], 1, "app.py: not a capture of heapkeeper"),
        (["export", "--to", "collapsed", "-o", "no/folder", "shop.hk"], 1, "no/folder: No such file or directory"),
        (["export", "--to", "collapsed", "-o", "/dev/full", "shop.hk"], 1, "/dev/full: No space left on device"),
        (["diff"], 2, "FILE"),
        (["diff", "shop.hk"], 2, "two captures"),
        (["diff", "--at", "1,2,3", "shop.hk"], 2, "more than two moments"),
        (["diff", "shop.hk", "shop.hk", "shop.hk"], 2, "more than two captures"),
        (["diff", "shop.hk", "none.hk"], 1, "none.hk: No such file or directory"),
        (["diff", "app.py", "shop.hk"], 1, "app.py: not a capture of heapkeeper"),
        (["diff", "--flamegraph", "shop.hk", "--at", "1,2", "shop.hk"], 2, "is a capture"),
        (["report", "--tree", "--flamegraph", "x.html", "shop.hk"], 2, "--flamegraph does not go with --tree"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(heapkeeper, driver, arguments, status, says):
    driver.write("app.py", "print('no capture')")
    before = SHOP.read_bytes()
    outcome = heapkeeper(*arguments)
    assert outcome.status == status
    assert says in outcome.stderr
    assert outcome.stderr.count("\n") == 1 and outcome.stderr.startswith("heapkeeper")
    assert (driver.folder / "shop.hk").read_bytes() == before


@pytest.mark.parametrize("verb", ["diff", "export"])
def test_help(heapkeeper, verb):
    for option in ("-h", "--help"):
        text = good(heapkeeper(verb, option))
        assert text.startswith(f"usage: heapkeeper {verb} ")
        assert max(map(len, text.splitlines())) <= 100
    assert f"\n  {verb} " in good(heapkeeper("--help"))
