"""A bookshop's search service that leaks slowly: its cache of answers never evicts.

    heapkeeper run examples/leaky_service.py

What to look for: the third line of the report names one line of `AnswerCache.remember`, and says that it still held
nearly as much at exit as at the peak. That is what a leak looks like: memory that the program has no further use for
and nobody lets go of. The requests themselves come and go without a trace.

The mistake is a common one. The cache's key is the whole URL, and every visitor's URL carries a session token, so
that no answer is ever asked for twice. A bound on the cache, or a key without the token, ends the leak:

    heapkeeper run examples/leaky_service.py --bounded
"""

import argparse
import json
import random
from collections import OrderedDict
from urllib.parse import parse_qs, urlsplit

REQUESTS = 20_000
BOOKS = 3_000
ANSWERS_KEPT = 500
WORDS = ["night", "river", "garden", "winter", "letter", "island", "stone", "morning", "shadow", "harbour"]


class Catalogue:
    """The books on offer, searched by a word of their title."""

    def __init__(self, count, rng):
        self._books = [
            {
                "isbn": f"978-{rng.randrange(10**9):09}",
                "title": " ".join(rng.sample(WORDS, 3)).title(),
                "price": round(rng.uniform(5, 60), 2),
                "blurb": " ".join(rng.choices(WORDS, k=30)),
            }
            for _ in range(count)
        ]
        self._by_word = {word: [] for word in WORDS}
        for book in self._books:
            for word in set(book["title"].lower().split()):
                self._by_word[word].append(book)

    def search(self, word, start, count=12):
        found = sorted(self._by_word.get(word, []), key=lambda book: (book["price"], book["title"]))
        return {"query": word, "found": len(found), "books": found[start : start + count]}


class AnswerCache:
    """Answers by URL, ready to send."""

    def __init__(self, limit=None):
        self._answers = OrderedDict()
        self._limit = limit
        self.hits = 0

    def find(self, url):
        answer = self._answers.get(url)
        self.hits += answer is not None
        return answer

    def remember(self, url, document):
        self._answers[url] = json.dumps(document).encode()  # <- grows
        if self._limit is not None and len(self._answers) > self._limit:
            self._answers.popitem(last=False)
        return self._answers[url]

    def __len__(self):
        return len(self._answers)


class Service:
    """Turns one request into one answer."""

    def __init__(self, catalogue, cache):
        self._catalogue = catalogue
        self._cache = cache
        self.sent_bytes = 0

    def handle(self, url):
        answer = self._cache.find(url)
        if answer is None:
            parameters = parse_qs(urlsplit(url).query)
            document = self._catalogue.search(parameters["word"][0], int(parameters["start"][0]))
            answer = self._cache.remember(url, document)
        self.sent_bytes += len(answer)
        return answer


def visitors(count, rng):
    """URLs as a browser sends them, each with the token of its session."""
    for _ in range(count):
        word, start = rng.choice(WORDS), rng.randrange(0, 120, 12)
        yield f"/search?word={word}&start={start}&session={rng.getrandbits(64):016x}"


def main():
    parser = argparse.ArgumentParser(description="A search service with a leak.")
    parser.add_argument("--bounded", action="store_true", help=f"keep the last {ANSWERS_KEPT} answers only")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"requests to serve (default: {REQUESTS})")
    options = parser.parse_args()

    rng = random.Random(7)
    cache = AnswerCache(ANSWERS_KEPT if options.bounded else None)
    service = Service(Catalogue(BOOKS, rng), cache)
    for url in visitors(options.requests, rng):
        service.handle(url)
    print(f"{options.requests:,} requests, {service.sent_bytes:,} bytes sent, {cache.hits} answered from the cache")
    return service


if __name__ == "__main__":
    # A service lives as long as its process; so does its cache.
    service = main()
