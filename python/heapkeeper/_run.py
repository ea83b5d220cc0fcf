"""`heapkeeper run`: turns its options into HEAPKEEPER and becomes the same interpreter, running the program.

`exec` keeps the process: descriptors, working folder, signal dispositions and pid. That makes sys.argv, sys.path[0],
__main__, tracebacks and exit status python's own by construction; heapkeeper.pth then installs the heap.
What the interpreter changed in this process before we got here, its successor must not inherit: see `_exec`.
"""

import _signal  # `signal` would import enum: 1.5 ms.
import os
import sys

from heapkeeper import SettingsError, _interpreter, _settings, cli

_COMMAND = "heapkeeper run"

_HELP = """\
usage: heapkeeper run [options] SCRIPT [ARG ...] | -m MODULE | -c CODE

Runs a Python program on heapkeeper's heap. Everything else is python's own: arguments, standard input,
tracebacks, signals, exit status. Python processes that the program starts come along. When the program
ends, a report on standard error says where its memory went.

the program:
  SCRIPT            a file, a folder or zip archive with a __main__.py, or - for standard input
  -m MODULE         a module, as `python -m` finds it
  -c CODE           the code itself
What follows belongs to the program, options too.

options:
  --max-heap SIZE   hard limit of the heap of each process: MemoryError beyond it       (default: none)
  --profile MODE    sample: learn which lines allocate, by sampling; exact: count     (default: sample)
                    every allocation, with whole stacks; off: neither
  --sample-bytes N  mean distance between two samples: smaller sees more, costs more    (default: 512K)
  --allocator NAME  heapkeeper, or cpython to compare with                              (default: heapkeeper)
  --gc MODE         who does full collections of cycles: heapkeeper; background:     (default: heapkeeper)
                    the same, but a forked child searches large heaps while the program runs on; cpython;
                    or verify: CPython, and one line where ours differs
  -o, --output FILE write a capture, for `heapkeeper report`; %p in the name is the pid. Python processes that
                    the program starts write one each, with their pid in the name.       (default: none)
  -f, --force       overwrite FILE
  --at-heap SIZE    when the heap of a process holds so much, write its state at once, marked in the capture;
                    where none is being written, one begins: heapkeeper-PROGRAM.PID.hk   (default: none)
  --on-limit capture
                    the same when memory is refused, at --max-heap or by the system      (default: none)
  --socket PATH     answer on a unix socket, for `heapkeeper control`; %p in the name is the pid
  --as-tracemalloc  `import tracemalloc` gives heapkeeper.tracemalloc: the same interface, much faster
  --json            the report as one JSON object
  -q, --quiet       no report
  -h, --help        show this help
A SIZE is bytes or a number with K, M, G or T: 4096, 512K, 64M, 1.5G.

examples:
  heapkeeper run app.py --port 8000
  heapkeeper run --max-heap 512M -m pytest tests
  heapkeeper run --json app.py 2>memory.json
  heapkeeper run --profile exact -o app.hk app.py; heapkeeper report app.hk
  heapkeeper run -q -c 'import heapkeeper; print(heapkeeper.where([]))'
  python -X dev -m heapkeeper run app.py         with flags for the interpreter

environment:
  HEAPKEEPER        what `run` sets for the program, and each Python process reads when it starts.
                    HEAPKEEPER=1 puts any command's Python processes on the heap, without a report.
"""

# What CPython sets LC_CTYPE to when it coerces the C locale (PEP 538; Python/pylifecycle.c, _TARGET_LOCALES).
_COERCED_LOCALES = ("C.UTF-8", "C.utf8", "UTF-8")


def main(arguments):
    """Run the verb. Returns an exit status; with a program to run it does not return."""
    # Python's own handler is lost in the exec, and with it a Ctrl-C that it has noted but not yet raised.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        settings, target = _read(arguments)
    except SettingsError as error:
        return cli.usage_error(_COMMAND, str(error), "heapkeeper run --help")
    if target is None:
        print(_HELP, end="", file=cli.output())
        return 0
    problem = _site_problem()
    if problem is not None:
        print(f"{_COMMAND}: {problem}", file=sys.stderr)
        return 1
    return _exec(settings, target)


