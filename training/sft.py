"""Fine-tune with TRL's SFTTrainer: Circle-RoPE or AGE, the whole model or LoRA, on a dataset folder or a hub id.

python -m training.sft --model_name_or_path . --dataset_name DIR_OR_ID --output_dir out
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m training.sft", file=sys.stderr)
    sys.exit(2)

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from conversion.base import fetch

from .anneal import CircleRopeAnnealing
from .blocks import (
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    config_with_block,
    read_block,
)
from .liger_kernels import use_liger_kernels
from .own_card import own_card
from .save_block import SaveBlock, save_block
from .sft_collator import Collator
from .sft_examples import load_examples
from .sft_options import check_options
from .tower import call_tower_on_every_rank
from .watch import Watch

# Only the language model's projections, whatever stands before them: the vision tower stays as it is.
LORA_TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


@dataclass
class GeometryArguments:
    """The positions."""

    circle_rope: str | None = field(
        default=None, metadata={"help": "keys of the block for an official checkpoint, as JSON or in a JSON file"}
    )
    age_mode: str | None = field(default=None, metadata={"help": "strategy_1 to strategy_4, or a JSON list"})
    anneal: str | None = field(
        default=None, metadata={"help": "radius, dff_rate or AGE_mode: move it to its value during training"}
    )
    anneal_steps: float = field(
        default=0.5, metadata={"help": "steps that the annealing takes; up to 1 the share of all steps"}
    )
    train_vision: bool = field(default=False, metadata={"help": "train vision tower and projector too"})
    max_pixels: int | None = field(default=None, metadata={"help": "the processor scales larger pictures down to it"})


def prepare():
    """The trainer that the command line asks for, and what to resume from.

    Raises:
        ValueError: a checkpoint, block, dataset or option that cannot be used.
    """
    import torch
    from transformers import AutoProcessor
    from trl import (
        ModelConfig,
        ScriptArguments,
        SFTConfig,
        SFTTrainer,
        TrlParser,
        get_peft_config,
        get_quantization_config,
    )

    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, GeometryArguments), description=__doc__)
    defaults_here = {} if torch.accelerator.is_available() else {"use_cpu": True, "bf16": False}
    if (
        os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "").lower() == "true"
    ):  # of a launch file, in place of Trainer's
        defaults_here["gradient_checkpointing"] = False
    parser.set_defaults(
        max_length=4096,
        lora_target_modules=[LORA_TARGETS],
        dataset_test_split=None,
        include_num_input_tokens_seen=True,  # and with them tokens a second
        **defaults_here,
    )
    defaults = parser.parse_args_and_config([])
    parsed = script, training, options, geometry = parser.parse_args_and_config()
    if not script.dataset_name or not options.model_name_or_path:
        raise ValueError("--model_name_or_path and --dataset_name are needed: a directory or a hub id each.")
    check_options(parsed, defaults)
    if training.include_num_input_tokens_seen == "all":
        training.include_num_input_tokens_seen = "non_padding"
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ and training.world_size == 1:
        print(
            "warning: accelerate launch was asked for several processes, but this is the only one, since on a CPU it "
            "starts others by --mpirun_hostfile alone: use torchrun --nproc-per-node N -m training.sft.",
            file=sys.stderr,
        )
    if training.use_liger_kernel:
        use_liger_kernels()
    resume = training.resume_from_checkpoint
    if str(resume).lower() in ("true", "false"):  # as Trainer's own argument may be
        resume = last_complete(Path(training.output_dir)) if resume.lower() == "true" else None
        if resume is None and training.resume_from_checkpoint.lower() == "true":
            raise ValueError(
                f"--resume_from_checkpoint true was given, but {training.output_dir} has no checkpoint that is whole."
            )

    is_here = Path(options.model_name_or_path).is_dir()
    if is_here and options.model_revision != "main":
        raise ValueError(f"--model_revision {options.model_revision} was given, but the model is a local directory.")
    base = fetch(options.model_name_or_path, None if is_here else options.model_revision)
    block = read_block(geometry.circle_rope, separator="_", age_mode=geometry.age_mode)
    config = config_with_block(base, block or None, over_default=True)
    callbacks = [SaveBlock(), Watch()]
    if geometry.anneal:
        steps = geometry.anneal_steps
        callbacks.append(CircleRopeAnnealing(geometry.anneal, steps=steps if steps <= 1 else int(steps)))
        callbacks[-1].check(config)

    pixels = {} if geometry.max_pixels is None else {"max_pixels": geometry.max_pixels}
    # The processor is upstream's: without an answer here, transformers 5 asks whether to run the checkpoint's code.
    processor = AutoProcessor.from_pretrained(base, trust_remote_code=False, **pixels)
    if training.chat_template_path is not None:
        processor.chat_template = Path(training.chat_template_path).read_text(encoding="utf-8")
    if training.pad_token is not None and training.pad_token not in processor.tokenizer.get_vocab():
        raise ValueError(f"--pad_token {training.pad_token} is not in the vocabulary: give a token that is.")
    collator = Collator(
        processor,
        training.max_length,
        training.completion_only_loss is not False,
        training.pad_to_multiple_of,
        training.pad_token,
    )
    has_rounds = training.eval_strategy != "no" or training.eval_on_start
    if script.dataset_test_split is not None or training.do_eval or has_rounds:
        training.do_eval = True
        script.dataset_test_split = script.dataset_test_split or "test"
    train_set = load_set(script, script.dataset_train_split, collator, training)
    test_set = load_set(script, script.dataset_test_split, collator, training) if training.do_eval else None
    if training.shuffle_dataset:
        train_set = train_set.shuffle(seed=training.seed)
    training.remove_unused_columns = False  # there is none, and TRL does not know videos

    quantization = get_quantization_config(options)
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(
        base,
        config=config,
        dtype=options.dtype or "auto",
        attn_implementation=options.attn_implementation,
        **({} if quantization is None else {"quantization_config": quantization, "device_map": {"": training.device}}),
    )
    # What an adapter and the model card name as the base.
    model.name_or_path = str(base.resolve()) if is_here else options.model_name_or_path
    model.config._name_or_path = model.name_or_path
    if not geometry.train_vision:
        model.model.visual.requires_grad_(False)
    call_tower_on_every_rank(model)
    peft_config = get_peft_config(options)
    if peft_config is not None and not is_here:
        peft_config.revision = options.model_revision
    trainer = SFTTrainer(
        model=model,
        args=training,
        data_collator=collator,
        train_dataset=train_set,
        eval_dataset=test_set,
        processing_class=processor,
        peft_config=peft_config,
        callbacks=callbacks,
    )
    return own_card(trainer), resume


def last_complete(folder: Path) -> str | None:
    """The newest checkpoint in a folder that was saved to its end, or None; a newer one that was not is named.

    Trainer writes its state last.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            print(f"resuming from {path}", file=sys.stderr)
            return str(path)
        except (OSError, ValueError):
            print(f"{path} was not saved to its end, and is passed over", file=sys.stderr)
    return None


