"""Runs commands in forks of a process that has imported what they need, since importing takes longest.

python fork_server.py MODULE:NAME ... imports these. Every line of stdin is then a JSON object with `run` (a file or a
module), `arguments`, `environment` and `log` (a file); the answer is a line with the exit code.
"""

import importlib
import json
import os
import runpy
import sys


def run(run, arguments, environment, log):
    file = os.open(log, os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    sys.argv = [run, *arguments]
    try:
        (runpy.run_path if run.endswith(".py") else runpy.run_module)(run, run_name="__main__")
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1


for name in sys.argv[1:]:
    module, _, attribute = name.partition(":")
    module = importlib.import_module(module)
    if attribute:
        getattr(module, attribute)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = run(**json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
