"""Fine-tune with TRL's SFTTrainer: Circle-RoPE or AGE, the whole model or LoRA, on a dataset folder or a hub id.

python training/sft.py --model_name_or_path tiny --dataset_name DIR_OR_ID --output_dir out
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from anneal import CircleRopeAnnealing, save_block
from blocks import (
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    config_with_block,
    read_block,
)
from conversion.base import fetch
from rows import IMAGE_TAG, check_row, count_placeholders, read_rows

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


def split_turns(messages: list[dict], images: list) -> list[dict]:
    """One example for every answer: what comes before it as the prompt, and the pictures up to there."""
    examples, before = [], []
    untagged = bool(images) and not sum(count_placeholders(message["content"]) for message in messages)
    for message in messages:
        content = parts(message["content"])
        if untagged and message["role"] == "user":
            content, untagged = [{"type": "image", "text": None}] * len(images) + content, False
        message = {"role": message["role"], "content": content}
        if message["role"] == "assistant":
            seen = sum(part["type"] == "image" for earlier in before for part in earlier["content"])
            examples.append({"prompt": list(before), "completion": [message], "images": images[:seen]})
        before.append(message)
    return examples


def parts(content) -> list[dict]:
    """A message's content as the processor's template takes it."""
    if not isinstance(content, str):
        return [
            {"type": "image", "text": None} if part["type"] == "image" else {"type": "text", "text": part["text"]}
            for part in content
        ]
    pieces = []
    for number, text in enumerate(content.split(IMAGE_TAG)):
        pieces += [{"type": "image", "text": None}] * (number > 0)
        pieces += [{"type": "text", "text": text}] * bool(text)
    return pieces


def load_examples(name: str, config: str | None, split: str):
    """Examples of a folder with `SPLIT.jsonl`, or of a dataset that `datasets.load_dataset` can load.

    Raises:
        ValueError: no such dataset, or a row that `rows.check_row` refuses.
    """
    from datasets import Dataset, Features, Image, List, Value, load_dataset

    folder = Path(name)
    if (folder / f"{split}.jsonl").is_file():
        rows = Dataset.from_list(
            [{key: row[key] for key in ("messages", "images")} for row in read_rows(folder / f"{split}.jsonl")]
        )
    elif folder.is_dir() and not any(folder.rglob("*.parquet")):
        raise ValueError(f"{name} has neither {split}.jsonl nor parquet files: see training/README.md for the format.")
    else:
        try:
            rows = load_dataset(name, config, split=split)
        except (OSError, ValueError) as error:
            raise ValueError(f"--dataset_name {name} could not be loaded: {error}") from None
        if missing := {"messages", "images"} - set(rows.column_names):
            raise ValueError(f"{name} has no column {min(missing)}: it needs messages and images.")
    rows = rows.cast_column("images", List(Image(decode=False)))
    for number, row in enumerate(rows, 1):
        check_row(row, f"{name}, row {number},")

    message = {"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})}
    examples = rows.map(
        split_rows,
        batched=True,
        remove_columns=rows.column_names,
        features=Features({"prompt": List(message), "completion": List(message), "images": List(Image())}),
    )
    if not len(examples):
        raise ValueError(f"{name} has no answers: at least one message must be of the assistant.")
    return examples


def split_rows(rows: dict) -> dict:
    """`split_turns` of a batch of rows, column by column."""
    pairs = zip(rows["messages"], rows["images"])
    examples = [example for messages, images in pairs for example in split_turns(messages, images or [])]
    return {key: [example[key] for example in examples] for key in ("prompt", "completion", "images")}


def prepare():
    """The trainer that the command line asks for.

    Raises:
        ValueError: a checkpoint, block, dataset or option that cannot be used.
    """
    import torch
    from transformers import AutoProcessor
    from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config

    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, GeometryArguments), description=__doc__)
    on_cpu = {} if torch.accelerator.is_available() else {"use_cpu": True, "bf16": False}
    parser.set_defaults(max_length=4096, lora_target_modules=[LORA_TARGETS], **on_cpu)
    script, training, options, geometry = parser.parse_args_and_config()
    if not script.dataset_name or not options.model_name_or_path:
        raise ValueError("--model_name_or_path and --dataset_name are needed: a directory or a hub id each.")

    is_here = Path(options.model_name_or_path).is_dir()
    base = fetch(options.model_name_or_path, None if is_here else options.model_revision)
    block = read_block(geometry.circle_rope, geometry.age_mode)
    config = config_with_block(base, block or None, over_default=True)
    callbacks = []
    if geometry.anneal:
        steps = geometry.anneal_steps
        callbacks.append(CircleRopeAnnealing(geometry.anneal, steps=steps if steps <= 1 else int(steps)))
        callbacks[0].check(config)
    examples = load_examples(script.dataset_name, script.dataset_config, script.dataset_train_split)

    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(
        base, config=config, dtype=options.dtype or "auto", attn_implementation=options.attn_implementation
    )
    if not geometry.train_vision:
        model.model.visual.requires_grad_(False)
    pixels = {} if geometry.max_pixels is None else {"max_pixels": geometry.max_pixels}
    return SFTTrainer(
        model=model,
        args=training,
        train_dataset=examples,
        processing_class=AutoProcessor.from_pretrained(base, **pixels),
        peft_config=get_peft_config(options),
        callbacks=callbacks,
    )


def main():
    try:
        trainer = prepare()
    except ValueError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except ImportError as error:
        sys.exit(f"error: {error}: pip install -r training/requirements.txt")
    folder = trainer.args.output_dir
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    trainer.save_model(folder)
    if (Path(folder) / "adapter_config.json").exists() and trainer.accelerator.is_main_process:
        save_block(trainer.model, folder)


if __name__ == "__main__":
    main()
