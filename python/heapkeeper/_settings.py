"""What a process is asked to do: the grammar of the environment variable HEAPKEEPER.

    HEAPKEEPER = "1" | "on" | "0" | "off" | "" | ITEM ("," ITEM)*
    ITEM       = "profile=" ("sample" | "exact" | "off")   default sample; exact counts every allocation
               | "sample-bytes=" SIZE               mean distance between samples, default 512K
               | "max-heap=" SIZE                   hard limit, 8M at least, default none
               | "allocator=" ("heapkeeper" | "cpython")
               | "gc=" ("heapkeeper" | "background" | "cpython" | "verify")   who does full collections, default heapkeeper
               | "report" | "report=" PID           report at exit: in every process, or in that one; os._exit gives none
               | "json"                             the report as one JSON object
               | "seed=" N                          of the sampler, default random
               | "as-tracemalloc"                   `import tracemalloc` gives heapkeeper.tracemalloc
               | "output=" PATH                     write a capture; %p is the pid, PATH holds no comma
               | "at-heap=" SIZE                    mark the capture when the heap holds so much; begin one if there is none
               | "on-limit=capture"                 the same when memory is refused: at max-heap, or by the system
               | "socket=" PATH                     answer on a unix socket; %p is the pid, PATH holds no comma
               | "log=" PATH                        a line for each process that comes along; PATH holds no comma
    SIZE       = a number and a unit of 1024s: 4096, 512K, 64M, 64MiB, 1.5G

`heapkeeper run` writes the variable with `compose`, every child interpreter reads it with `parse`, and for each
settings s: parse(compose(s)) == s. Errors are a SettingsError of one line.
"""

from heapkeeper._errors import SettingsError

PROFILES = ("sample", "exact", "off")
ALLOCATORS = ("heapkeeper", "cpython")
COLLECTORS = ("heapkeeper", "background", "cpython", "verify")
ON_LIMIT = ("capture",)
DEFAULT_SAMPLE_BYTES = 512 * 1024
EXACT_SAMPLE_BYTES = 64 * 1024

# An interpreter that has just started needs 0.8 MiB (3.12): less would kill the program before its first line.
MIN_HEAP_LIMIT_BYTES = 8 * 2**20

# Linux's sockaddr_un has room for so many.
MAX_SOCKET_BYTES = 107

# The value of Settings.report that stands for every process; a positive one is a pid.
EVERY_PROCESS = 0

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_MAX_SIZE_BYTES = 2**63 - 1
_MAX_SEED = 2**64 - 1


class Settings:
    """One process's settings. Units are in the grammar above."""

    __slots__ = (
        "allocator",
        "as_tracemalloc",
        "at_heap",
        "gc",
        "json",
        "log",
        "max_heap",
        "on",
        "on_limit",
        "output",
        "profile",
        "report",
        "sample_bytes",
        "seed",
        "socket",
    )

    def __init__(self):
        self.on = True
        self.profile = "sample"
        self.sample_bytes = DEFAULT_SAMPLE_BYTES
        self.max_heap = None
        self.allocator = "heapkeeper"
        self.gc = None  # ours where the heap is, and no word where it is not
        self.report = None
        self.json = False
        self.seed = None
        self.log = None
        self.output = None
        self.as_tracemalloc = False
        self.at_heap = None
        self.on_limit = None
        self.socket = None

    def __eq__(self, other):
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self):
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def size(text):
    """Bytes of a SIZE. Raises SettingsError."""
    number = text.rstrip("KMGTIBkmgtib")
    unit = text[len(number) :].upper()
    unit = unit.removesuffix("IB" if len(unit) == 3 else "B")
    whole, dot, fraction = number.partition(".")
    digits = whole + fraction
    if (
        unit not in _UNITS
        or not (whole and digits.isascii() and digits.isdecimal())
        or (dot and not (fraction and unit))
    ):
        raise SettingsError(f"{text!r} is not a size; write bytes, or a number with K, M, G or T: 4096, 64M, 1.5G")
    # Long digit strings would make int() quadratic, and no size needs them.
    size_bytes = (int(digits) << _UNITS[unit]) // 10 ** len(fraction) if len(digits) <= 40 else _MAX_SIZE_BYTES + 1
    if size_bytes > _MAX_SIZE_BYTES:
        raise SettingsError(f"{text!r} is more memory than a process can address")
    return size_bytes


