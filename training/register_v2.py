"""Teach ms-swift 4.6 the model type `qwen2_5_vl_circle_rope_v2`, and the block that an official checkpoint gets.

swift sft --custom_register_path training/register_v2.py ...

A converted checkpoint needs no more. For an official one the block comes as V2's `model_config_override`: a key of the
config file, an option of the command line, or an entry of ms-swift's own `model_kwargs`. The template is ms-swift's.
"""

import ast
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import transformers
from packaging.specifiers import SpecifierSet

SWIFT, TRANSFORMERS = SpecifierSet(">=4.6,<4.7"), SpecifierSet(">=4.57,<5.20")
if version("ms-swift") not in SWIFT or transformers.__version__ not in TRANSFORMERS:
    sys.exit(
        f"error: this needs ms-swift {SWIFT} with transformers {TRANSFORMERS}, but found ms-swift "
        f"{version('ms-swift')} with transformers {transformers.__version__}: pip install -r training/requirements.txt"
    )

# `swift` imports this file by its path, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swift.arguments.base_args.base_args import BaseArguments  # noqa: E402
from swift.callbacks import TrainerCallback, callbacks_map  # noqa: E402
from swift.model import ModelArch, ModelMeta, register_model  # noqa: E402
from swift.model.models.qwen import Qwen2_5VLLoader  # noqa: E402
from swift.template import TemplateType  # noqa: E402
from swift.template.templates.qwen import Qwen2_5VLTemplate  # noqa: E402

from training.anneal import CircleRopeAnnealing  # noqa: E402
from training.blocks import (  # noqa: E402
    ARCHITECTURES,
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    config_with_block,
    read_override,
)
from training.liger_kernels import use_liger_kernels  # noqa: E402
from training.own_card import own_card  # noqa: E402
from training.positions import carry_positions  # noqa: E402
from training.rows import check_row  # noqa: E402
from training.save_block import SaveBlock  # noqa: E402
from training.watch import start_line  # noqa: E402

MODEL_TYPE = "qwen2_5_vl_circle_rope_v2"
OVERRIDE, ANNEAL, POSITIONS = "model_config_override", "circle_rope_anneal", "circle_rope_positions"


@contextmanager
def one_sentence():
    """A user's mistake ends the run with its sentence and without a traceback."""
    try:
        yield
    except ValueError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


class CircleRopeLoader(Qwen2_5VLLoader):
    """Loads a checkpoint, official or converted, with this repo's classes and the block of the run."""

    def get_config(self, model_dir):
        with one_sentence():
            config = config_with_block(model_dir, read_override(os.environ.get(OVERRIDE.upper())))
        # The template has the official vocabulary's ids built in; a checkpoint may have another.
        Qwen2_5VLTemplate.image_token_id = config.image_token_id
        Qwen2_5VLTemplate.video_token_id = config.video_token_id
        return config

    def get_model(self, model_dir, config, processor, model_kwargs):
        self.auto_model_cls = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
        return super().get_model(model_dir, config, processor, model_kwargs)


register_model(
    ModelMeta(
        MODEL_TYPE,
        [],
        CircleRopeLoader,
        template=TemplateType.qwen2_5_vl,
        model_arch=ModelArch.qwen2_vl,
        architectures=list(ARCHITECTURES),
        is_multimodal=True,
        requires=["qwen_vl_utils>=0.0.14", "decord"],
        tags=["vision", "video"],
    ),
    exist_ok=True,
)