def _read(arguments):
    """Settings, and the interpreter's arguments from the program on; None in their place asks for help."""
    settings = _inherited()
    quiet = False
    force = False
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-" and not rest[0].startswith(("-m", "-c")):
        option, equals, value = rest.pop(0).partition("=")
        if option == "--":
            if rest and rest[0].startswith("-"):  # A script of such a name is no option to the interpreter either.
                rest.insert(0, "--")
            break
        if option in _FLAGS and equals:
            raise SettingsError(f"{option} takes no value")
        if option in ("-h", "--help"):
            return settings, None
        if option in ("-q", "--quiet"):
            quiet = True
        elif option in ("-f", "--force"):
            force = True
        elif option == "--json":
            settings.json = True
        elif option == "--as-tracemalloc":
            settings.as_tracemalloc = True
        elif option in _VALUES:
            if not equals and not rest:
                raise SettingsError(f"{option} needs a value")
            attribute, read = _VALUES[option]
            try:
                setattr(settings, attribute, read(value if equals else rest.pop(0)))
            except SettingsError as error:
                raise SettingsError(f"{option}: {error}") from None
        else:
            raise SettingsError(f"unknown option {option}")
    if not rest:
        raise SettingsError("no program given, a script, -m MODULE or -c CODE")
    if rest in (["-m"], ["-c"]):
        raise SettingsError(f"{rest[0]} needs {'a module' if rest[0] == '-m' else 'code'}")
    if quiet and settings.json:
        raise SettingsError("-q and --json contradict each other")
    if _is_absent(rest) and not settings.json:
        settings.output, quiet = None, True
    settings.report = None if quiet else os.getpid()
    if settings.profile == "off" or settings.allocator == "cpython":
        for option, value in (("--at-heap", settings.at_heap), ("--on-limit", settings.on_limit)):
            if value is not None:
                raise SettingsError(f"{option}: a capture needs our heap and a profile")
    if not _settings.at_heap_comes_first(settings):
        raise SettingsError("--at-heap: the heap never holds so much, --max-heap comes before")
    if settings.output is not None:
        _make_room(settings, force)
    return settings, rest


def _is_absent(target):
    """Whether the program is a file that is not there: python says so, and there is nothing to tell of its memory."""
    if target[0] == "--":
        return not os.path.exists(target[1])
    return not target[0].startswith("-") and not os.path.exists(target[0])


def _make_room(settings, force):
    """See to it that the capture can be a new file. Raises SettingsError."""
    if settings.profile == "off" or settings.allocator == "cpython":
        raise SettingsError("-o: a capture needs our heap and a profile")
    path = settings.output.replace("%p", str(os.getpid()))
    if not os.path.isdir(os.path.dirname(path)):
        raise SettingsError(f"-o: there is no folder {os.path.dirname(path)}")
    if os.path.lexists(path):
        if not force:
            raise SettingsError(f"-o: {path} exists; -f overwrites it")
        from heapkeeper import _files

        try:
            _files.make_room(path)
        except OSError as error:
            raise SettingsError(f"-o: {path}: {error.strerror}") from None


_FLAGS = ("-f", "--force", "-h", "--help", "-q", "--quiet", "--json", "--as-tracemalloc")

# Option: the setting it gives, and how its value is read.
_VALUES = {
    "--profile": ("profile", lambda value: _settings.choice(value, _settings.PROFILES)),
    "--sample-bytes": ("sample_bytes", _settings.positive_size),
    "--allocator": ("allocator", lambda value: _settings.choice(value, _settings.ALLOCATORS)),
    "--gc": ("gc", lambda value: _settings.choice(value, _settings.COLLECTORS)),
    "--max-heap": ("max_heap", _settings.heap_limit),
    "--at-heap": ("at_heap", _settings.positive_size),
    "--on-limit": ("on_limit", lambda value: _settings.choice(value, _settings.ON_LIMIT)),
    "--socket": ("socket", _settings.socket),
    "--output": ("output", _settings.output),
    "-o": ("output", _settings.output),
}


def _inherited():
    """What HEAPKEEPER asks for already; options change it. Its report is another process's."""
    try:
        settings = _settings.parse(os.environ.get("HEAPKEEPER", ""))
    except SettingsError as error:
        raise SettingsError(f"HEAPKEEPER: {error}") from None
    settings.on = True
    settings.json = False
    return settings


def _site_problem():
    """Why an interpreter started like this one would not read heapkeeper.pth, or None."""
    if sys.flags.no_site:
        return "python -S reads no .pth files, and heapkeeper.pth is what starts the heap; run without -S"
    import site

    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    file = os.path.join(folder, "heapkeeper.pth")
    install = f"install heapkeeper into this Python: {sys.executable} -m pip install heapkeeper"
    if not os.path.isfile(file):
        return f"no {file}, which starts the heap; {install}"
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    if not any(os.path.isdir(known) and os.path.samefile(known, folder) for known in folders):
        return f"this Python reads no .pth files in {folder}; {install}"
    return None


def _exec(settings, target):
    """Become the program. Returns an exit status only if that fails."""
    os.environ["HEAPKEEPER"] = _settings.compose(settings)
    _undo_locale_coercion()
    try:
        os.execv(sys.executable, [sys.executable, *_interpreter.flags(), *target])
    except OSError as error:
        print(f"{_COMMAND}: {sys.executable or 'sys.executable'}: {error.strerror}", file=sys.stderr)
    return 1


def _undo_locale_coercion():
    """In the C locale, CPython has changed LC_CTYPE in its own environment: give the program the original.

    Left there, it would keep the next interpreter out of UTF-8 mode. The kernel still has what we were started with.
    """
    if os.environ.get("LC_CTYPE") not in _COERCED_LOCALES:
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return
    values = [entry[len(b"LC_CTYPE=") :] for entry in entries if entry.startswith(b"LC_CTYPE=")]
    if values:
        os.environb[b"LC_CTYPE"] = values[0]
    else:
        del os.environ["LC_CTYPE"]
