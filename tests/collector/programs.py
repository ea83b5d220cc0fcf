"""Generated programs: a seed is a program, and the same one in every process.

A program is a list of operations, each a name and three numbers that world.py takes modulo what is there when it runs. So every part of a program
is a program as well, and a failing one can be made smaller by leaving operations out.
"""

import random

import kinds

# The operations and how often each is drawn. world.py has a method of that name for each.
OPERATIONS = {
    "make": 30,
    "ring": 5,
    "link": 14,
    "link_itself": 5,
    "unlink": 3,
    "drop": 12,
    "move": 4,
    "copy_to_container": 4,
    "foreign": 3,
    "keep_elsewhere": 4,
    "forget_elsewhere": 3,
    "weak": 10,
    "deed": 8,
    "collect": 9,
    "collect_in_thread": 1,
    "allocate": 5,
    "litter": 4,
    "snapshot": 5,
    "referrers": 1,
    "thresholds": 2,
    "switch": 2,
    "freeze": 1,
    "unfreeze": 1,
    "callback": 2,
    "remove_callback": 1,
    "save_all": 1,
    "thread": 1,
    "call": 2,
    "call_in_generator": 1,
    "call_in_coroutine": 1,
    "call_in_handler": 1,
    "call_in_context": 1,
}

Operation = tuple[int, str, int, int, int]
"""Its place in the whole program, by which its objects are numbered; its name; its numbers."""


def program(seed):
    """The operations of a seed. Each program knows only some operations and kinds, so that rare ones meet often."""
    draw = random.Random(seed)
    names = [name for name in OPERATIONS if name in ("make", "link", "drop", "collect") or draw.random() < 0.75]
    weights = [OPERATIONS[name] * draw.choice((1, 1, 2, 4)) for name in names]
    makers = list(kinds.MAKERS)
    chosen = sorted(draw.sample(range(len(makers)), draw.choice((2, 4, 8, 16, len(makers)))))
    finalized = makers.index("finalized")
    operations = []
    if draw.random() < 0.4:
        operations.append((-1, "alone", 0, 0, 0))
    if draw.random() < 0.15:
        operations.append((-1, "bare", 0, 0, 0))
    for index, name in enumerate(draw.choices(names, weights, k=draw.choice((15, 30, 60, 90, 150)))):
        first, second, third = (draw.randrange(1 << 16) for _ in range(3))
        if name in ("make", "ring"):
            # The kind itself, and not what is there when it runs.
            third = finalized if draw.random() < 0.15 else draw.choice(chosen)
        operations.append((index, name, first, second, third))
    return operations


def text(operations):
    """A program for readers."""
    makers = list(kinds.MAKERS)
    lines = []
    for index, name, first, second, third in operations:
        kind = f" ({makers[third % len(makers)]})" if name in ("make", "ring") else ""
        lines.append(f"{index:4} {name} {first} {second} {third}{kind}")
    return "\n".join(lines)
