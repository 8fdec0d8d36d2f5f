"""ms-swift's command line as the tests call it: few steps on the CPU, with this repo's registration."""

from conftest import ROOT, TESTS, run, script

TINY = ROOT / "tiny"
REGISTER = "training/register_v2.py"
MODEL_TYPE = ("--model_type", "qwen2_5_vl_circle_rope_v2")
FEW_STEPS = (
    *("--torch_dtype", "float32", "--max_steps", 4, "--save_steps", 2, "--logging_steps", 1),
    *("--gradient_accumulation_steps", 1, "--learning_rate", 1e-3, "--lr_scheduler_type", "constant"),
    *("--warmup_ratio", 0, "--add_version", "false", "--report_to", "none", "--check_model", "false"),
)


def sft(*arguments, recorded=None, plugins=(), **environment):
    if recorded is not None:
        plugins = [*plugins, TESTS / "record_positions.py"]
        environment["RECORD_POSITIONS"] = recorded
    register = ("--custom_register_path", REGISTER, *plugins)
    return run(script("swift"), "sft", *arguments, *register, *FEW_STEPS, **environment)