def positive_size(value):
    """Bytes of a SIZE, given as an int or as text, above zero. Raises SettingsError."""
    size_bytes = size(str(value))
    if size_bytes == 0:
        raise SettingsError(f"{value!r} is no use here: the size must be above 0")
    return size_bytes


def heap_limit(value):
    """Bytes of a SIZE, given as an int or as text, that an interpreter can live on. Raises SettingsError."""
    limit_bytes = positive_size(value)
    if limit_bytes < MIN_HEAP_LIMIT_BYTES:
        raise SettingsError(f"{value!r} is less than an interpreter needs to start; 8M at least")
    return limit_bytes


def choice(value, choices):
    """The value, if it is one of the choices. Raises SettingsError."""
    if value not in choices:
        raise SettingsError(f"{value!r} is not one of {', '.join(choices)}")
    return value


def output(text):
    """The path of a capture, made absolute. Raises SettingsError."""
    return _path(text, "a capture")


def socket(text):
    """The path of a socket, made absolute. Raises SettingsError."""
    path = _path(text, "a socket")
    if len(path.encode(errors="surrogateescape")) > MAX_SOCKET_BYTES:
        raise SettingsError(f"{path!r} cannot be a socket's name: it has more than {MAX_SOCKET_BYTES} bytes")
    return path


def _path(text, what):
    if not text or "," in text:
        raise SettingsError(f"{text!r} cannot be {what}'s name: it is empty or holds a comma")
    import os

    try:
        return os.path.abspath(text)
    except FileNotFoundError:
        raise SettingsError(f"{text!r} cannot be {what}'s name: it is relative to a folder that is gone") from None


def seed(text):
    """A sampler's seed: 1 to 2⁶⁴−1, as 0 stands for a random one. Raises SettingsError."""
    return _number(text, _MAX_SEED)


def parse(text):
    """Settings of a HEAPKEEPER value. Raises SettingsError."""
    settings = Settings()
    if text in ("", "0", "off"):
        settings.on = False
    elif text not in ("1", "on"):
        for item in text.split(","):
            _parse_item(settings, item)
        if not at_heap_comes_first(settings):
            raise SettingsError(f"at-heap={settings.at_heap}: max-heap={settings.max_heap} comes before")
    return settings


def at_heap_comes_first(settings):
    """Whether a heap that grows comes to `at_heap` before the limit stops it."""
    return settings.max_heap is None or settings.at_heap is None or settings.at_heap <= settings.max_heap


def _parse_item(settings, item):
    key, equals, value = item.partition("=")
    if key in ("on", "1", "json", "as-tracemalloc") and not equals:
        settings.json |= key == "json"
        settings.as_tracemalloc |= key == "as-tracemalloc"
    elif key == "report":
        settings.report = _in_item(item, _number, value, 2**31 - 1) if equals else EVERY_PROCESS
    elif key == "log" and value:
        settings.log = value
    elif key == "output" and value:
        settings.output = value
    elif key == "socket" and value:
        settings.socket = _in_item(item, socket, value)
    elif key == "at-heap":
        settings.at_heap = _in_item(item, positive_size, value)
    elif key == "on-limit":
        settings.on_limit = _in_item(item, choice, value, ON_LIMIT)
    elif key == "profile":
        settings.profile = _in_item(item, choice, value, PROFILES)
    elif key == "allocator":
        settings.allocator = _in_item(item, choice, value, ALLOCATORS)
    elif key == "gc":
        settings.gc = _in_item(item, choice, value, COLLECTORS)
    elif key == "sample-bytes":
        settings.sample_bytes = _in_item(item, positive_size, value)
    elif key == "max-heap":
        settings.max_heap = _in_item(item, heap_limit, value)
    elif key == "seed":
        settings.seed = _in_item(item, seed, value)
    else:
        raise SettingsError(
            f"{item!r} is none of 1, 0, profile=, sample-bytes=, max-heap=, allocator=, gc=, report, json, seed=, log=, output=, at-heap=, on-limit=, socket=, as-tracemalloc"
        )


