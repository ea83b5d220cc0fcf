"""Heaps of live objects, and what full collections of them cost: `python gc_heaps.py KIND OBJECTS [--settled] [--repeats N]`.

OBJECTS is about how many the collector will track. Timed are the first collection after building, N more (4), and one
after a tenth of the objects was replaced. Automatic collection is off throughout, and little here is garbage: the times are
what it costs to find that out. One JSON line says the rest.

The order of the collector's list matters to CPython more than the heap does. Before building, everything that exists is put
into generation 1, as it is when a script starts on CPython 3.12: a full collection then lines up the program's globals behind
the heap that they hold, and meets nearly every object before what keeps it. With --settled all went into generation 2 and
stays in front.
"""

import gc
import random
import sys
from array import array

import collecting

# A heap is held by this module's globals alone: a running frame would be a root in front of everything.
heap = None


class Record:
    """Three tracked objects: itself, a list, and a tuple; its dict holds no container, and is not tracked before 3.14."""

    __slots__ = ("fields", "links", "pair")


def record(number, link=None):
    """A record; `link` is what its list refers to, by default the record itself."""
    made = Record()
    made.links, made.fields = [], {}
    made.links.append(made if link is None else link)
    made.fields["number"] = number
    made.pair = (number, made.links)
    return made


class Records:
    """A list of records, in the order in which they were made."""

    objects_each = 3

    def __init__(self, count):
        self.all = []
        for number in range(count):
            self.all.append(self.new(number))

    def new(self, number):
        """A record that refers to the list of all. Every seventh refers to itself instead, and needs a collector to go."""
        return record(number, self.all if number % 7 else None)

    def replace(self, count):
        """Put new records in place of some, chosen at random."""
        for number in random.sample(range(len(self.all)), count):
            self.all[number] = self.new(number)


class Shuffled(Records):
    """The same, referred to in random order: whoever follows the list jumps through memory."""

    def __init__(self, count):
        super().__init__(count)
        random.shuffle(self.all)


class Recycled(Records):
    """The same after a life as caches and sessions lead it: three times, half of the records made way for new ones."""

    def __init__(self, count):
        super().__init__(count)
        for _ in range(3):
            self.replace(count // 2)

    def new(self, number):
        return record(number, self.all)


class Branch:
    """A node of a binary tree, with a reference to its parent."""

    def __init__(self, parent):
        self.parent, self.left, self.right = parent, None, None


class Trees:
    """Deep and narrow: a binary tree in the shape that random insertions give, and a chain of dicts in random order."""

    objects_each = 3  # a branch, a dict, a list

    def __init__(self, count):
        self.root = self.grown(count)
        self.chain = self.linked(count)

    @staticmethod
    def grown(count):
        """A search tree's next key falls between any two of the others alike: each free place is as likely as the next."""
        branches = [Branch(None)]
        free = array("Q", [0, 1])  # twice the number of a branch, plus one for its right side
        for number in range(1, count):
            chosen = random.randrange(len(free))
            above, side = divmod(free[chosen], 2)
            branches.append(Branch(branches[above]))
            setattr(branches[above], "right" if side else "left", branches[number])
            free[chosen] = 2 * number
            free.append(2 * number + 1)
        return branches[0]

    @staticmethod
    def linked(count):
        """Each dict refers to the next, and to a list that refers back."""
        links = [{} for _ in range(count)]
        random.shuffle(links)
        head = None
        for link in links:
            link["next"], link["back"] = head, [link]
            head = link
        return head

    def replace(self, count):
        """New branches and dicts in place of some, all over the tree and the chain."""
        every = max(1, self.size() // count)
        for number, branch in enumerate(list(self.branches())):
            if number % every == 0 and branch is not self.root:
                self.exchange(branch)
        link, number = self.chain, 0
        while link["next"]:
            number += 1
            if number % every == 0:
                new = {"next": link["next"]["next"]}
                new["back"] = [new]
                link["next"] = new
            link = link["next"]

    @staticmethod
    def exchange(branch):
        """Put a new branch in the place of this one."""
        new = Branch(branch.parent)
        new.left, new.right = branch.left, branch.right
        setattr(new.parent, "left" if new.parent.left is branch else "right", new)
        for below in (new.left, new.right):
            if below is not None:
                below.parent = new

    def branches(self):
        """Every branch, from the root."""
        waiting = [self.root]
        while waiting:
            branch = waiting.pop()
            yield branch
            waiting += [below for below in (branch.left, branch.right) if below is not None]

    def size(self):
        """How many branches there are; the chain has as many dicts."""
        return sum(1 for _ in self.branches())


class Pointers:
    """Many references an object: lists of sixteen, to other lists anywhere in memory."""

    objects_each = 2  # a hub and a leaf

    def __init__(self, count):
        self.leaves = [[number] for number in range(count)]
        random.shuffle(self.leaves)
        self.hubs = [self.new() for _ in range(count)]

    def new(self):
        """A hub: sixteen leaves that stand side by side, which since the shuffle says nothing of where they are."""
        first = random.randrange(max(1, len(self.leaves) - 15))
        return self.leaves[first : first + 16]

    def replace(self, count):
        """New hubs in place of twice as many, as the leaves stay."""
        for number in random.sample(range(len(self.hubs)), min(2 * count, len(self.hubs))):
            self.hubs[number] = self.new()


KINDS = {"fresh": Records, "shuffled": Shuffled, "recycled": Recycled, "trees": Trees, "pointers": Pointers}


def main():
    global heap
    words = sys.argv[1:]
    settled = "--settled" in words
    repeats = int(words[words.index("--repeats") + 1]) if "--repeats" in words else 4
    kind = KINDS[words[0]]
    count = max(10, int(words[1]) // kind.objects_each)

    random.seed(count)
    gc.disable()
    gc.collect(2 if settled else 0)
    phases = collecting.Phases()
    heap = kind(count)

    resident_mib = collecting.resident_mib()
    first = collecting.collection()
    spent = {"first": phases.each()}
    repeated = [collecting.collection() for _ in range(repeats)]
    lasting_mib = collecting.resident_mib() - resident_mib
    spent["repeated"] = phases.each(repeats)
    objects, tracked_bytes = collecting.tracked()
    heap.replace(count // 10)
    replaced = collecting.collection()
    collecting.finish(
        kind=words[0],
        settled=settled,
        objects=objects,
        tracked_bytes=tracked_bytes,
        resident_mib=round(resident_mib, 2),
        lasting_mib=round(lasting_mib, 2),
        first=first,
        repeated=repeated,
        replaced=replaced,
        phases=spent,
    )


if __name__ == "__main__":
    main()
