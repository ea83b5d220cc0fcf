"""`heapkeeper control`: asks a running process for its state and for captures, through the socket that it was started with.

The protocol is told in crates/python/src/socket.rs.
"""

import json
import os
import signal
import socket
import struct

from heapkeeper import cli
from heapkeeper._captures import Options, Usage, complain, private, run, write

_COMMAND = "heapkeeper control"

_HELP = """\
usage: heapkeeper control PID|SOCKET status
       heapkeeper control PID|SOCKET start [FILE]
       heapkeeper control PID|SOCKET stop
       heapkeeper control PID|SOCKET mark NAME
       heapkeeper control PID|SOCKET fetch [-f] -o FILE

Talks to a running process that was started with `heapkeeper run --socket PATH`, or with socket=PATH in HEAPKEEPER.
It answers to the user that it runs as, and without a stop: also while it is busy, or hangs.

  PID           the process; its socket is found by the HEAPKEEPER that it was started with
  SOCKET        the socket's path

what to do:
  status        say what the process holds, as JSON
  start [FILE]  begin a capture, in FILE or in heapkeeper-PROGRAM.PID.hk in the folder that it was started in
  stop          end the capture
  mark NAME     name this moment in the capture
  fetch         get the capture as it is now, or one of this moment alone if none is being written

options:
  -o, --output FILE   where fetch writes; - is standard output
  -f, --force         overwrite FILE
  -h, --help          show this help

examples:
  heapkeeper run --socket /run/user/1000/app-%p.sock app.py
  heapkeeper control 4711 fetch -o now.hk; heapkeeper report now.hk
  heapkeeper control /run/user/1000/app-4711.sock mark "before the night's work"
"""

# A process that is stopped, or out of processor time, does not answer.
_PATIENCE_S = 30

# struct ucred: pid, uid, gid.
_CREDENTIALS = struct.Struct("3i")


def main(arguments):
    """Run the verb. Returns an exit status."""
    options = Options()
    options.add_argument("process", metavar="PID|SOCKET")
    options.add_argument("what", metavar="status|start|stop|mark|fetch", choices=list(_WORDS))
    options.add_argument("word", nargs="?")
    options.add_argument("-o", "--output")
    options.add_argument("-f", "--force", action="store_true")
    return run(_COMMAND, _HELP, options, arguments, _control)


# What to do, and the word that goes with it: None, or its name, in brackets where it may be left out.
_WORDS = {"status": None, "start": "[FILE]", "stop": None, "mark": "NAME", "fetch": None}


def _control(options):
    line = _line(options)
    # A process that goes away is an error to tell, unlike a reader of our output.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        with _connect(options.process) as connection, connection.makefile("rb") as answers:
            connection.sendall(line + b"\n")
            connection.shutdown(socket.SHUT_WR)
            answer = json.loads(answers.readline())
            content = answers.read(answer["bytes"]) if "bytes" in answer else None
    except TimeoutError:
        return _fail(options, f"no answer within {_PATIENCE_S} seconds")
    except OSError as error:
        return _fail(options, error.strerror or str(error))
    except ValueError:
        return _fail(options, "no answer: it is gone, or is no process of heapkeeper's")
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if "error" in answer:
        return _fail(options, answer["error"])
    if content is not None:
        if len(content) != answer["bytes"]:
            return _fail(options, "it went away in the middle of its answer")
        return write(_COMMAND, content, options.output, opener=private)
    text = answer["capture"] if options.what != "status" else json.dumps(answer, indent=2)
    print(text, file=cli.output())
    return 0


def _line(options):
    """The line to send. Raises Usage."""
    what, word = options.what, options.word
    wanted = _WORDS[what]
    if word is None and wanted is not None and not wanted.startswith("["):
        raise Usage(f"{what} needs a {wanted}")
    if word is not None and wanted is None:
        raise Usage(f"{what} goes without {word!r}")
    if word is not None and ("\n" in word or not word):
        raise Usage(f"{word!r} is empty or has several lines")
    if what == "fetch":
        if options.output is None:
            raise Usage("fetch needs -o FILE")
        if options.output != "-" and os.path.lexists(options.output) and not options.force:
            raise Usage(f"-o: {options.output} exists; -f overwrites it")
    elif options.output is not None or options.force:
        raise Usage("-o and -f go with fetch")
    if what == "start" and word is not None:
        word = os.path.abspath(word)
    return what.encode() if word is None else f"{what} {word}".encode(errors="surrogateescape")


def _connect(process):
    """A connection to a process, given as its pid or its socket. Raises OSError."""
    if not process.isdecimal():
        return _open(process)
    paths = _sockets(int(process))
    if not paths:
        raise OSError("it was started without a socket; see heapkeeper run --socket")
    reason = None
    for path in paths:
        try:
            connection = _open(path)
        except OSError as error:
            reason = reason or error
            continue
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[0] == int(process):
            return connection
        connection.close()
    raise reason or OSError("its socket is another process's by now")


def _open(path):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_PATIENCE_S)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _sockets(pid):
    """Where the socket of a process may be, by the environment that it was started with. Raises OSError."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
        folder = os.readlink(f"/proc/{pid}/cwd")
    except FileNotFoundError:
        raise OSError("there is no such process") from None
    given = [os.fsdecode(entry) for entry in entries if entry.startswith(b"HEAPKEEPER=")]
    items = given[0].partition("=")[2].split(",") if given else []
    paths = [item.partition("=")[2] for item in items if item.startswith("socket=")]
    if not paths:
        return []
    path = os.path.join(folder, paths[-1])  # A relative one is the process's.
    if "%p" in path:
        return [path.replace("%p", str(pid))]
    stem, ending = os.path.splitext(path)
    return [f"{stem}.{pid}{ending}", path]


def _fail(options, reason):
    complain(_COMMAND, options.process, reason)
    return 1
