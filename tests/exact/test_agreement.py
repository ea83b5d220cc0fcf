"""Forty generated programs under CPython's tracemalloc and ours; agreement.py runs more of them."""

import sys

import agreement
import pytest
import sources

# Of each kind of process some.
STARTS = {"from the start": 0, "late": 50, "threads": 100, "collections": 200}


@pytest.mark.parametrize("first", STARTS.values(), ids=STARTS)
def test_programs_agree(first):
    assert agreement.compare(first, first + 9) == []


def test_a_difference_is_told(monkeypatch):
    def count(side, setting, first, last):
        program = setting.program(first)
        clean = next(number for number, types in program.types.items() if not types)
        return [[first, 100, 200 + (side == "ours"), [[clean, [8 if side == "ours" else 9, 1]]]]]

    monkeypatch.setattr(agreement, "count", count)
    peak, line = agreement.compare(0, 0)
    assert peak == "seed 0: peak bytes: 200 under tracemalloc, 201 under ours"
    assert "[9, 1] under tracemalloc, [8, 1] under ours" in line


def test_programs_do_what_they_are_for():
    """Every statement occurs, and on every version many lines can be held against tracemalloc's."""
    programs = [agreement.Setting.of(seed).program(seed) for seed in range(400)]
    assert {each.text for each in programs} == {agreement.Setting.of(seed).program(seed).text for seed in range(400)}
    used = {template for each in programs for template in each.templates}
    assert used == {*sources.STATEMENTS, *sources.THREADED, *sources.COLLECTED}
    clean = sum(agreement.FREE_LISTED.isdisjoint(types) for each in programs for types in each.types.values())
    assert clean > 5000, (clean, sys.version)
