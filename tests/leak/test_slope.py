"""The fit that `heapkeeper leak` rests on."""

import random
import statistics

import pytest
from heapkeeper.leak import slope

PLACES = list(range(31))


def test_a_line_is_its_own_slope():
    growth = slope(PLACES, [7 + 3 * place for place in PLACES])
    assert (growth.per_call, growth.low, growth.high, growth.margin) == (3, 3, 3, 0)


def test_odd_rounds_do_not_move_it():
    values = [3.0 * place for place in PLACES]
    values[10] += 10_000
    values[25] -= 10_000
    growth = slope(PLACES, values)
    assert growth.low <= growth.per_call == 3 <= growth.high


@pytest.mark.parametrize("step", range(1, 31))
def test_one_step_anywhere_is_no_slope(step):
    assert slope(PLACES, [0] * step + [1000] * (31 - step)).low == 0


def test_rounds_of_different_length():
    places = [0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55]
    assert slope(places, [5 * place for place in places]).per_call == 5


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """95 % of 1000 intervals; a binomial's five standard deviations are 3.4 %."""
    source = random.Random(1)
    held = 0
    for _ in range(1000):
        values = [2 * place + source.gauss(0, 20) for place in PLACES]
        growth = slope(PLACES, values)
        held += growth.low <= 2 <= growth.high
    assert 0.916 < held / 1000 < 0.984


def test_as_good_as_least_squares_on_plain_noise():
    source = random.Random(2)
    errors = []
    for _ in range(300):
        values = [2 * place + source.gauss(0, 20) for place in PLACES]
        errors.append((slope(PLACES, values).per_call - 2, statistics.linear_regression(PLACES, values).slope - 2))
    ours, theirs = (statistics.pstdev(column) for column in zip(*errors, strict=True))
    assert ours < 1.15 * theirs
