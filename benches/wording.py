"""The shapes of text on a benchmark page: tables, bars, and how a ratio, a share or a size is written."""

import figures

BAR_WIDTH = 24  # characters for a ratio of 1


def table(head, rows):
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def times(ratio, digits=2):
    """A ratio: `1.27×`."""
    return "–" if ratio is None else f"{ratio:.{digits}f}×"


def share(ratio):
    """A share of the baseline's memory: `98 %`."""
    return "–" if ratio is None else f"{ratio * 100:.0f} %"


def percent(change):
    """A change with its sign: `+0.42 %`."""
    return f"{change * 100:+.2f} %"


def mib(value):
    """MiB, whole from ten on."""
    return f"{value:.0f} MiB" if value >= 10 else f"{value:.1f} MiB"


def size(count_bytes):
    """Bytes in decimal units, as files are named: `1.0 MB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count_bytes >= scale:
            return f"{count_bytes / scale:.{1 if count_bytes < 100 * scale else 0}f} {unit}"
    return f"{count_bytes:.0f} B"


def mean_of(ratios):
    """The geometric mean as a ratio, or a dash for none."""
    return times(figures.geometric_mean(ratios), 3) if ratios else "–"


def bar(ratio):
    """A bar of `BAR_WIDTH` characters for a ratio of 1, to an eighth of a character."""
    eighths = round(ratio * BAR_WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def code(text):
    """Text as code."""
    return f"`{text}`"


def plain(label):
    """A label without Markdown's marks."""
    return label.replace("`", "")


def listed(words):
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
