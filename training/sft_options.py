"""Options of `sft.py` that TRL or Trainer would take and then ignore: each is refused with one sentence."""

import importlib.util
from dataclasses import fields

import torch

# Options that have no meaning here, and what to do instead.
REFUSED = {
    "dataset_streaming": "rows are checked before training, and a stream has no end",
    "ignore_bias_buffers": "the model has no bias buffers",
    "model_init_kwargs": "give --dtype, --attn_implementation or --load_in_4bit instead",
    "dataset_text_field": "the text of a row is in its messages",
    "dataset_kwargs": "rows are prepared one way only",
    "packing": "TRL cannot pack rows with pictures: pack with ms-swift",
    "packing_strategy": "TRL cannot pack rows with pictures: pack with ms-swift",
    "eval_packing": "TRL cannot pack rows with pictures: pack with ms-swift",
    "padding_free": "TRL cannot flatten rows with pictures: use ms-swift's --padding_free",
    "assistant_only_loss": "only answers are learned as it is (or all tokens, with --completion_only_loss false)",
    "truncation_mode": "only the end of a row can be cut, since pictures stand before it",
    "router_aux_loss_coef": "the model has no experts",
    "label_smoothing_factor": "Trainer would not shift the labels of this model",
    "trust_remote_code": "the classes of this repo are used, and no code of a checkpoint runs",
    "lora_task_type": "the model is a language model",
    "do_predict": "generate with what was trained, by swift infer or model.generate",
    "include_for_metrics": "there is no metric but the loss",
    "batch_eval_metrics": "there is no metric but the loss",
}
# Options that say something about another, which then has to be there.
NEEDED = {
    **dict.fromkeys(
        (
            *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters"),
            *("lora_modules_to_save", "use_rslora", "use_dora", "load_in_8bit", "load_in_4bit"),
        ),
        "use_peft",
    ),
    **dict.fromkeys(("bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage"), "load_in_4bit"),
    "anneal_steps": "anneal",
    "liger_kernel_config": "use_liger_kernel",
}
PACKAGES = {"use_peft": "peft", "load_in_8bit": "bitsandbytes", "load_in_4bit": "bitsandbytes"}


def check_options(parsed: tuple, defaults: tuple) -> None:
    """Refuse what would be ignored.

    Args:
        parsed: dataclass instances as they came from the command line.
        defaults: the same from an empty one.

    Raises:
        ValueError: an option that has no meaning here, or without the one or the package that it needs.
    """
    values = {field.name: getattr(part, field.name) for part in parsed for field in fields(part) if field.init}
    given = {
        field.name
        for part, default in zip(parsed, defaults)
        for field in fields(part)
        if field.init and getattr(part, field.name) != getattr(default, field.name)
    }
    for name in given:
        if name in REFUSED:
            raise ValueError(f"--{name} has no use here: {REFUSED[name]}.")
        needed = NEEDED.get(name)
        if needed is not None and not values.get(needed):
            raise ValueError(f"--{name} was given without --{needed}, and means nothing then: give both or neither.")
        if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
            raise ValueError(f"--{name} needs {PACKAGES[name]}: pip install {PACKAGES[name]}.")
    if values["train_vision"] and values["use_peft"]:
        raise ValueError(
            "--train_vision was given with --use_peft, which freezes the whole base: name the tower's modules in "
            "--lora_target_modules instead."
        )
    if values["activation_offloading"] and not torch.accelerator.is_available():
        raise ValueError("--activation_offloading was given, but there is no accelerator to free: leave it out.")
    template = values.get("chat_template_path")
    if template is not None and not template.endswith((".jinja", ".j2")):
        raise ValueError(f"--chat_template_path {template} is no template: give a .jinja file.")