def option_of_command_line(name: str, argv: list[str]) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE`."""
    for number, word in enumerate(argv):
        option, equals, value = word.partition("=")
        if option == f"--{name}":
            if equals:
                return value
            return argv[number + 1] if number + 1 < len(argv) else ""
    return None


def take_override(self):
    """In place of `BaseArguments._init_model_kwargs`: ms-swift puts `model_kwargs` into the environment; so is this.

    The block is looked for on the command line (where ms-swift puts the keys of a config file too), in `model_kwargs`,
    and in the args.json of the checkpoint that is loaded, so that an adapter finds the block it was trained with.
    """
    if type(self).__name__.startswith("Megatron"):
        sys.exit(
            "error: Megatron-SWIFT builds a model of its own, which has no place for Circle-RoPE's positions: train "
            "with swift sft, and --deepspeed or --fsdp for a large model."
        )
    init_model_kwargs(self)
    given = option_of_command_line(OVERRIDE, sys.argv)
    if given is not None:
        # ms-swift refuses options it does not know, this one too; any other unknown one is still refused.
        known = [field.name for field in fields(self)] + [OVERRIDE]
        options = [word[2:].partition("=")[0].replace("-", "_") for word in sys.argv[1:] if word.startswith("--")]
        self.ignore_args_error |= all(any(name.startswith(option) for name in known) for option in options)
    else:
        given = self.model_kwargs.get(OVERRIDE)
    if given is None and self.ckpt_dir is not None:
        given = override_of_adapter(Path(self.ckpt_dir))
    with one_sentence():
        block = read_override(given)
        if block is not None:
            # Of another type ms-swift would take stock's class, which reads no block: by a folder's name, or as asked.
            if self.model_type not in (None, MODEL_TYPE):
                raise ValueError(
                    f"{OVERRIDE} gives a circle_rope block, but model_type is {self.model_type!r}, whose class reads "
                    f"none: give {MODEL_TYPE}, or leave it out."
                )
            self.model_type = MODEL_TYPE
        if getattr(self, "use_liger_kernel", False):
            use_liger_kernels()
    os.environ.pop(OVERRIDE.upper(), None)
    if block is not None:
        self.model_kwargs[OVERRIDE] = {"circle_rope": block}
        os.environ[OVERRIDE.upper()] = json.dumps(self.model_kwargs[OVERRIDE])
    if POSITIONS not in getattr(self, "callbacks", [POSITIONS]):
        self.callbacks = [*self.callbacks, POSITIONS]
    self.external_plugins = [os.path.abspath(os.path.expanduser(path)) for path in self.external_plugins]


def override_of_adapter(folder: Path) -> dict | None:
    """What an adapter was trained with: as annealing left it, or as it was given. Other checkpoints have it inside."""
    if not (folder / "adapter_config.json").exists():
        return None
    if (folder / "config.json").exists():
        return {"circle_rope": json.loads((folder / "config.json").read_text(encoding="utf-8"))["circle_rope"]}
    return (json.loads((folder / "args.json").read_text(encoding="utf-8")).get("model_kwargs") or {}).get(OVERRIDE)


def load_checked_dataset(self):
    """In place of `BaseArguments.load_dataset`, which leaves bad rows to be skipped in the middle of training."""
    datasets = load_dataset(self)
    folder = os.environ.get("ROOT_IMAGE_DIR")
    for dataset, kind in zip(datasets, ("training", "validation")):
        if dataset is None or self.streaming or "messages" not in dataset.column_names:
            continue
        with one_sentence():
            for number, row in enumerate(dataset, 1):
                check_row(row, f"{kind} row {number}", folder)
    return datasets


init_model_kwargs, load_dataset = BaseArguments._init_model_kwargs, BaseArguments.load_dataset
BaseArguments._init_model_kwargs, BaseArguments.load_dataset = take_override, load_checked_dataset


class Positions(SaveBlock, TrainerCallback):
    """Every run's: the collator's positions reach the model as they are, or under annealing as the step wants them.

    An adapter's checkpoints say their block, and the trainer's card does.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if self.trainer.template.model_meta.model_type == MODEL_TYPE:
            carry_positions(model, afresh=ANNEAL in args.callbacks)
            own_card(self.trainer)
            if state.is_world_process_zero:
                print(start_line(model, args.world_size), flush=True)


class SwiftAnnealing(CircleRopeAnnealing):
    """`--callbacks circle_rope_anneal --model_kwargs '{"circle_rope_anneal": {"key": "radius", "steps": 0.5}}'`."""

    def __init__(self, args, trainer):
        options = ast.literal_eval(os.environ.get(ANNEAL.upper(), "{}"))
        with one_sentence():
            if not isinstance(options, dict) or not options.keys() <= {"key", "start", "end", "steps"}:
                raise ValueError(f"{ANNEAL} is {options!r}, but must be an object with key, start, end and steps.")
            super().__init__(**options)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        with one_sentence():
            super().on_train_begin(args, state, control, model=model, **kwargs)


callbacks_map[POSITIONS], callbacks_map[ANNEAL] = Positions, SwiftAnnealing
