"""`%%heapkeeper` in IPython and Jupyter: what a cell allocates, and where.

Loaded by `%load_ext heapkeeper`, with %memit and %mprun of memory_profiler's interface.
"""

import ast
import html
import sys

from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.display import display

from heapkeeper._wording import place_text, size_text
from heapkeeper.tracker import Tracker

# Of the call sites, so many are shown, if they hold so much of the peak.
_TOP = 10
_SHARE = 0.001

_HEAD = ("at the peak", "blocks", "line", "allocated by")


def load(shell):
    """Register the magics."""
    from heapkeeper.memory_profiler.magics import MemoryProfilerMagics

    shell.register_magics(HeapkeeperMagics)
    shell.register_magics(MemoryProfilerMagics)


class CellMemory:
    """What a cell allocated: shown as a table, in HTML or as text.

    peak_bytes, live_bytes (what was not freed), allocated_bytes, allocated_blocks; sites: the stacks that held most at the
    peak, as of a Tracker.
    """

    def __init__(self, tracker, top, places):
        self.peak_bytes = tracker.peak_bytes
        self.live_bytes = tracker.live_bytes
        self.allocated_bytes = tracker.allocated_bytes
        self.allocated_blocks = tracker.allocated_blocks
        sites = tracker.sites("peak", top=top)
        self.sites = [site for site in sites if site.bytes >= _SHARE * self.peak_bytes]
        self._rows = [(size_text(site.bytes), f"{site.blocks:,}", *places(site.frames)) for site in self.sites]

    def _summary(self):
        growth = f"{size_text(self.live_bytes)} of it stayed" if self.live_bytes > 0 else "nothing stayed"
        total = f"{size_text(self.allocated_bytes)} in {self.allocated_blocks:,} allocations"
        return f"Peak {size_text(self.peak_bytes)}, {growth}; {total} in all."

    def __repr__(self):
        rows = [self._summary()]
        if self._rows:
            table = [_HEAD, *self._rows]
            rows += [f"{size:>12} {blocks:>9}  {cell:<10}  {place}".rstrip() for size, blocks, cell, place in table]
        return "\n".join(rows)

    def _repr_html_(self):
        head = "".join(f"<th>{title}</th>" for title in _HEAD)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in self._rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return f"<p>{html.escape(self._summary())}</p>{table}"


@magics_class
class HeapkeeperMagics(Magics):
    @line_cell_magic
    def heapkeeper(self, line="", cell=None):
        """Run a cell, and show its peak of memory, what stayed, and the lines that held most at the peak.

        %%heapkeeper [-n N]
        code

        %heapkeeper [-n N] statement

        -n N  show the N largest call sites (default: 10). -o  return the figures as an object. -q  show nothing.
        """
        options, statement = self.parse_options(line, "n:oq", posix=False, strict=False)
        body, last = self._compiled(statement if cell is None else cell)
        namespace = self.shell.user_ns
        value = error = None
        tracker = Tracker()
        with tracker:
            try:
                exec(body, namespace)
                if last is not None:
                    value = eval(last, namespace)
            except (Exception, KeyboardInterrupt):
                error = sys.exc_info()
        if value is not None:
            sys.displayhook(value)
        memory = CellMemory(tracker, int(getattr(options, "n", _TOP)), self._places)
        if "q" not in options:
            display(memory)
        if error is not None:  # As %%time has it: shown, and the notebook goes on.
            self.shell.showtraceback(error, tb_offset=1)
        return memory if "o" in options else None

    def _compiled(self, source):
        """The code of a cell, and that of the expression at its end, if there is one."""
        transformed = self.shell.transform_cell(source)
        name = self.shell.compile.cache(transformed, self.shell.execution_count, raw_code=source)
        tree = ast.parse(transformed, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = compile(ast.Expression(tree.body.pop().value), name, "eval")
        return compile(tree, name, "exec"), last

    def _places(self, frames):
        """The line of a cell that a stack worked for, and where it allocated, if that is not the cell itself."""
        for depth, frame in enumerate(frames):
            cell = self._cell(frame.file)
            if cell is not None:
                function = "" if frame.function.startswith(("<module>", "<cell line")) else frame.function
                return f"{cell}:{frame.line}", function if depth == 0 else place_text(frames)
        return "", place_text(frames)

    def _cell(self, file):
        """Such as "In[3]", or None where a file is no cell."""
        try:
            _, cell = self.shell.compile.format_code_name(file)
        except (AttributeError, TypeError):  # None is no pair; older versions have nothing of the kind.
            return None
        return cell
