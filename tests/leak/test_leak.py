"""`heapkeeper leak`: what grows a call, and what only looks as if it did."""

import json
import re
import signal
import sys
import time

import pytest
from processes import COMMAND

MODULE = '''
import asyncio, collections, functools, itertools, random, sys, threading

kept = []
numbers = itertools.count()


def leaks():
    kept.append(bytes(1000))


def helper():
    return bytearray(500)


def leaks_through_a_helper():
    kept.append(helper())


def leaks_at_every_third_call():
    if next(numbers) % 3 == 0:
        kept.append(bytes(3000))


def leaks_amid_noise():
    kept.append(bytes(2000))
    noise[:] = [bytes(random.randrange(1, 3000)) for _ in range(5)]


noise = []


def leaks_in_a_thread():
    thread = threading.Thread(target=leaks)
    thread.start()
    thread.join()


class Node:
    def __del__(self):
        kept.append(bytes(700))


def leaks_when_collected():
    node = Node()
    node.self = node


def leaks_after_a_cache_has_filled():
    once(next(numbers) % 5)
    kept.append(bytes(1000))


async def leaks_in_a_coroutine():
    kept.append(bytes(1000))


async def leaks_tasks():
    kept.append(asyncio.ensure_future(asyncio.sleep(3600)))


def leaks_a_list():
    kept.append([])


def leaks_a_dict():
    kept.append({})


def leaks_a_tuple():
    kept.append(("order", 17, next(numbers) % 100))


class Shop:
    @staticmethod
    def leaks():
        kept.append(bytes(1000))


def is_clean():
    return [bytes(1000) for _ in range(100)]


def makes_cycles():
    cycle = []
    cycle.append(cycle)


@functools.lru_cache
def once(key):
    return bytes(10_000)


def fills_a_cache():
    once(next(numbers) % 12)


def interns_strings():
    sys.intern(f"some name {next(numbers) % 9}")


rotating = {}


def rotates_the_keys_of_a_dict():
    """The table is made anew every now and then, larger or smaller."""
    number = next(numbers)
    rotating[number] = None
    rotating.pop(number - 100, None)


def moves_the_free_lists():
    number = next(numbers)
    [[] for _ in range(number * 7 % 90)]
    [{} for _ in range(number * 11 % 80)]
    [number / 2 for _ in range(number * 13 % 200)]
    [(number, number) for _ in range(number * 17 % 300)]


ramp = collections.deque(maxlen=50)


def keeps_the_last_fifty():
    for _ in range(7):
        ramp.append(next(numbers) * 1.5)
        recent[next(numbers)] = bytes(50)
        if len(recent) > 50:
            recent.popitem(last=False)


recent = collections.OrderedDict()


def fills_slowly_and_stops():
    if next(numbers) < 35:
        filling.append(bytes(500))


filling = []

swinging = []


def swings():
    number = next(numbers)
    if number % 7 == 6:
        swinging.clear()
    swinging.append(bytes(1000))


stepping = []


def takes_one_step():
    if next(numbers) == 30:
        stepping.append(bytes(100_000))


def counts():
    global total
    total += 1


total = 0


async def waits():
    import asyncio

    await asyncio.sleep(0)


def fails():
    raise KeyError("no such order")


def exits():
    sys.exit(0)


def yields():
    yield


def takes_long():
    import time

    kept.append(bytes(1000))
    time.sleep(0.02)


number = 3
'''


@pytest.fixture
def leak(driver):
    """Runs the verb on a function of the module above."""
    driver.write("shop.py", MODULE)

    def run(*arguments, **options):
        return driver.call([COMMAND, "leak", *arguments], **options)

    return run


def answer(outcome):
    assert outcome.stderr == ""
    return json.loads(outcome.stdout)


BYTES = sys.getsizeof(b"")

# What the list that keeps them grows by.
POINTER = 8


@pytest.mark.parametrize(
    ("function", "bytes_per_call", "innermost"),
    [
        ("leaks", 1000 + BYTES, "leaks"),
        ("leaks_through_a_helper", 500 + sys.getsizeof(bytearray()), "helper"),
        ("leaks_at_every_third_call", 1000 + BYTES / 3, "leaks_at_every_third_call"),
        ("leaks_amid_noise", 2000 + BYTES, "leaks_amid_noise"),
        ("leaks_in_a_thread", 1000 + BYTES, "leaks"),
        ("leaks_when_collected", 700 + BYTES, "__del__"),
        ("leaks_after_a_cache_has_filled", 1000 + BYTES, "leaks_after_a_cache_has_filled"),
        ("leaks_in_a_coroutine", 1000 + BYTES, "leaks_in_a_coroutine"),
        ("leaks_a_list", sys.getsizeof([]) + POINTER, "leaks_a_list"),
        ("leaks_a_dict", sys.getsizeof({}) + POINTER, "leaks_a_dict"),
        ("leaks_a_tuple", sys.getsizeof((1, 2, 3)) + POINTER, "leaks_a_tuple"),
        ("Shop.leaks", 1000 + BYTES, "leaks"),
    ],
)
def test_leaks_are_found(leak, function, bytes_per_call, innermost):
    outcome = leak(f"shop:{function}", "--json")
    assert outcome.status == 1
    found = answer(outcome)
    assert found["grows"] and found["calls"] == 50
    line = found["lines"][0]
    assert line["stack"][0]["function"].rpartition(".")[2] == innermost
    # The list that keeps them grows on the same line, or on its caller's.
    assert line["bytes_per_call"] == pytest.approx(bytes_per_call, rel=0.05)
    assert line["low"] <= line["bytes_per_call"] <= line["high"]
    assert found["growth"]["low"] <= bytes_per_call * 1.1 and found["growth"]["high"] >= bytes_per_call * 0.9


