"""The memory of tests, for `pytest --heapkeeper`: measures each, keeps limits, prints the largest.

What is measured is the test's own function, without its fixtures. Figures travel with the test's report, as plain data, so
that they come from pytest-xdist's workers too. Registered by `pytest_plugin`.
"""

import inspect
import sys
import warnings

import _pytest.doctest
import _pytest.python
import _pytest.unittest
import pytest

import heapkeeper
from heapkeeper import _leak, _settings, leak
from heapkeeper._wording import place_text, size_text
from heapkeeper.tracker import Tracker

# Of each test, so many stacks are shown, if they hold so much of its peak.
_SITES = 3
_SHARE = 0.1
_SITES_OF_FAILURE = 10

_LEAK_CALLS = 20
_LEAK_WARM_UPS = 3

# The attribute of a report that holds a test's figures.
_FIGURES = "heapkeeper"

# Fixtures that keep what a test prints.
_CAPTURES = ("capsys", "capsysbinary", "capfd", "capfdbinary")

# Where the stack of a test's function is pytest's.
_CALLERS = tuple(inspect.getfile(module) for module in (_pytest.python, _pytest.unittest, _pytest.doctest))

_FIGURES_KEY = pytest.StashKey[dict]()


class Memory:
    """The plugin, where it is asked for."""

    def __init__(self, config):
        self._top = config.getoption("heapkeeper_top")
        self._tests = []
        self._repeating = False
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self._measures = heapkeeper.install()
        self._reason = str(caught[-1].message) if caught and not self._measures else None

    # The last of the wrappers is the nearest to the test's function.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        if not self._measures or self._repeating or not _is_plain(pyfuncitem):
            return (yield)
        return (
            yield from self._measured(pyfuncitem, lambda: pyfuncitem.ihook.pytest_pyfunc_call(pyfuncitem=pyfuncitem))
        )

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item):
        if not self._measures or _is_plain(item):
            return (yield)
        return (yield from self._measured(item, item.runtest))

    def _measured(self, item, again):
        """A wrapper's body: measure the test, then keep its limits. again: calls the test once more."""
        limit_bytes, leaks = _limits(item)
        tracker = Tracker()
        try:
            with tracker:
                result = yield
        finally:
            item.stash[_FIGURES_KEY] = _figures(tracker)
        if limit_bytes is not None and tracker.peak_bytes > limit_bytes:
            pytest.fail(_too_large(tracker, limit_bytes), pytrace=False)
        if leaks is not None:
            self._check_leaks(item, again, **leaks)
        return result

    def _check_leaks(self, item, again, limit_bytes, calls, warm_up):
        kept = _Kept(item)

        def call():
            again()
            kept.forget()

        self._repeating = True
        try:
            with kept:
                answer = leak.measure(call, calls, warm_up)
        finally:
            self._repeating = False
        if answer.interrupted:
            raise KeyboardInterrupt
        if answer.grows and answer.total.per_call > limit_bytes:
            grown = (
                f"Memory grows by {_leak.growth_text(answer.total)}, more than the limit of {size_text(limit_bytes)}:"
            )
            pytest.fail("\n".join([grown, *_leak.describe(answer.lines, _CALLERS)]), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if call.when == "call" and _FIGURES_KEY in item.stash:
            setattr(report, _FIGURES, item.stash[_FIGURES_KEY])
        return report

    def pytest_runtest_logreport(self, report):
        if hasattr(report, _FIGURES):
            self._tests.append((getattr(report, _FIGURES), report.duration, report.nodeid))

    def pytest_terminal_summary(self, terminalreporter):
        if self._reason is not None:
            terminalreporter.section("memory")
            terminalreporter.write_line(f"heapkeeper measured nothing: {self._reason}")
        if not self._tests:
            return
        tests = sorted(self._tests, key=lambda test: (-test[0]["peak_bytes"], test[2]))
        shown = tests[: self._top] if self._top else tests
        counted = "1 test" if len(tests) == 1 else f"{len(tests)} tests"
        terminalreporter.section(
            f"memory: the largest of {counted}" if len(shown) < len(tests) else f"memory: {counted}"
        )
        row = "{:>10}  {:>10}  {:>11}  {:>8}  {}"
        terminalreporter.write_line(row.format("peak", "allocated", "allocations", "time", "test"))
        for figures, duration, name in shown:
            sizes = [size_text(figures[key]) for key in ("peak_bytes", "allocated_bytes")]
            blocks = f"{figures['allocated_blocks']:,}"
            terminalreporter.write_line(row.format(*sizes, blocks, f"{duration:.2f} s", name))
            for site in figures["sites"]:
                terminalreporter.write_line(f"{'':10}  {size_text(site['bytes']):>10}  {site['place']}")


def _is_plain(item):
    """Whether pytest_pyfunc_call is what runs an item."""
    return isinstance(item, pytest.Function) and not isinstance(item, _pytest.unittest.TestCaseFunction)


def _limits(item):
    """Bytes that a test may have live at once, and how it is searched for leaks; None where nobody said so."""
    limit_bytes = leaks = None
    marker = item.get_closest_marker("limit_memory")
    if marker is not None:
        limit_bytes = _marked(marker, _read_limit_memory)
    marker = item.get_closest_marker("limit_leaks")
    if marker is not None:
        leaks = _marked(marker, _read_limit_leaks)
    return limit_bytes, leaks


def _marked(marker, read):
    try:
        return read(*marker.args, **marker.kwargs)
    except (TypeError, ValueError) as error:
        pytest.fail(f"{marker.name}: {str(error).removeprefix(f'{read.__name__}() ')}", pytrace=False)


def _read_limit_memory(size):
    return _size(size)


def _read_limit_leaks(size, *, calls=_LEAK_CALLS, warmups=_LEAK_WARM_UPS):
    if calls < leak.MIN_TIMES:
        raise ValueError(f"calls={calls} are too few to tell; {leak.MIN_TIMES} at least")
    return {"limit_bytes": _size(size), "calls": calls, "warm_up": warmups}


def _size(size):
    """Bytes of "24 MB", where K, M, G are 1024s as everywhere in heapkeeper, or of a number."""
    return _settings.size(str(size).replace(" ", ""))


def _figures(tracker):
    """A test's figures as plain data."""
    sites = [site for site in tracker.sites("peak", top=_SITES) if site.bytes >= _SHARE * tracker.peak_bytes]
    return {
        "peak_bytes": tracker.peak_bytes,
        "allocated_bytes": tracker.allocated_bytes,
        "allocated_blocks": tracker.allocated_blocks,
        "sites": [{"bytes": site.bytes, "place": place_text(site.frames)} for site in sites],
    }


def _too_large(tracker, limit_bytes):
    used = f"{size_text(tracker.peak_bytes)} were live at the peak, more than the limit of {size_text(limit_bytes)}:"
    rows = [used]
    for site in tracker.sites("peak", top=_SITES_OF_FAILURE):
        rows.append(
            f"  {size_text(site.bytes)} in {site.blocks:,} block{'s' * (site.blocks != 1)} from {place_text(site.frames)}"
        )
    return "\n".join(rows)


class _Kept:
    """What pytest keeps of a test: its output, logs and warnings. Over many calls that would be growth.

    A context in which calls are made; what was kept before it is there again after it.
    """

    def __init__(self, item):
        manager = item.config.pluginmanager
        logging = manager.get_plugin("logging-plugin")
        handlers = [getattr(logging, name, None) for name in ("caplog_handler", "report_handler")]
        self._clear = [handler.clear for handler in handlers if handler is not None]
        self._capture = manager.get_plugin("capturemanager")
        fixtures = [item.funcargs.get(name) for name in _CAPTURES] if hasattr(item, "funcargs") else []
        self._read = [fixture.readouterr for fixture in fixtures if fixture is not None]

    def __enter__(self):
        self._output = self._read_output()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *exception):
        self._warnings.__exit__(*exception)
        self._read_output()
        for stream, text in zip((sys.stdout, sys.stderr), self._output, strict=True):
            stream.write(text)

    def forget(self):
        """After each call."""
        for forget in (*self._clear, *self._read, self._read_output):
            forget()

    def _read_output(self):
        if self._capture is None or not self._capture.is_globally_capturing():
            return "", ""
        return self._capture.read_global_capture()
