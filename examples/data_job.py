"""A nightly job with one big peak: it reads all of a day's sales to write a table of a few lines.

    heapkeeper run examples/data_job.py

What to look for: the peak comes from one line of `read_sales`, and next to nothing is left at exit. The job does not
leak; it needs a machine that is larger than its result deserves. The report's second line says how much of the peak
went back to the operating system once the rows were gone.

Reading and adding up row by row needs none of that memory:

    heapkeeper run examples/data_job.py --stream
"""

import argparse
import csv
import random
import tempfile
from collections import defaultdict
from pathlib import Path

ROWS = 400_000
SHOPS = [f"{city}-{number}" for city in ("Lyon", "Porto", "Ghent", "Turin", "Graz") for number in range(1, 9)]
ARTICLES = [f"article {number:04}" for number in range(800)]


def write_sales(path, count):
    """The day's sales as the tills deliver them: shop;time;receipt;article;pieces;price."""
    rng = random.Random(11)
    with path.open("w", encoding="utf-8") as file:
        for receipt in range(count):
            second = receipt * 43_200 // count
            clock = f"{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            shop, article = rng.choice(SHOPS), rng.choice(ARTICLES)
            file.write(f"{shop};{clock};R{receipt:09};{article};{1 + receipt % 4};{5 + receipt % 900 / 10:.2f}\n")


def read_sales(path):
    """Every sale as a list of its fields."""
    sales = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            sales.append(line.rstrip("\n").split(";"))  # <- the peak
    return sales


def stream_sales(path):
    """The same sales, one at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n").split(";")


def index_by_shop(sales):
    index = defaultdict(list)
    for sale in sales:
        index[sale[0]].append(sale)
    return index


def revenue_from_index(index):
    return {shop: sum(int(sale[4]) * float(sale[5]) for sale in sales) for shop, sales in index.items()}


def revenue_from_stream(sales):
    revenue = defaultdict(float)
    for shop, _, _, _, pieces, price in sales:
        revenue[shop] += int(pieces) * float(price)
    return revenue


def write_table(path, revenue):
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["shop", "revenue"])
        table.writerows([shop, f"{total:.2f}"] for shop, total in sorted(revenue.items()))


def main():
    parser = argparse.ArgumentParser(description="A batch job with one big peak.")
    parser.add_argument("--stream", action="store_true", help="add up row by row instead of loading all rows")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"sales to read (default: {ROWS})")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "sales.csv"), Path(folder, "revenue.csv")
        write_sales(source, options.rows)
        if options.stream:
            revenue = revenue_from_stream(stream_sales(source))
        else:
            revenue = revenue_from_index(index_by_shop(read_sales(source)))
        write_table(target, revenue)
        lines = len(target.read_text(encoding="utf-8").splitlines())
    print(f"{options.rows:,} sales in {len(revenue)} shops, {sum(revenue.values()):,.2f} in all, {lines} lines written")


if __name__ == "__main__":
    main()