@pytest.mark.parametrize(
    "function",
    [
        "is_clean",
        "makes_cycles",
        "fills_a_cache",
        "interns_strings",
        "rotates_the_keys_of_a_dict",
        "moves_the_free_lists",
        "keeps_the_last_fifty",
        "fills_slowly_and_stops",
        "swings",
        "takes_one_step",
        "counts",
        "waits",
    ],
)
@pytest.mark.parametrize("times", ["50", "200"])
def test_what_does_not_leak_is_not_accused(leak, function, times):
    outcome = leak(f"shop:{function}", "--times", times, "--json")
    found = answer(outcome)
    assert (outcome.status, found["grows"], found["lines"]) == (0, False, [])


@pytest.mark.parametrize("function", ["leaks_in_a_coroutine", "leaks_tasks"])
def test_the_loop_of_a_coroutine_is_closed(leak, function):
    outcome = leak(f"shop:{function}", "--json", env={"PYTHONWARNINGS": "always"})
    assert (outcome.status, outcome.stderr) == (1, "")


def test_text(leak):
    outcome = leak("shop:leaks_through_a_helper")
    assert (outcome.status, outcome.stderr) == (1, "")
    first, line, caller = outcome.stdout.splitlines()
    assert first == "heapkeeper leak · shop:leaks_through_a_helper · 50 calls after 3 to warm up"
    assert re.fullmatch(
        r"\d+(\.\d)? B a call from shop.py:13 in helper \(±\d+(\.\d)? B, 95 %\), \d\.\d blocks a call", line
    )
    assert caller == "    called from shop.py:17 in leaks_through_a_helper"

    outcome = leak("shop:is_clean", "--times", "10", "--warm-up", "0")
    assert (outcome.status, outcome.stdout.splitlines()[1:]) == (0, ["Nothing grows."])


def test_a_file(leak):
    assert leak("shop.py:leaks").status == 1
    outcome = leak("shop.py:Shop.leaks", "--json")
    assert answer(outcome)["lines"][0]["stack"][0]["file"].endswith("/shop.py")


def test_many_calls_are_measured_in_rounds(leak):
    found = answer(leak("shop:leaks", "--times", "1000", "--json"))
    assert found["calls"] == 1000
    assert found["growth"]["bytes_per_call"] == pytest.approx(1000 + BYTES + 8, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "target"),
        (["shop"], "is not MODULE:CALLABLE"),
        (["shop:leaks", "--times", "3"], "10 calls at least"),
        (["shop:leaks", "--times", "many"], "'many' is not a whole number"),
        (["shop:leaks", "--warm-up", "-1"], "--warm-up"),
        (["shop:leaks", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_usage_errors_are_one_line(leak, arguments, says):
    outcome = leak(*arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert says in outcome.stderr and outcome.stderr.count("\n") == 1
    assert outcome.stderr.endswith("; try: heapkeeper leak --help\n")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere:leaks", "no module nowhere"),
        ("nowhere.py:leaks", "no file nowhere.py"),
        ("shop:nothing", "has no attribute 'nothing'"),
        ("shop.py:nothing", "shop.py has no nothing"),
        ("shop:number", "shop:number is no function: int"),
        ("shop:fails", "shop:fails raised KeyError"),
        ("shop:exits", "shop:exits raised SystemExit"),
        ("shop:yields", "shop:yields is a generator function: nothing of it runs until somebody iterates over it"),
    ],
)
def test_what_cannot_be_measured(leak, target, says):
    outcome = leak(target)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert says in outcome.stderr.splitlines()[-1]
    assert ("Traceback" in outcome.stderr) == (target in ("shop:fails", "shop:exits"))


def test_help(leak):
    outcome = leak("--help")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "--warm-up" in outcome.stdout


def test_ctrl_c_gives_what_was_measured(leak, driver):
    with driver.start([COMMAND, "leak", "shop:takes_long", "--times", "10000", "--json"]) as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, b"")
    found = json.loads(stdout)
    assert found["interrupted"] and not found["grows"]


def test_ctrl_c_after_enough_rounds(leak, driver):
    with driver.start([COMMAND, "leak", "shop:takes_long", "--times", "60", "--warm-up", "0", "--json"]) as process:
        time.sleep(0.9)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=30)
    found = json.loads(stdout)
    assert process.returncode == 130
    assert found["interrupted"] and found["grows"] and 10 < found["calls"] < 60
