"""Small models with random weights, and inputs for them, on every supported release."""

import inspect
import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2, plain_rope
from conversion.base import CARD, COMPANIONS, SINGLE
from conversion.core import MODULES
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, new_name

ROOT = Path(__file__).resolve().parent.parent
# Of the root, the files that are its checkpoint, among them its code and its card.
CHECKPOINT = {name for name in ("config.json", SINGLE, CARD, *COMPANIONS, *MODULES) if (ROOT / name).is_file()}
AutoModelForVision = getattr(transformers, "AutoModelForVision2Seq", None) or transformers.AutoModelForImageTextToText

IMAGE, VIDEO, VISION_START, VISION_END = 190, 191, 192, 193
STRATEGIES = [None, "strategy_2", "strategy_3", "strategy_4"]
PATCH_VALUES = 3 * 2 * 14 * 14


def config_arguments(layers=4):
    return {
        "text_config": {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 400,
            "max_position_embeddings": 512,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 14,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [0, 1],
            "tokens_per_second": 2,
            "window_size": 56,
        },
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
        "tie_word_embeddings": False,
    }


# What a release calls the cache: older ones have the older name alone, newer ones take both.
NAMES_OF_THE_CACHE = [
    "past_key_values",
    *({"cache"} & set(inspect.signature(Qwen2_5_VLForConditionalGeneration.forward).parameters)),
]

# A model with random weights may well say a placeholder.
GREEDY = {"do_sample": False, "return_dict_in_generate": True, "suppress_tokens": [IMAGE, VIDEO]}

# Every way to scale a rope that upstream has for Qwen2.5-VL.
SECTIONS = {"mrope_section": [2, 3, 3]}
ROPES = {
    "default": {"type": "mrope", **SECTIONS},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, **SECTIONS},
    "linear": {"type": "linear", "factor": 2.0, **SECTIONS},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0, **SECTIONS},
}


def make_config(block=None, layers=4, rope_scaling=None):
    arguments = config_arguments(layers)
    if rope_scaling is not None:
        arguments["text_config"]["rope_scaling"] = dict(rope_scaling)
    return Qwen2_5_VLConfig_CircleRoPE_V2(circle_rope=block, **arguments)


def make_stock():
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config_arguments())).eval()


def make_model(stock, block=None):
    """A Circle-RoPE model with the stock model's weights."""
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(make_config(block)).eval()
    model.load_state_dict(stock.state_dict())
    return model


def save_base(directory):
    """A complete stock checkpoint, as this release saves it, with a processor whose tokens fit its vocabulary."""
    from shapes.checkpoint import save_processor

    model = make_stock()
    model.save_pretrained(directory)
    save_processor(directory, ["Where is the red circle? What colour is the triangle?"])
    return directory


def copy_checkpoint(directory, without=()):
    """The root's checkpoint alone, in a directory that is made."""
    Path(directory).mkdir(parents=True)
    for name in CHECKPOINT - set(without):
        shutil.copyfile(ROOT / name, Path(directory) / name)
    return Path(directory)


def save_as_stock(directory):
    """The root's weights as an official checkpoint: stock classes, no block."""
    own = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(ROOT)
    with plain_rope(own.config.text_config):
        kept = {key: value for key, value in own.config.to_dict().items() if key not in ("circle_rope", "auto_map")}
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict({**kept, "model_type": "qwen2_5_vl"}))
    model.load_state_dict(own.state_dict())
    model.save_pretrained(directory)
    for name in COMPANIONS:
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, directory / name)
    return directory


def old_name(name):
    """The inverse of the renaming: `model.visual.x` is `visual.x` in official checkpoints."""
    return name.removeprefix("model.") if name.startswith("model.visual.") else name.replace(".language_model", "")


def write_layout(source, directory, layout, sharded=False):
    """A copy of a checkpoint with the "old" or "new" names, or those that a function makes, in one file or several."""
    shutil.copytree(source, directory, dirs_exist_ok=True)
    state = {new_name(name): tensor for name, tensor in read_tensors(source).items()}
    if layout != "new":
        rename = old_name if layout == "old" else layout
        state = {rename(name): tensor for name, tensor in state.items()}
    for file in directory.glob("*.safetensors*"):
        file.unlink()
    if not sharded:
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        return directory
    names, weight_map = sorted(state), {}
    for number in range(3):
        shard = f"model-0000{number + 1}-of-00003.safetensors"
        part = {name: state[name] for name in names[number::3]}
        save_file(part, directory / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def read_tensors(directory):
    """Every tensor of a checkpoint, by the name it has there."""
    state = {}
    for file in sorted(Path(directory).glob("*.safetensors")):
        state |= load_file(file)
    return state


def load_whole(cls, directory, **kwargs):
    """Load, and fail on any tensor that is missing, left over or of another shape."""
    model, info = cls.from_pretrained(directory, output_loading_info=True, **kwargs)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def text(length):
    return torch.randint(3, 180, (length,)).tolist()


def picture(grid, token=IMAGE):
    t, h, w = grid
    return [VISION_START] + [token] * (t * h * w // 4) + [VISION_END]


def pad(rows, side="left"):
    """Token rows of different lengths as input_ids and attention_mask."""
    longest = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        padding = [0] * (longest - len(row))
        ids.append(padding + row if side == "left" else row + padding)
        real, none = [1] * len(row), [0] * len(padding)
        mask.append(none + real if side == "left" else real + none)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def pixels(grids):
    return torch.randn(sum(t * h * w for t, h, w in grids), PATCH_VALUES)


def with_images(rows, grids, side="left"):
    return {**pad(rows, side), "pixel_values": pixels(grids), "image_grid_thw": torch.tensor(grids)}


def with_videos(rows, grids, seconds, side="left"):
    return {
        **pad(rows, side),
        "pixel_values_videos": pixels(grids),
        "video_grid_thw": torch.tensor(grids),
        "second_per_grid_ts": torch.tensor(seconds),
    }


def image_batch(side="left"):
    """Two samples: one with two images, one shorter with one."""
    grids = [[1, 4, 6], [1, 6, 4], [1, 4, 4]]
    rows = [text(5) + picture(grids[0]) + text(4) + picture(grids[1]) + text(6), text(3) + picture(grids[2]) + text(4)]
    return with_images(rows, grids, side)


def one_image():
    grid = [1, 6, 8]
    return with_images([text(5) + picture(grid) + text(6)], [grid])


def video_batch():
    """Two samples: a video and an image-less text, the video with fractional seconds."""
    grid = [3, 4, 6]
    return with_videos([text(5) + picture(grid, VIDEO) + text(6), text(9)], [grid], [0.7])


def for_stock(inputs, stock):
    """The same inputs with what the running release's stock class wants beside them."""
    if "mm_token_type_ids" not in inspect.signature(stock.forward).parameters:
        return inputs
    ids = inputs["input_ids"]
    return {**inputs, "mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == VIDEO).int()}


def golden():
    return json.loads((ROOT / "tests" / "golden" / "reference_positions.json").read_text())
