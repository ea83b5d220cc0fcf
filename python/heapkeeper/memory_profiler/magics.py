"""The magics of IPython that memory_profiler has: %memit and %mprun."""

import builtins
import gc
import io

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.page import page

from heapkeeper.memory_profiler import usage
from heapkeeper.memory_profiler.lines import LineProfiler
from heapkeeper.memory_profiler.results import show_results

MIB = 2**20


class MemitResult:
    """What %memit measured: in MiB, the highest memory of each repetition, and the memory before the first."""

    def __init__(self, mem_usage, baseline, repeat, timeout, interval, include_children):
        self.mem_usage = mem_usage
        self.baseline = baseline
        self.repeat = repeat
        self.timeout = timeout
        self.interval = interval
        self.include_children = include_children

    def __str__(self):
        highest = max(self.mem_usage)
        return f"peak memory: {highest:.2f} MiB, increment: {highest - self.baseline:.2f} MiB"

    def _repr_pretty_(self, printer, cycle):
        printer.text(f"<MemitResult : {self}>")


@magics_class
class MemoryProfilerMagics(Magics):
    @line_cell_magic
    def memit(self, line="", cell=None):
        """Measure the memory of a statement: the peak of the process, and how far that is above its start.

        %memit [-r R -t T -i I -c -o -q] statement
        %%memit [-r R -t T -i I -c -o -q] setup
        code

        The setup is executed first, and not measured. The increment is what our heap held at most beyond its start, to
        the byte, with what grew outside it.

        -r R  repeat R times and give the highest (default: 1). -i I  seconds between two looks at memory outside our heap
        (default: 0.1). -c  child processes count as well. -o  return the result as an object. -q  print nothing.
        -t T  taken, and of no use, as the statement is executed once for each repetition.
        """
        options, statement = self.parse_options(line, "r:t:i:coq", posix=False, strict=False)
        setup = None
        if cell is not None:
            setup, statement = statement, cell
        repeat = max(1, int(getattr(options, "r", 1)))
        interval = float(getattr(options, "i", 0.1))
        timeout = int(getattr(options, "t", 0)) or None
        namespace = self.shell.user_ns
        if setup:
            exec(self._compiled(setup), namespace)
        code = self._compiled(statement)
        gc.collect()
        baseline = None
        highest = []
        for _ in range(repeat):
            record = usage.Record(max_usage=True)
            usage.call(record, exec, (code, namespace), interval=interval, include_children="c" in options)
            baseline = record.first_bytes / MIB if baseline is None else baseline
            # Each repetition starts from where the one before it left the process: what it added is what counts.
            highest.append(baseline + (record.largest_bytes - record.first_bytes) / MIB)
        result = MemitResult(highest, baseline, repeat, timeout, interval, "c" in options)
        if "q" not in options:
            print(result)
        return result if "o" in options else None

    def _compiled(self, statement):
        return compile(self.shell.transform_cell(statement), "<memit>", "exec")

    @line_cell_magic
    def mprun(self, line="", cell=None):
        """Execute a statement and show the memory of functions line by line.

        %mprun -f function [-f function ...] statement
        %%mprun -f function [-f function ...] [statement]
        code

        Functions may come from files and from cells. Inside the statement, `profile` decorates more of them.

        -f function  what to measure, as an expression. -T file  write the tables to a file as well. -r  return the
        LineProfiler. -c  child processes count as well.
        """
        options, statement = self.parse_options(line, "rf:T:c", list_all=True, posix=False)
        if cell is not None:
            statement += "\n" + cell
        shell = self.shell
        profiler = LineProfiler(include_children="c" in options)
        for name in options.get("f", []):
            try:
                function = eval(name, shell.user_global_ns, shell.user_ns)
            except Exception as error:
                raise UsageError(f"Could not find function {name!r}.\n{type(error).__name__}: {error}") from None
            profiler.add_function(function)
        message = self._run(profiler, shell.transform_cell(statement))
        text = io.StringIO()
        show_results(profiler, text)
        tables = text.getvalue().rstrip()
        page(tables)
        if message:
            print(message)
        for file in options.get("T", [])[:1]:
            with open(file, "w") as stream:
                stream.write(tables)
            print(f"\n*** Profile printout saved to text file {file}. {message}")
        return profiler if "r" in options else None

    def _run(self, profiler, statement):
        """Run a statement. Returns what is to be said of how it ended."""
        missing = object()
        before = getattr(builtins, "profile", missing)
        builtins.profile = profiler
        try:
            profiler.runctx(statement, self.shell.user_global_ns, self.shell.user_ns)
        except SystemExit:
            return "*** SystemExit exception caught in code being profiled."
        except KeyboardInterrupt:
            return "*** KeyboardInterrupt exception caught in code being profiled."
        finally:
            if before is missing:
                del builtins.profile
            else:
                builtins.profile = before
        return ""
