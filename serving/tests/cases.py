"""Requests about pictures and videos, and what transformers answers to them.

An answer of vLLM is held against one forward of the whole sequence in transformers, without a cache: a wrong position
of any token of the prompt or the answer moves its log-probabilities.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import vllm
from PIL import Image
from transformers import Qwen2_5_VLProcessor
from transformers.video_utils import VideoMetadata
from vllm import SamplingParams

from circle_rope_vllm import release_of
from circle_rope_vllm.start import WITH_TIMES_OF_FRAMES
from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "examples" / "shapes.png"
BLOCKS = {
    "circle": {},
    "strategy_2": {"AGE_mode": "strategy_2"},
    "strategy_3": {"AGE_mode": "strategy_3"},
    "strategy_4": {"AGE_mode": "strategy_4"},
    "mrope": {"AGE_mode": ["mrope"] * 6},
    "interleaved": {"AGE_mode": "strategy_4", "mrope_interleaved": True},
}
TAKES_VIDEOS = release_of(vllm) >= WITH_TIMES_OF_FRAMES
MEDIA = {} if TAKES_VIDEOS else {"limit_mm_per_prompt": {"video": 0}}
TOLERANCE = 1e-4
HALF_TOLERANCE = 0.1  # of bfloat16, in the mean; one token at a steep place can be off by more than one
# Long, past the end of the answer: a wrong position shows late.
GREEDY = SamplingParams(temperature=0, max_tokens=80, ignore_eos=True, logprobs=1, prompt_logprobs=0)


@dataclass
class Case:
    """A prompt with its pictures (PIL) and videos (uint8 arrays of frames), and the processor that reads it."""

    prompt: str
    images: list = field(default_factory=list)
    videos: list = field(default_factory=list)
    processor: Qwen2_5_VLProcessor = None

    @property
    def request(self):
        videos = [(frames, {**metadata(frames), "do_sample_frames": False}) for frames in self.videos]
        data = {key: value for key, value in (("image", self.images), ("video", videos)) if value}
        return {"prompt": self.prompt, "multi_modal_data": data} if data else {"prompt": self.prompt}

    @functools.cached_property
    def inputs(self):
        videos = {}
        if self.videos:
            about = [VideoMetadata(**metadata(frames)) for frames in self.videos]
            videos = {"videos": self.videos, "video_metadata": about, "do_sample_frames": False}
        return (self.processor or processor())(
            text=[self.prompt], images=self.images or None, **videos, return_tensors="pt"
        )

    @property
    def slots_of_pictures(self):
        return (self.inputs["input_ids"][0] == processor().image_token_id).nonzero()[:, 0]


@functools.cache
def processor():
    # The checkpoint's own makes every picture small.
    return Qwen2_5_VLProcessor.from_pretrained(ROOT, size={"shortest_edge": 56**2, "longest_edge": 448**2})


def save_checkpoint(directory, block):
    """The root's checkpoint under another block, complete."""
    model = load(ROOT)
    model.set_circle_rope({**model.config.circle_rope, "AGE_mode": None, **BLOCKS[block]})
    model.save_pretrained(directory)
    processor().save_pretrained(directory)
    return directory


def load(directory):
    """The checkpoint in transformers, float32."""
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(directory)
    return Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(
        directory, config=config, dtype=torch.float32
    ).eval()


def save_adapter(directory, of, seed=0):
    """An adapter with random weights for a checkpoint; the model in transformers into which it is merged."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    layers = r".*language_model.*\.(q_proj|v_proj|down_proj)"
    adapted = get_peft_model(load(of), LoraConfig(r=8, target_modules=layers))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(directory)
    return adapted.merge_and_unload()


def picture(width=112, height=112):
    """The example picture at another size, so with another grid."""
    return Image.open(SHAPES).convert("RGB").resize((width, height))


def metadata(frames):
    """About a video with fractional seconds between its frames."""
    count = len(frames)
    return {"fps": 1.5, "total_num_frames": count, "frames_indices": list(range(count)), "duration": count / 1.5}


def video(frames=6, width=112, height=84):
    if not TAKES_VIDEOS:
        return picture(width, height)
    return np.stack([np.asarray(picture(width, height).rotate(10 * frame)) for frame in range(frames)])


def ask(*contents, question="Where is the red circle?", of=None):
    """One turn about the given pictures and videos; `of` has another processor than the checkpoints here."""
    case = converse([(contents, question)])
    case.processor = of and Qwen2_5_VLProcessor.from_pretrained(of)
    return case


def converse(turns):
    """Several turns, each with pictures or videos of its own, and an answer to all but the last."""
    messages, images, videos = [], [], []
    for contents, question in turns:
        if messages:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": "top left"}]})
        kinds = ["video" if isinstance(content, np.ndarray) else "image" for content in contents]
        videos += [content for content, kind in zip(contents, kinds) if kind == "video"]
        images += [content for content, kind in zip(contents, kinds) if kind == "image"]
        parts = [*({"type": kind} for kind in kinds), {"type": "text", "text": question}]
        messages.append({"role": "user", "content": parts})
    return Case(processor().apply_chat_template(messages, add_generation_prompt=True, tokenize=False), images, videos)


def all_kinds():
    """Text alone, one picture, several of different sizes, a video, both, and several turns."""
    return [
        ask(),
        ask(picture()),
        ask(picture(168, 84), picture(84, 224), question="Which shape is larger?"),
        ask(video()),
        ask(picture(140, 112), video(4, 84, 84), question="Where is the blue square? " * 4),
        converse([((picture(),), "Where is the red circle?"), ((picture(224, 56),), "And here?"), ((), "Which one?")]),
    ]


@torch.no_grad()
def log_probabilities(model, case, tokens):
    """Of every token of prompt and answer but the first, given those before it, `(length - 1, vocabulary)`."""
    inputs = {key: value for key, value in case.inputs.items() if key not in ("attention_mask", "mm_token_type_ids")}
    prompt = inputs["input_ids"][0].tolist()
    inputs["input_ids"] = torch.tensor([prompt + list(tokens)])
    return model(**inputs).logits[0, :-1].float().log_softmax(-1)


def differences(model, case, output, of=0):
    """How far every log-probability of one answer, prompt included, is from that in transformers."""
    answer = output.outputs[of]
    prompt = case.inputs["input_ids"][0].tolist()
    assert output.prompt_token_ids == prompt
    expected = log_probabilities(model, case, answer.token_ids)
    given = [*(output.prompt_logprobs or [None] * len(prompt))[1:], *answer.logprobs]
    return [
        abs(place[token].logprob - row[token].item())
        for place, row, token in zip(given, expected, [*prompt, *answer.token_ids][1:])
        if place is not None
    ]


def largest_difference(model, case, output, of=0):
    """The largest of `differences`."""
    return max(differences(model, case, output, of))


def check(model, cases, outputs, tolerance=TOLERANCE):
    """Every answer is the greedy one, and every log-probability of prompts and answers that of transformers."""
    assert len(cases) == len(outputs)
    for case, output in zip(cases, outputs):
        tokens = list(output.outputs[0].token_ids)
        greedy = log_probabilities(model, case, tokens)[-len(tokens) :].argmax(-1)
        assert tokens == greedy.tolist()
        assert largest_difference(model, case, output) < tolerance
