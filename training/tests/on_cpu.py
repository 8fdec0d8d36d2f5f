"""FSDP and DeepSpeed on a CPU, where accelerate itself starts one process and leaves both off.

python -m training.tests.on_cpu --num_processes 2 --config_file training/launch/fsdp2.yaml -m training.sft ...
torchrun --nproc-per-node 2 -m training.tests.on_cpu training.sft --deepspeed training/launch/zero3.json ...

The options of the first are those of `accelerate launch`; all but the starting and the switch is accelerate's.
"""

import os
import runpy
import subprocess
import sys


def launch(arguments):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    options = launch_command_parser().parse_args(arguments)
    processes, options.main_process_port = options.num_processes, None
    options, *_ = _validate_launch_command(options)
    environment = prepare_multi_gpu_env(options)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    worker = ["-m", __spec__.name, options.training_script, *options.training_script_args]
    return subprocess.run([sys.executable, *torchrun, *worker], env=environment, check=False).returncode


def switch_on():
    """Accelerate's states take FSDP and DeepSpeed on the CPU as they do on an accelerator."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    make_state, prepare_backend = AcceleratorState.__init__, PartialState._prepare_backend

    def __init__(self, *args, fsdp_plugin=None, **kwargs):
        make_state(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type is DistributedType.MULTI_CPU:
            for shared in (AcceleratorState._shared_state, PartialState._shared_state):
                shared["distributed_type"] = DistributedType.FSDP
            if self.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self.mixed_precision)
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = __init__
    # DeepSpeed is asked for without use_cpu, which would leave it off.
    PartialState._prepare_backend = lambda self, cpu=False, *args, **kwargs: prepare_backend(
        self, True, *args, **kwargs
    )


if __name__ == "__main__":
    if "RANK" not in os.environ:
        sys.exit(launch(sys.argv[1:]))
    switch_on()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
