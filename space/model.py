"""The one model of this Space, chosen at start: its answers and its attention under any geometry.

`MODEL_ID` in the environment names it, a directory or a hub id; the tiny checkpoint is the default. Every request
works on a model object of its own that shares the weights, so no request can disturb the positions of another.
"""

import copy
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

try:  # on ZeroGPU; must come before torch
    from spaces import GPU as gpu
except ImportError:

    def gpu(function):
        """Elsewhere the model has its device at all times."""
        return function


import numpy as np
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from limits import MAX_PROMPT_TOKENS, BadInput, Media

HERE = Path(__file__).resolve().parent
MODEL_ID = os.environ.get("MODEL_ID") or str(
    HERE / "tiny" if (HERE / "tiny").is_dir() else HERE.parent  # a Space has it in a folder, the repo is it
)
IS_TINY = "MODEL_ID" not in os.environ
# A directory is shown by its name alone: visitors need not know the machine.
NAME = "tiny" if IS_TINY else Path(MODEL_ID).name if Path(MODEL_ID).is_dir() else MODEL_ID


def _load():
    """Processor and model; what cannot be loaded ends the app with one sentence."""
    try:
        processor = AutoProcessor.from_pretrained(MODEL_ID, trust_remote_code=True)
        model = AutoModelForImageTextToText.from_pretrained(MODEL_ID, trust_remote_code=True, dtype="auto")
    except Exception as error:  # libraries raise whatever comes at a config that they cannot use
        raise SystemExit(f"error: MODEL_ID {MODEL_ID} cannot be loaded: {' '.join(str(error).split())}") from None
    if not hasattr(model.config, "circle_rope"):
        raise SystemExit(f"error: MODEL_ID {MODEL_ID} has no Circle-RoPE: convert it with push_to_hub.py first.")
    return processor, model


PROCESSOR, MODEL = _load()
MODEL.to("cuda" if torch.cuda.is_available() else "cpu").eval()
# The geometry comes from the checkpoint's own modules: a Space is pushed without the repo around it.
GEOMETRY = sys.modules[type(MODEL.model.geometries[0]).__module__]

OWN_BLOCK = dict(MODEL.config.circle_rope)
LAYERS = MODEL.config.text_config.num_hidden_layers
HEADS = MODEL.config.text_config.num_attention_heads
SPECIAL_TOKENS = PROCESSOR.tokenizer.all_special_tokens
VISION_TOKENS = (MODEL.config.image_token_id, MODEL.config.video_token_id)
IMAGE_INPUTS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")

# transformers sets the default dtype of the whole process while it builds a model.
_BUILDING = threading.Lock()

SCHEDULES = {
    "mrope": ["mrope"] * LAYERS,
    "circle": None,
    **{name: name for name in ("strategy_2", "strategy_3", "strategy_4")},
}
OWN_MODE = OWN_BLOCK.get("AGE_mode")
if isinstance(OWN_MODE, (list, tuple)) and list(OWN_MODE) != SCHEDULES["mrope"]:
    SCHEDULES["own"] = list(OWN_MODE)
OWN_SCHEDULE = next(
    (name for name, mode in SCHEDULES.items() if mode == OWN_MODE or (mode and mode == list(OWN_MODE or ()))), "circle"
)
OWN_RADIUS = OWN_BLOCK.get("circle_r", OWN_BLOCK.get("radius", 10))
OWN_ALPHA = OWN_BLOCK.get("alpha", 0.5)
OWN_DFF_RATE = float(OWN_BLOCK.get("dff_rate") or 0)


def layers_of(geometry: str) -> tuple[str, ...]:
    """`"circle"` or `"mrope"` for every layer, under a choice in `SCHEDULES`."""
    return sys.modules[type(MODEL.config).__module__].age_schedule(SCHEDULES[geometry], LAYERS)


def make_block(geometry: str, radius: float | None, alpha: float | None, dff_rate: float | None) -> dict:
    """The `circle_rope` block of a choice in `SCHEDULES` and the sliders; None leaves the model's own value."""
    block = {**OWN_BLOCK, "AGE_mode": SCHEDULES[geometry]}
    if radius is not None:
        block.pop("circle_r", None)
        block["radius"] = radius
    if alpha is not None:
        block["alpha"] = alpha
    if dff_rate is not None:
        block["dff_rate"] = dff_rate or False
    return block


def view(block: dict, attention: str | None = None):
    """A model with the weights of the loaded one, not copied, under another `circle_rope` block."""
    config = copy.deepcopy(MODEL.config)
    config.circle_rope = block
    with _BUILDING, torch.device("meta"):
        model = type(MODEL)(config)
    model.load_state_dict(MODEL.state_dict(keep_vars=True), assign=True)
    for name, buffer in MODEL.named_buffers():
        module, _, last = name.rpartition(".")
        model.get_submodule(module).register_buffer(last, buffer, persistent=False)
    if attention is not None:
        model.set_attn_implementation(attention)
    model.generation_config = MODEL.generation_config
    return model.eval()