def load_set(script, split, collator, training):
    """A split as examples with their lengths, which `max_length` and sampling by length need."""
    from datasets import Image, List

    name = f"{script.dataset_name}, split {split}, row"
    examples = load_examples(script.dataset_name, script.dataset_config, split, training.dataset_num_proc)
    examples = examples.map(
        lambda example: collator.measure(example, f"{name} {example['row']},"), num_proc=training.dataset_num_proc
    )
    if training.length_column_name != "length":
        examples = examples.rename_column("length", training.length_column_name)
    return examples.cast_column("images", List(Image()))


def main():
    trainer = None
    try:
        trainer, resume = prepare()
        trainer.train(resume_from_checkpoint=resume)
    except (ValueError, OSError, ImportError, RuntimeError, NotImplementedError) as error:
        if trainer is not None and trainer.state.global_step:
            raise
        sys.exit(f"error: {' '.join(str(error).split())}")
    folder = trainer.args.output_dir
    if trainer.is_fsdp_enabled:  # checkpoints may be shards; the end is a whole model, which the first process writes
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    if trainer.args.do_eval and trainer.args.eval_strategy == "no":
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    trainer.save_model(folder)
    if hasattr(trainer.model, "peft_config"):
        if trainer.is_world_process_zero():
            save_block(trainer.model, folder)
        if trainer.args.push_to_hub:
            trainer.push_to_hub()
    # An interpreter that ends with gloo's threads alive may abort, and the launcher calls the whole run failed.
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
