"""Where the figures of a page come from: date, command, commit, disturbance, interpreter and machine, in words and tables."""

from wording import code, listed, table


def line(part):
    """When, by which command, and from which commit a part's figures come."""
    others, stolen = part["disturbance"]["others"], part["disturbance"]["stolen"]
    return (
        f"<sub>{part['date']}, heapkeeper {part['heapkeeper'] or '(not installed)'} at commit {part['commit']}, "
        f"`{part['command']}`, {part['duration_s']:.0f} s; of the processors' time meanwhile, {others * 100:.1f} % went to "
        f"other processes and {stolen * 100:.1f} % to other machines.</sub>"
    )


def of_parts(measured):
    """When and by which command the parts of a record were measured, then the machines."""
    runs = {}
    for name, part in measured.items():
        runs.setdefault((part["commit"], part["command"]), {})[name] = part
    lines = []
    for parts in runs.values():
        spent_s = sum(part["duration_s"] for part in parts.values())
        weighted = {
            who: sum(part["disturbance"][who] * part["duration_s"] for part in parts.values()) / max(spent_s, 1e-9)
            for who in ("others", "stolen")
        }
        first = min(parts.values(), key=lambda part: part["date"])
        rounds = sorted({part["result"]["rounds"] for part in parts.values()})
        which = "" if len(runs) == 1 else f" {listed([code(name) for name in parts])}."
        told = line({**first, "duration_s": spent_s, "disturbance": weighted})
        lines.append(told.removesuffix("</sub>") + f" Rounds: {listed([str(count) for count in rounds])}.{which}</sub>")
    tables = list(dict.fromkeys(table(["", ""], machine_rows(part)) for part in measured.values()))
    return ["\n".join(lines), *tables]


def interpreter(about):
    """An interpreter in one line."""
    linked = "shared library" if about["shared"] else "static"
    built = "with" if about["optimized"] else "without"
    name = f"{about['implementation']} {about['version']}, {about['compiler']}"
    return f"{name}, {linked}, built {built} --enable-optimizations" if about["implementation"] == "CPython" else name


def machine_rows(part):
    """A machine and the versions on it."""
    machine = part["machine"]
    virtual = " of a virtual machine" if machine["virtual"] else ""
    return [
        ["processor", f"{machine['cpu']}, {machine['cores']} cores{virtual}"],
        ["memory", f"{machine['memory_gib']} GiB"],
        ["system", f"{machine['system']}, {machine['kernel']}"],
        ["transparent huge pages", code(machine["huge_pages"])],
        ["glibc", machine["glibc"]],
        *([name, version or "not installed"] for name, version in part["versions"].items()),
    ]
