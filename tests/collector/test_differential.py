"""A few hundred generated programs under CPython's collector and ours; differential.py runs more of them."""

import sys

import differential
import pytest

sys.path.insert(0, str(differential.HERE))

HUNDREDS = range(0, 400, differential.HUNDRED)


@pytest.mark.parametrize(
    ("against", "first"),
    [*(("heapkeeper", first) for first in HUNDREDS), ("verify", HUNDREDS[0]), ("verify", HUNDREDS[-1])],
)
def test_programs_log_the_same(against, first):
    failure = differential.compare(sys.executable, against, first, first + differential.HUNDRED - 1)
    assert failure is None, differential.explain(sys.executable, against, failure.seed, show=False)


def test_programs_are_repeatable():
    """Else a difference would say nothing."""
    for first in HUNDREDS:
        assert differential.compare(sys.executable, "cpython", first, first + 19) is None


def test_a_difference_is_found_and_made_small(monkeypatch):
    """With a player that leaves a collection out when a program holds a certain operation."""
    import programs

    whole = programs.program(0)
    needle = whole[len(whole) // 2]

    def both(python, mode, setting, arguments, stdin=""):
        import json

        holds = needle in [tuple(each) for each in json.loads(stdin)]
        return tuple(
            differential.Run(0, "", [[0, str(holds and side), []]], ["heapkeeper", name])
            for side, name in enumerate(("cpython", mode))
        )

    monkeypatch.setattr(differential, "both", both)
    assert differential.smaller("", "heapkeeper", differential.Setting.of(0, "heapkeeper"), whole) == [needle]


def test_only_the_order_inside_a_full_collection_is_left_out():
    """Collections that begin inside are compared in their order; in a young one, so is what happens before each of them."""
    from player import in_any_order

    def collection(generation, *inside):
        start, stop = (f"phase {phase} [('generation', {generation})]" for phase in ("start", "stop"))
        return [start, *inside, stop]

    def log(*inside, last="freed 3"):
        return in_any_order(["0 collect", *collection(2, *inside), last, "1 drop"])

    young, middle = collection(0), collection(1)
    expected = log("freed 1", *young, "freed 2", *middle)
    assert log(*young, "freed 2", *middle, "freed 1") == expected
    assert log("freed 3", *young, "freed 2", *middle, last="freed 1") != expected
    assert log("freed 1", *middle, "freed 2", *young) != expected
    assert log("freed 1", *young, "freed 2") != expected
    for outer in (collection(1, "freed 1", *young), [*collection(2, *collection(2)), "freed 1", *young]):
        place = outer.index("freed 1")
        later = [*outer[:place], *young, "freed 1", *outer[place + 1 + len(young) :]]
        assert in_any_order(outer) != in_any_order(later)


def test_where_the_order_of_freeing_may_show():
    """In the youngest count afterwards, in a census meanwhile, and in nothing else; where nothing was freed in another order, nowhere."""
    from player import differ_by_order

    start, stop = (f"phase {phase} [('generation', 2)]" for phase in ("start", "stop"))

    def counted(*inside, counts="(0, 3, 3) (67, 0, 0)", last="1 drop"):
        return ["0 collect", start, *inside, stop, start, f"count True {counts}", stop, last]

    expected = counted("freed 1", "freed 2")
    assert differ_by_order(expected, counted("freed 2", "freed 1", counts="(0, 3, 3) (68, 0, 0)"))
    for other in (
        counted("freed 1", "freed 2", counts="(0, 3, 3) (68, 0, 0)"),
        counted("freed 2", "freed 3", counts="(0, 3, 3) (68, 0, 0)"),
        counted("freed 2", "freed 1", counts="(0, 3, 3) (68, 1, 0)"),
        counted("freed 2", "freed 1", counts="(1, 3, 3) (68, 0, 0)"),
        counted("freed 2", "freed 1", counts="(0, 3, 3) (68, 0, 0)", last="1 make"),
        counted("freed 2", "freed 1", last="1 make"),
    ):
        assert not differ_by_order(expected, other)

    expected = ["0 collect", start, "freed 1", "finalized 2", "census list:+1", stop, "census list:+1", "1 drop"]
    seen = ["0 collect", start, "finalized 2", "census list:+2", "freed 1", stop, "census list:+1", "1 drop"]
    assert differ_by_order(expected, seen)
    assert not differ_by_order(expected, [*expected[:4], "census list:+2", *expected[5:]])
    assert not differ_by_order(expected, [*seen[:6], "census list:+2", *seen[7:]])


def test_programs_do_what_they_are_for():
    """Every operation, every kind of object and every deed occurs, and what is to be observed happens often."""
    import programs

    operations = [operation for seed in range(400) for operation in programs.program(seed)]
    assert {name for _, name, *_ in operations} == {*programs.OPERATIONS, "alone", "bare"}
    logs = []
    for first in HUNDREDS:
        setting = differential.Setting.of(first, "cpython")
        run = differential.play(sys.executable, "cpython", setting, ["--logs", str(first), str(first + 99)])
        logs += [line for _, _, log in run.lines for line in log]
    for event, least in {
        "finalized ": 800,
        "called back ": 150,
        "freed ": 5000,
        "closed ": 40,
        "callback ": 1000,
        "unraisable: ": 50,
        "collected inside: ": 60,
        "finalizer called ": 25,
        "in a thread: ": 20,
        "saved ": 20,
        "referrers ": 50,
    }.items():
        assert sum(line.startswith(event) for line in logs) > least, event
    collected = [int(line.split()[1]) for line in logs if line.startswith("collected ") and line[10:].isdigit()]
    assert sum(number > 0 for number in collected) > 300
