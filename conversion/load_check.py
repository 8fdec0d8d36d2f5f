"""Load a checkpoint directory through the Auto classes, in a process of its own: `check.py` starts it.

python load_check.py DIRECTORY small|large
python load_check.py DIRECTORY adapter BASE
"""

import sys
from pathlib import Path

# What is loaded must not find this repo's files, only those of the directory.
sys.path = [entry for entry in sys.path if entry and Path(entry).resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig  # noqa: E402

stage = "AutoConfig"


def enter(name):
    """Say what is tried, for the message if it fails."""
    global stage
    stage = name


def load_config(directory):
    enter("AutoConfig")
    return AutoConfig.from_pretrained(directory, trust_remote_code=True)


def build_on_meta(config):
    enter("AutoModelForImageTextToText")
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=True)


def load(directory):
    enter("AutoModelForImageTextToText")
    model, found = AutoModelForImageTextToText.from_pretrained(
        directory, trust_remote_code=True, dtype="auto", output_loading_info=True
    )
    wrong = {key: sorted(map(str, names)) for key, names in found.items() if names}
    if wrong:
        raise ValueError(f"loading reports {wrong}")
    return model.eval()


def make_inputs(processor):
    """A small grey picture as the processor prepares it."""
    from PIL import Image

    enter("AutoProcessor")
    picture = Image.new("RGB", (112, 112), "grey")
    text = f"<|vision_start|>{getattr(processor, 'image_token', '<|image_pad|>')}<|vision_end|>"
    return processor(text=[text], images=[picture], return_tensors="pt")


def check_fit(model, inputs, directory):
    """What a forward would trip over, without the weights: the processor's tokens and patches are the model's."""
    enter("get_rope_index")
    model.model.get_rope_index(inputs["input_ids"], inputs["image_grid_thw"])
    if int(inputs["input_ids"].max()) >= model.config.text_config.vocab_size:
        raise ValueError("the processor gives token ids that the model does not have")
    wanted, found = model.model.visual.patch_embed.proj.weight[0].numel(), inputs["pixel_values"].shape[-1]
    if found != wanted:
        raise ValueError(f"the processor gives patches of {found} values, but the model takes {wanted}")
    enter("GenerationConfig")
    if (Path(directory) / "generation_config.json").is_file():
        GenerationConfig.from_pretrained(directory)


def generate_one_token(model, inputs):
    """One token after the picture."""
    enter("generate")
    output = model.generate(**inputs.to(model.device), max_new_tokens=1, min_new_tokens=1, do_sample=False)
    if output.shape[1] != inputs["input_ids"].shape[1] + 1:
        raise ValueError("no token was generated")


def check_model(directory, size):
    config = load_config(directory)
    enter("AutoProcessor")
    processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True)
    if not hasattr(processor, "image_processor"):
        raise ValueError("there is no image processor: copy the processor's files from the base")
    inputs = make_inputs(processor)
    if size == "small":
        generate_one_token(load(directory), inputs)
    else:
        check_fit(build_on_meta(config), inputs, directory)


def check_adapter(directory, base):
    """The adapter's tensors are those that PEFT makes on this base, by name and shape."""
    try:
        from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
    except ImportError:
        print("note: PEFT is not installed, so the adapter was not loaded onto its base")
        return
    from safetensors import safe_open

    model = build_on_meta(load_config(base))
    enter("PEFT")
    wanted = get_peft_model_state_dict(get_peft_model(model, PeftConfig.from_pretrained(directory)))
    wanted = {name: list(tensor.shape) for name, tensor in wanted.items()}
    with safe_open(Path(directory) / "adapter_model.safetensors", framework="pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a dict)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(f"{name} is {found.get(name)} in the adapter and {wanted.get(name)} on the base {base}")


if __name__ == "__main__":
    try:
        if sys.argv[2] == "adapter":
            check_adapter(sys.argv[1], sys.argv[3])
        else:
            check_model(*sys.argv[1:])
    except Exception as error:  # whatever a user would meet
        sys.exit(f"error: {stage}: {type(error).__name__}: {' '.join(str(error).split())}")