def prepare(media: list[Media], turns: list[tuple[str, str]], question: str):
    """What the processor makes of a conversation, on the CPU: pictures first, then earlier turns and the question.

    Raises:
        BadInput: more tokens than are allowed.
    """
    asked = [{"type": item.kind} for item in media]
    messages = []
    for earlier, answer in turns:
        messages += [
            {"role": "user", "content": [*asked, {"type": "text", "text": earlier}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        asked = []
    messages.append({"role": "user", "content": [*asked, {"type": "text", "text": question}]})
    text = PROCESSOR.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    images = [item.frames[0] for item in media if item.kind == "image"]
    videos = [item for item in media if item.kind == "video"]
    arguments = {"images": images} if images else {}
    if videos:
        arguments |= {
            "videos": [np.stack([np.asarray(frame) for frame in item.frames]) for item in videos],
            "do_sample_frames": False,
            "video_metadata": [
                {
                    "fps": item.fps,
                    "total_num_frames": len(item.frames),
                    "frames_indices": list(range(len(item.frames))),
                }
                for item in videos
            ],
        }
    with _BUILDING:
        inputs = PROCESSOR(text=[text], return_tensors="pt", **arguments)
    longest = min(MAX_PROMPT_TOKENS, MODEL.config.text_config.max_position_embeddings)
    if (given := inputs["input_ids"].shape[1]) > longest:
        raise BadInput("too_many_tokens", given=f"{given:,}", allowed=f"{longest:,}")
    return inputs


class _Stop(StoppingCriteria):
    def __init__(self, event):
        self.event = event

    def __call__(self, input_ids, scores, **kwargs):
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device, dtype=torch.bool)


def _sampling(temperature):
    if temperature > 0:
        return {"do_sample": True, "temperature": temperature}
    return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


@gpu
def answer(
    media: list[Media],
    turns: list[tuple[str, str]],
    question: str,
    block: dict,
    max_new_tokens: int,
    temperature: float = 0.0,
) -> Iterator[str]:
    """The answer so far, as it grows. Closing the iterator ends the generation."""
    inputs = prepare(media, turns, question).to(MODEL.device)
    model = view(block)
    streamer = TextIteratorStreamer(PROCESSOR.tokenizer, skip_prompt=True, skip_special_tokens=True)
    stop, failures = threading.Event(), []

    def generate():
        try:
            with torch.inference_mode():
                model.generate(
                    **inputs,
                    **_sampling(temperature),
                    max_new_tokens=max_new_tokens,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_Stop(stop)]),
                )
        except Exception as error:  # told to the visitor by whoever reads the stream
            failures.append(error)
            streamer.text_queue.put(streamer.stop_signal)

    thread = threading.Thread(target=generate, daemon=True)
    thread.start()
    text = ""
    try:
        for piece in streamer:
            text += piece
            yield text
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


@gpu
def compare(
    media: list[Media], turns: list[tuple[str, str]], question: str, blocks: list[dict], max_new_tokens: int
) -> Iterator[tuple[str, float, int]]:
    """Under each block in turn, the greedy answer, the seconds it took, and its number of tokens."""
    inputs = prepare(media, turns, question).to(MODEL.device)
    length = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        for number, block in enumerate(blocks):
            model = view(block)
            if number == 0:  # the first call ever on a device is slower than the rest
                model.generate(**inputs, **_sampling(0), max_new_tokens=1)
            began = time.perf_counter()
            output = model.generate(**inputs, **_sampling(0), max_new_tokens=max_new_tokens)
            new = output[0, length:].cpu()
            seconds = time.perf_counter() - began
            yield PROCESSOR.tokenizer.decode(new, skip_special_tokens=True).strip(), seconds, len(new)


@gpu
def attend(
    media: list[Media], turns: list[tuple[str, str]], question: str, block: dict, max_new_tokens: int
) -> tuple[str, np.ndarray]:
    """The greedy answer, and how much each picture token is attended to while it is written.

    Returns:
        The answer, and float32 `(layers, heads, vision tokens)`: attention weights (shares of 1), the mean over the
        steps that each wrote one token of the answer.
    """
    inputs = prepare(media, turns, question).to(MODEL.device)
    length = inputs["input_ids"].shape[1]
    taken = []
    with torch.inference_mode():
        output = view(block).generate(**inputs, **_sampling(0), max_new_tokens=max_new_tokens)
        is_vision = torch.isin(output[0], torch.tensor(VISION_TOKENS, device=output.device))

        def take(module, args, result):
            # The step that wrote token n looked from token n - 1. Only these rows are kept, one layer at a time.
            weights = result[1][0, :, length - 1 : -1]
            taken.append(weights[..., is_vision].float().mean(1).cpu())

        # Eager attention is the one that hands its weights out.
        model = view(block, "eager")
        for layer in model.model.language_model.layers:
            layer.self_attn.register_forward_hook(take)
        pictures = {key: inputs[key] for key in IMAGE_INPUTS if key in inputs}
        model(input_ids=output, use_cache=False, logits_to_keep=1, **pictures)
    text = PROCESSOR.tokenizer.decode(output[0, length:], skip_special_tokens=True).strip()
    return text, torch.stack(taken).numpy()
