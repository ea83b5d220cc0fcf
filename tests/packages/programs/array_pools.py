"""Process pools that hand numpy arrays and pandas frames to and fro, by every start method."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import heapkeeper
import numpy as np
import pandas as pd
import proof


def work(number: int) -> tuple[int, np.ndarray, pd.DataFrame]:
    array = np.arange(number * 100).reshape(100, number) ** 2 % 1009
    return number, array, pd.DataFrame({"value": array.sum(axis=1), "name": [f"row {each}" for each in range(100)]})


def reduce(result: tuple[int, np.ndarray, pd.DataFrame]) -> int:
    number, array, frame = result
    return int(array.sum()) + int(frame["value"].max()) + len(frame["name"].iloc[-1]) + number


def allocator(_: int) -> str:
    return heapkeeper.status()["allocator"]["name"]


if __name__ == "__main__":
    own = allocator(0)
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            results = pool.map(work, range(1, 40))
            print(
                method,
                sum(map(reduce, results)),
                sum(pool.imap_unordered(reduce, results)),
                set(pool.map(allocator, range(8))) == {own},
            )
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            print(method, list(executor.map(reduce, results[:5])), set(executor.map(allocator, range(8))) == {own})
    proof.leave()
