"""The parts of the tiny checkpoint that are not learned: tokenizer, processor, and the model's dimensions."""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

from .lessons import converse
from .pictures import make_motion, make_scene
from .questions import facts, of_video
from .words import NAMES

# Qwen2.5-VL's special tokens, in the order of their ids.
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]

# The conversation format of Qwen2.5-VL.
CHAT_TEMPLATE = (Path(__file__).parent.parent / "chat_template.jinja").read_text(encoding="utf-8")

PICTURE_SIZE = 112
PATCH_SIZE = 14

# About 1 / sqrt(width): with upstream's 0.02 so narrow a model takes far longer to begin to look at its pictures.
INITIALIZER_RANGE = 0.08


def _sentences():
    """What the tokenizer learns its merges from: the words of the task, small and in capitals, and single characters
    of Chinese, which are words in any order. The roles are in every prompt, so each is to be one token."""
    yield 40 * "system\nYou are a helpful assistant.\nuser\nassistant\n"
    yield "\n".join(20 * "".join(NAMES["zh"].values()))
    rng = random.Random(0)
    for number in range(400):
        known = facts(make_scene(rng, held_out=False, side=3), 3, rng)
        known += [fact._replace(scope=rng.choice(["first", "second"])) for fact in known]
        known += of_video(*make_motion(rng, held_out=False), 2, rng)
        for question in converse(known, rng, 8, held_out=False):
            if question.language == "zh":
                yield "\n".join(3 * (question.text + question.answer))
            else:
                text = f"{question.text}\n{question.answer}\n{question.text.lower()}"
                yield text.upper() if number % 12 == 0 else text


def _train_tokenizer(sentences) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return tokenizer


def save_processor(directory: Path, sentences=None, **pixels) -> Qwen2_5_VLProcessor:
    """Make the tokenizer and the processor and save them, in the files that an official checkpoint has.

    `sentences` are what the tokenizer learns from, the task's own if not given; `pixels` are `patch_size`,
    `min_pixels` and `max_pixels` of the image processor.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # An earlier one would be read in place of the files below.
    (directory / "tokenizer.json").unlink(missing_ok=True)
    trained = json.loads(_train_tokenizer(sentences or _sentences()).to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in trained["merges"]]
    (directory / "vocab.json").write_text(json.dumps(trained["vocab"], ensure_ascii=False), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    first = len(trained["vocab"])
    (directory / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "Qwen2Tokenizer",
                "added_tokens_decoder": {
                    str(first + number): {
                        "content": token,
                        "lstrip": False,
                        "normalized": False,
                        "rstrip": False,
                        "single_word": False,
                        "special": True,
                    }
                    for number, token in enumerate(SPECIAL_TOKENS)
                },
                "additional_special_tokens": SPECIAL_TOKENS[1:],
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "bos_token": None,
                "unk_token": None,
                "add_prefix_space": False,
                "clean_up_tokenization_spaces": False,
                "errors": "replace",
                "model_max_length": 4096,
                "padding_side": "left",
            },
            indent=2,
        )
        + "\n"
    )
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    pixels = {"min_pixels": PICTURE_SIZE**2, "max_pixels": PICTURE_SIZE**2, "patch_size": PATCH_SIZE, **pixels}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=CHAT_TEMPLATE,
    )
    write_processor(processor, directory)
    return processor


def write_processor(processor: Qwen2_5_VLProcessor, directory: Path):
    """Save it so that every release reads it: transformers 5 writes `extra_special_tokens` as a list, which 4 cannot
    read; both read its older name."""
    processor.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
        for left_over_from_loading in ("is_local", "local_files_only"):
            config.pop(left_over_from_loading, None)
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def model_config(processor: Qwen2_5_VLProcessor, circle_rope: dict) -> dict:
    """The arguments of the tiny model's configuration."""
    token_id = processor.tokenizer.convert_tokens_to_ids
    return {
        "text_config": {
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "initializer_range": INITIALIZER_RANGE,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
            "bos_token_id": token_id("<|endoftext|>"),
            "eos_token_id": token_id("<|im_end|>"),
            "pad_token_id": token_id("<|endoftext|>"),
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 128,
            "initializer_range": INITIALIZER_RANGE,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": PATCH_SIZE,
            "out_hidden_size": 128,
            "window_size": 112,
            "fullatt_block_indexes": [0, 1],
            "tokens_per_second": 2,
        },
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
        "tie_word_embeddings": True,
        "circle_rope": circle_rope,
    }
