"""ms-swift's commands one after another: imported once, and each run in a fork, since importing takes longest.

Every line of stdin is a JSON object, `{"command": "sft", "arguments": [...], "environment": {...}, "log": FILE}`; the
answer is a line with the exit code.
"""

import json
import os
import runpy
import sys

# Imported for the forks.
from swift.pipelines import infer_main, rlhf_main, sft_main  # noqa: F401
from swift.ray_utils import try_init_ray  # noqa: F401
from swift.rlhf_trainers import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer  # noqa: F401
from swift.trainers import EmbeddingTrainer, Seq2SeqTrainer, Trainer  # noqa: F401


def run(command, arguments, environment, log):
    file = os.open(log, os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    sys.argv = [f"swift {command}", *arguments]
    try:
        runpy.run_module(f"swift.cli.{command}", run_name="__main__")
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = run(**json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
