"""`python -m heapkeeper.memory_profiler SCRIPT.py | MODULE`: runs a program in which `@profile` needs no import."""

import argparse
import builtins
import os
import runpy
import shutil
import sys

import heapkeeper
from heapkeeper.memory_profiler import LineProfiler, TimeStamper, backends, show_results


def main():
    arguments = _parser().parse_args()
    if not arguments.program:
        print("A program to run must be provided. Use -h for help")
        sys.exit(1)
    heapkeeper.install()
    if arguments.timestamp:
        profiler = TimeStamper(arguments.backend, include_children=arguments.include_children)
    else:
        profiler = LineProfiler(
            max_mem=arguments.max_mem, backend=arguments.backend, include_children=arguments.include_children
        )
    try:
        _run(arguments.program, profiler)
    finally:
        if arguments.out_filename is None:
            _show(profiler, arguments.precision, sys.stdout)
        else:
            with open(arguments.out_filename, "a") as stream:
                _show(profiler, arguments.precision, stream)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m heapkeeper.memory_profiler",
        usage="%(prog)s [options] script_file.py [argument ...] | module [argument ...]",
        description="Runs a program and prints memory line by line of its functions that are decorated with @profile.",
    )
    parser.add_argument("--version", action="version", version=heapkeeper.__version__)
    parser.add_argument(
        "--pdb-mmem", dest="max_mem", metavar="MAXMEM", type=float, help="start the debugger at so many MiB"
    )
    parser.add_argument("--precision", type=int, default=3, help="digits after the point (default: 3)")
    parser.add_argument("-o", dest="out_filename", metavar="FILE", help="append the result to a file")
    parser.add_argument(
        "--timestamp", action="store_true", help="print when functions began and ended instead of their lines"
    )
    parser.add_argument("--include-children", action="store_true", help="memory of child processes counts as well")
    parser.add_argument(
        "--backend",
        choices=list(backends.METRICS),
        default=backends.DEFAULT,
        help="what memory usage starts from: resident size (psutil, posix), psutil_pss, psutil_uss, or nothing "
        "(tracemalloc); lines are measured by what they allocate in any case",
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help="script or module, and its arguments")
    return parser


def _run(program, profiler):
    target, *rest = program
    builtins.profile = profiler
    if target.endswith(".py"):
        script = _find(target)
        sys.argv = [script, *rest]
        sys.path.insert(0, os.path.dirname(script))
        runpy.run_path(script, run_name="__main__")
    else:
        sys.argv = [target, *rest]
        runpy.run_module(target, run_name="__main__", alter_sys=True)


def _find(script):
    """The file, in this folder or on PATH."""
    if os.path.isfile(script):
        return script
    found = shutil.which(script, mode=os.F_OK)
    if found is None:
        sys.stderr.write(f"Could not find script {script}\n")
        sys.exit(1)
    return found


def _show(profiler, precision, stream):
    if isinstance(profiler, TimeStamper):
        profiler.show_results(stream=stream)
    else:
        show_results(profiler, stream=stream, precision=precision)


if __name__ == "__main__":
    main()
