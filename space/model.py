"""The one model of this Space, chosen at start: its answers and its attention under any geometry.

`MODEL_ID` in the environment names it, a directory or a hub id; the tiny checkpoint is the default. Every request
works on a model object of its own that shares the weights, so no request can disturb the positions of another.

On ZeroGPU what `spaces.GPU` decorates runs in a process that is forked while other requests are served: nothing in it
takes a lock, and nothing in it can refuse a visitor, which `prepare` has done before.
"""

import copy
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import spaces  # before torch, which it prepares for ZeroGPU

# isort: split
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
MAX_STEPS = 32  # of an answer, whose attention is kept one by one: a page holds it
IMAGE_INPUTS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")

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
    shared = {id(tensor): tensor for tensor in (*MODEL.parameters(), *MODEL.buffers())}
    model = copy.deepcopy(MODEL, shared)
    model.set_circle_rope(block)
    if attention is not None:
        model.set_attn_implementation(attention)
    return model


def prepare(media: list[Media], turns: list[tuple[str, str]], question: str) -> dict[str, torch.Tensor]:
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
    inputs = PROCESSOR(text=[text], return_tensors="pt", **arguments)
    longest = min(MAX_PROMPT_TOKENS, MODEL.config.text_config.max_position_embeddings)
    if (given := inputs["input_ids"].shape[1]) > longest:
        raise BadInput("too_many_tokens", given=f"{given:,}", allowed=f"{longest:,}")
    return dict(inputs)


@dataclass
class Attended:
    """An answer and its attention to the pictures."""

    text: str
    tokens: list[str]  # the first of the answer, at most MAX_STEPS
    weights: np.ndarray  # float16 (layers, heads, 1 + tokens, vision tokens), shares of 1; first the mean of all steps


class _Stop(StoppingCriteria):
    def __init__(self, event):
        self.event = event

    def __call__(self, input_ids, scores, **kwargs):
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device, dtype=torch.bool)


def _sampling(temperature):
    if temperature > 0:
        return {"do_sample": True, "temperature": temperature}
    return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def _seconds(inputs, blocks, max_new_tokens, *_) -> int:
    """For how long ZeroGPU lends a GPU: what a 7B model may need, so that short requests come first."""
    each = 3 + inputs["input_ids"].shape[1] / 1000 + max_new_tokens / 20
    return min(120, round(10 + each * (len(blocks) if isinstance(blocks, list) else 1)))


def _on_device(inputs):
    return {name: value.to(MODEL.device) for name, value in inputs.items()}


@spaces.GPU(duration=_seconds)
def answer(
    inputs: dict[str, torch.Tensor], block: dict, max_new_tokens: int, temperature: float = 0.0
) -> Iterator[str]:
    """The answer so far, as it grows. Closing the iterator ends the generation."""
    inputs = _on_device(inputs)
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


@spaces.GPU(duration=_seconds)
def compare(
    inputs: dict[str, torch.Tensor], blocks: list[dict], max_new_tokens: int
) -> Iterator[tuple[str, float, int]]:
    """Under each block in turn, the greedy answer, the seconds it took, and its number of tokens."""
    inputs = _on_device(inputs)
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


@spaces.GPU(duration=_seconds)
def attend(inputs: dict[str, torch.Tensor], blocks: list[dict], max_new_tokens: int) -> list[Attended]:
    """Under each block, the greedy answer and how much every picture token is attended to while it is written."""
    inputs = _on_device(inputs)
    with torch.inference_mode():
        return [_attend(inputs, block, max_new_tokens) for block in blocks]


def _attend(inputs, block, max_new_tokens):
    length = inputs["input_ids"].shape[1]
    output = view(block).generate(**inputs, **_sampling(0), max_new_tokens=max_new_tokens)
    is_vision = torch.isin(output[0], torch.tensor(VISION_TOKENS, device=output.device))
    taken = []

    def take(module, args, result):
        # The step that wrote token n looked from token n - 1. Only these rows are kept, one layer at a time.
        weights = result[1][0, :, length - 1 : -1][..., is_vision].float()
        taken.append(torch.cat([weights.mean(1, keepdim=True), weights[:, :MAX_STEPS]], 1).half().cpu())

    # Eager attention is the one that hands its weights out.
    model = view(block, "eager")
    for layer in model.model.language_model.layers:
        layer.self_attn.register_forward_hook(take)
    pictures = {key: inputs[key] for key in IMAGE_INPUTS if key in inputs}
    model(input_ids=output, use_cache=False, logits_to_keep=1, **pictures)
    new = output[0, length:]
    tokens = [PROCESSOR.tokenizer.decode([token]) for token in new[:MAX_STEPS].tolist()]
    text = PROCESSOR.tokenizer.decode(new, skip_special_tokens=True).strip()
    return Attended(text, tokens, torch.stack(taken).numpy())