def _in_item(item, read, *arguments):
    try:
        return read(*arguments)
    except SettingsError as error:
        raise SettingsError(f"{item}: {error}") from None


def _number(text, largest):
    if not (text.isascii() and text.isdecimal() and len(text) <= 20 and 0 < int(text) <= largest):
        raise SettingsError(f"{text!r} is not a whole number from 1 to {largest}")
    return int(text)


def compose(settings):
    """The HEAPKEEPER value of these settings; what is at its default is left out."""
    if not settings.on:
        return "off"
    items = []
    if settings.report is not None:
        items.append("report" if settings.report == EVERY_PROCESS else f"report={settings.report}")
    if settings.json:
        items.append("json")
    if settings.profile != "sample":
        items.append(f"profile={settings.profile}")
    if settings.sample_bytes != DEFAULT_SAMPLE_BYTES:
        items.append(f"sample-bytes={settings.sample_bytes}")
    if settings.max_heap is not None:
        items.append(f"max-heap={settings.max_heap}")
    if settings.allocator != "heapkeeper":
        items.append(f"allocator={settings.allocator}")
    if settings.gc is not None:
        items.append(f"gc={settings.gc}")
    if settings.seed is not None:
        items.append(f"seed={settings.seed}")
    if settings.log is not None:
        items.append(f"log={settings.log}")
    if settings.output is not None:
        items.append(f"output={settings.output}")
    if settings.at_heap is not None:
        items.append(f"at-heap={settings.at_heap}")
    if settings.on_limit is not None:
        items.append(f"on-limit={settings.on_limit}")
    if settings.socket is not None:
        items.append(f"socket={settings.socket}")
    if settings.as_tracemalloc:
        items.append("as-tracemalloc")
    return ",".join(items) or "on"


def install(settings):
    """Put this process on our heap. Returns None, or in one line why CPython's allocator stays."""
    try:
        from heapkeeper import _native
    except ImportError as error:
        return str(error)
    if settings.max_heap is not None:
        from heapkeeper import _api

        _api.get_ready_for_the_limit()
    reason = _native.install(_distance(settings), settings.max_heap or 0, settings.seed or 0)
    if reason is None and settings.profile == "exact":
        reason = _native.exact_start(0)
    return reason


def _distance(settings):
    """Mean distance between samples; 0 for none. Beside exact counts, samples tell how long blocks live."""
    if settings.profile == "off":
        return 0
    if settings.profile == "exact" and settings.sample_bytes == DEFAULT_SAMPLE_BYTES:
        return EXACT_SAMPLE_BYTES
    return settings.sample_bytes


# Who does this interpreter's full collections, as far as somebody said so.
_collector = COLLECTORS[0]


def install_collector(settings):
    """Give this interpreter's full collections to whom the settings say; each interpreter of a process does so for itself.

    Returns None, or in one line why CPython's collector stays though ours was asked for.
    """
    try:
        from heapkeeper import _native
    except ImportError as error:
        return str(error) if _asks_for_ours(settings) else None
    if not _native.installed():
        return "ours works on our heap only" if _asks_for_ours(settings) else None
    global _collector
    _collector = settings.gc or _collector
    return _native.gc_install(_collector)


def _asks_for_ours(settings):
    return settings.gc not in (None, "cpython")
