"""Stacks as a program might leave them, made up: a service, the same service later, and crowds of distinct stacks.

docs/pictures/make.sh draws the first two: `python tests/flame/generated.py [difference]` prints them as JSON.
"""

import json
import random
import sys

PACKAGES = "/srv/shop/.venv/lib/python3.12/site-packages"
STANDARD = "/usr/lib/python3.12"

# Caller, callee: function, file, line.
MAIN = ("<module>", "/srv/shop/app.py", 112)
SERVE = ("serve", "/srv/shop/app.py", 88)
HANDLE = ("Application.handle", f"{PACKAGES}/web/application.py", 214)
DISPATCH = ("Application.dispatch", f"{PACKAGES}/web/application.py", 167)
LOAD = ("load_catalogue", "/srv/shop/catalogue.py", 31)
ROWS = ("Catalogue.rows", "/srv/shop/catalogue.py", 57)
DECODE = ("JSONDecoder.raw_decode", f"{STANDARD}/json/decoder.py", 353)
LOADS = ("loads", f"{STANDARD}/json/__init__.py", 346)
SESSION = ("Sessions.remember", "/srv/shop/sessions.py", 44)
BASKET = ("Basket.add", "/srv/shop/basket.py", 19)
RENDER = ("Template.render", f"{PACKAGES}/templates/template.py", 702)
PARSE = ("Parser.parse", f"{PACKAGES}/templates/parser.py", 90)
IMPORT = ("_call_with_frames_removed", "<frozen importlib._bootstrap>", 488)
THREAD = ("Thread._bootstrap", f"{STANDARD}/threading.py", 1030)
WORK = ("Worker.run", "/srv/shop/worker.py", 25)
THUMBNAIL = ("thumbnail", "/srv/shop/pictures.py", 73)
RESIZE = ("Image.resize", f"{PACKAGES}/pictures/image.py", 2200)

MIB = 1 << 20


def stack(bytes_, blocks, *frames, thread="MainThread", truncated=False):
    """One entry; the frames come outermost first, as people tell them."""
    named = [{"function": function, "file": file, "line": line, "source": None} for function, file, line in frames]
    return {"frames": named[::-1], "truncated": truncated, "thread": thread, "bytes": bytes_, "blocks": blocks}


def service():
    """A web service at its peak."""
    request = (MAIN, SERVE, HANDLE, DISPATCH)
    entries = [
        stack(96 * MIB, 820_000, MAIN, LOAD, ROWS, LOADS, DECODE),
        stack(41 * MIB, 310_000, MAIN, LOAD, ROWS),
        stack(9 * MIB, 1_200, MAIN, LOAD),
        stack(72 * MIB, 240_000, *request, ("basket", "/srv/shop/views.py", 51), BASKET, SESSION),
        stack(18 * MIB, 88_000, *request, ("basket", "/srv/shop/views.py", 49), BASKET),
        stack(22 * MIB, 61_000, *request, ("front", "/srv/shop/views.py", 20), RENDER, PARSE),
        stack(14 * MIB, 9_000, *request, ("front", "/srv/shop/views.py", 22), RENDER),
        stack(
            12 * MIB, 70_000, *request, ("search", "/srv/shop/views.py", 77), ("Index.find", "/srv/shop/search.py", 140)
        ),
        stack(33 * MIB, 410, THREAD, WORK, THUMBNAIL, RESIZE, thread="worker-1"),
        stack(29 * MIB, 380, THREAD, WORK, THUMBNAIL, RESIZE, thread="worker-2"),
        stack(5 * MIB, 4, thread="worker-2"),
        stack(3 * MIB, 12_000, ("deep", "/srv/shop/tree.py", 9), truncated=True),
    ]
    chance = random.Random(5)
    for module in range(40):
        frames = [
            MAIN,
            *([IMPORT] * chance.randint(1, 4)),
            ("<module>", f"{PACKAGES}/lib{module}/__init__.py", 1 + module),
        ]
        entries.append(stack(chance.randint(40_000, 900_000), chance.randint(400, 9000), *frames))
    return {"title": "shop/app.py · live at the peak", "entries": entries}


def service_later():
    """The same service after an hour: sessions leak, the catalogue is smaller, thumbnails are gone, an index is new."""
    later = service()
    later["title"] = "shop/app.py · an hour later"
    kept = []
    for entry in later["entries"]:
        functions = {frame["function"] for frame in entry["frames"]}
        if "thumbnail" in functions:
            continue
        if "Sessions.remember" in functions:
            entry["bytes"], entry["blocks"] = entry["bytes"] * 3, entry["blocks"] * 3
        elif "load_catalogue" in functions:
            entry["bytes"], entry["blocks"] = entry["bytes"] * 2 // 3, entry["blocks"] * 2 // 3
        kept.append(entry)
    kept.append(stack(64 * MIB, 500_000, MAIN, SERVE, ("Index.rebuild", "/srv/shop/search.py", 60)))
    return {**later, "entries": kept}


def crowd(stacks, depth, seed=1):
    """Distinct stacks that share frames as those of a large program do."""
    chance = random.Random(seed)
    functions = [
        (f"Class{n % 97}.method_{n}", f"/srv/large/part{n % 41}/module{n % 307}.py", 1 + n % 900) for n in range(4000)
    ]
    entries = []
    for number in range(stacks):
        frames = [MAIN]
        here = number % 7
        for _ in range(depth - 2):
            here = (here * 31 + chance.choice((1, 1, 1, 2, 3))) % len(functions)
            frames.append(functions[here])
        frames.append((f"leaf_{number}", "/srv/large/leaves.py", 1 + number))
        size = int(chance.paretovariate(1.1) * 1000)
        entries.append(stack(size, 1 + size // 700, *frames, thread=f"worker-{number % 12}"))
    return {"title": f"{stacks:,} stacks", "entries": entries}


if __name__ == "__main__":
    json.dump([service(), service_later()] if sys.argv[1:] == ["difference"] else service(), sys.stdout)
