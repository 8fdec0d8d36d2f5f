"""A Python that has imported things already: scripts run in forks of one process, since importing takes longest.

`executable()` is a command like `sys.executable`, for `FILE`, `-m MODULE` and `-c CODE` with their arguments. What it
starts sees the command's own environment, folder and standard streams, and uses it for its own subprocesses. A package
that reads the environment when it is imported, as transformers does, has that of the first call where it is among the
imports; by default it is not. A signal reaches the command alone: what is to be killed, or limited, needs
`sys.executable`.
"""

import functools
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

WARM = ("torch", "torch._dynamo", "torch.distributed.tensor", "torchvision")


@functools.cache
def executable(*imports: str) -> str:
    """The path of the command; its server ends with the process that asked first.

    Args:
        imports: what to import beforehand, each `MODULE` or `MODULE:NAME` (default: torch and what is slow of it).
    """
    folder = Path(tempfile.mkdtemp(prefix="warm_python_"))
    command = folder / "python"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} {folder / "socket"} "$@"\n')
    command.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:  # ours for a moment: requests wait there for the imports
        listening.bind(str(folder / "socket"))
        listening.listen()
        server = [sys.executable, __file__, "--serve", str(listening.fileno()), str(command), *(imports or WARM)]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.Popen(server, pass_fds=[listening.fileno()], **quiet)
    return str(command)


def ask(address, arguments):
    """The exit code of a script that the server runs for us."""
    request = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(request)
        return int(connection.makefile().readline() or 1)


def serve(number, command, *imports):
    """Answer one request after the other, each in a process of its own, until whoever started us is gone."""
    parent = os.getppid()
    for name in imports:
        module, _, attribute = name.partition(":")
        module = importlib.import_module(module)
        if attribute:  # of a package that loads lazily
            getattr(module, attribute)
    listening = socket.socket(fileno=int(number))
    listening.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children of the server itself
    while os.getppid() == parent:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection, command)
        connection.close()


def answer(connection, command):
    """In a child of the server: one more for the script, whose exit code goes back."""
    connection.settimeout(None)
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = json.loads(connection.makefile("rb").read(int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.executable = command
        os._exit(run(request["arguments"]))
    for stream in streams:
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(f"{code}\n".encode())
    os._exit(0)


def run(arguments):
    """The script as `python ARGUMENT...` runs it."""
    try:
        if arguments[0] == "-c":
            sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        elif arguments[0] == "-m":
            sys.argv, sys.path[0] = arguments[1:], ""
            runpy.run_module(arguments[1], run_name="__main__")
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(*sys.argv[2:])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
