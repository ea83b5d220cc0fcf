"""A document converter whose trees are full of cycles: they outlive their use until the collector comes by.

    heapkeeper run examples/cyclic_graph.py

What to look for: the program works on one document at a time, yet the peak holds more than one of them, most of it
from the line of `Section.__init__` that keeps the words. A section knows the one above it and the ones beside it, and
they know it, so that no reference count in a finished document falls to zero. Its memory stays until CPython's
collector of cycles examines the oldest generation, which it does the more rarely the more the program holds.

Taking the links apart when a document is done, as `xml.dom.minidom` offers with `unlink()`, frees it at once:

    heapkeeper run examples/cyclic_graph.py --unlink
"""

import argparse
import gc
import random

DOCUMENTS = 9
SECTIONS = 40_000
DEEPEST = 6
VOCABULARY = [
    first + second
    for first in ("over", "under", "out", "in", "up")
    for second in ("line", "grow", "look", "write", "set", "take", "come", "run", "land", "stand", "hold", "turn")
]


class Section:
    """A heading, its text, the sections below it, and links to the one above and the ones beside."""

    def __init__(self, title, text, above=None, before=None):
        self.title = title
        self.words = text.split()  # <- kept alive by cycles
        self.above = above
        self.before = before
        self.after = None
        self.below = []
        if above is not None:
            above.below.append(self)
        if before is not None:
            before.after = self

    def walk(self):
        """This section and all below it, in the order of the text."""
        open_sections = [self]
        while open_sections:
            section = open_sections.pop()
            yield section
            open_sections.extend(reversed(section.below))

    def number(self):
        """`2.1.3`, told by counting the links back."""
        digits = []
        section = self
        while section.above is not None:
            place = 1
            while section.before is not None and section.before.above is section.above and place < 99:
                section, place = section.before, place + 1
            digits.append(place)
            section = section.above
        return ".".join(map(str, reversed(digits)))

    def unlink(self):
        """Takes the links apart that close cycles."""
        for section in list(self.walk()):
            section.above = section.before = section.after = None


def parse(title, rng):
    """A document of `SECTIONS` sections, at most `DEEPEST` deep."""
    root = Section(title, "")
    path = [root]
    for count in range(1, SECTIONS):
        del path[rng.randint(1, min(len(path), DEEPEST)) :]
        above = path[-1]
        text = " ".join(rng.choices(VOCABULARY, k=12))
        before = above.below[-1] if above.below else None
        path.append(Section(f"Section {count}", text, above, before))
    return root


def convert(root):
    """The table of contents of the upper levels, and the number of words in all."""
    words = 0
    contents = []
    for section in root.walk():
        words += len(section.words)
        if section.above is root:
            contents.append(f"{section.number()} {section.title}")
    return contents, words


def main():
    parser = argparse.ArgumentParser(description="Trees with links in all directions.")
    parser.add_argument("--unlink", action="store_true", help="take each document's links apart when it is done")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help=f"documents (default: {DOCUMENTS})")
    options = parser.parse_args()

    rng = random.Random(5)
    words = 0
    for number in range(options.documents):
        document = parse(f"Document {number}", rng)
        words += convert(document)[1]
        if options.unlink:
            document.unlink()
        del document
    collected = gc.collect()
    print(f"{options.documents} documents, {words:,} words; a last collection found {collected:,} objects in cycles")


if __name__ == "__main__":
    main()
