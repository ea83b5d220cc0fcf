"""How this interpreter was started, read from its own command line (`sys.orig_argv`).

Follows CPython's option grammar (Python/getopt.c, 3.10 to 3.13): short options may be joined, -c and -m end the
interpreter's options, -W and -X take a value. Called by `run` for the flags to hand on, by reports for a name.
"""

import sys


def split(arguments):
    """The interpreter's own flags, and the program: a script's path, "-m MODULE", "-c", "-", or "" if there is none."""
    flags = []
    rest = iter(arguments[1:])
    for argument in rest:
        if argument == "--":
            return flags, next(rest, "")
        if argument == "-" or not argument.startswith("-"):
            return flags, argument
        if argument.startswith("--"):
            flags.append(argument)
            if argument == "--check-hash-based-pycs":
                flags.append(next(rest, ""))
            continue
        for index, letter in enumerate(argument):
            if letter in "cm":
                if index > 1:
                    flags.append(argument[:index])
                value = argument[index + 1 :] or next(rest, "")
                return flags, "-c" if letter == "c" else f"-m {value}"
            if letter in "WX":
                flags.append(argument)
                if index + 1 == len(argument):
                    flags.append(next(rest, ""))
                break
        else:
            flags.append(argument)
    return flags, ""


def flags():
    """The interpreter's own flags of this process."""
    return split(sys.orig_argv)[0]


def program():
    """The program of this process, as reports name it."""
    return split(sys.orig_argv)[1]
