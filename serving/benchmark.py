"""Speed in vLLM against its stock Qwen2.5-VL: the same weights, engines in turns, so that both see the same machine.

    python -m serving.benchmark [--layers 8] [--rounds 5] [--device-options '{"enforce_eager": true}']

Every round gives each engine the same requests: a prefill (one token is asked for) and a decode, with 1 and with 16
requests at once. Printed are the stock engine's tokens per second and, of each other engine, the median and the
quartiles of the ratio to the stock engine of the same round. A second stock engine shows the noise.
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m serving.benchmark", file=sys.stderr)
    sys.exit(2)

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
ROOT = Path(__file__).resolve().parents[1]

ARMS = {"stock": "stock", "stock again": "stock", "circle": None, "AGE strategy_4": "strategy_4"}
NEW_TOKENS = 64


def make_checkpoints(directory, layers):
    """Random weights of the 3B's width with few layers: stock, and the same under each block."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
    from conversion.base import COMPANIONS

    own = json.loads((ROOT / "config.json").read_text())
    text = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": own["text_config"]["vocab_size"],
        "max_position_embeddings": 32768,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }
    ids = {key: value for key, value in own.items() if key.endswith("_token_id")}
    vision = {**own["vision_config"], "out_hidden_size": 2048}
    arguments = {"text_config": text, "vision_config": vision, "tie_word_embeddings": True, **ids}
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**arguments)).to(torch.bfloat16)
    made = {}
    for block in dict.fromkeys(ARMS.values()):
        made[block] = directory / str(block)
        model.save_pretrained(made[block])
        for file in filter(Path.is_file, (ROOT / name for name in COMPANIONS)):
            shutil.copy(file, made[block])
        if block != "stock":
            config = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(made[block])
            config.circle_rope = {"AGE_mode": block}
            config.architectures = ["Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2"]
            config.save_pretrained(made[block])
    return made


def seconds(engine, requests, new_tokens):
    """Time of one call, with requests that no cache knows."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False)
    start = time.perf_counter()
    engine.generate(requests, sampling, use_tqdm=False)
    return time.perf_counter() - start


def noise(count, size, seed):
    """Pictures of noise, all different; `size` is (width, height), or one number for both."""
    import numpy as np
    from PIL import Image

    width, height = (size, size) if isinstance(size, int) else size
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))


def requests_of(processor, count, size, seed):
    """Requests about one picture of noise each, all different."""
    turn = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where is the red circle? " * 20}]}
    ]
    prompt = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return [{"prompt": prompt, "multi_modal_data": {"image": picture}} for picture in noise(count, size, seed)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8, help="layers of the text model (default: 8)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each with every engine in turn (default: 5)")
    parser.add_argument("--device-options", default="{}", help="further options of vLLM's engine, as JSON")
    arguments = parser.parse_args()
    from transformers import Qwen2_5_VLProcessor
    from vllm import LLM

    with tempfile.TemporaryDirectory() as directory:
        made = make_checkpoints(Path(directory), arguments.layers)
        options = {"dtype": "bfloat16", "max_model_len": 1024, "max_num_seqs": 16, "enable_prefix_caching": False}
        options |= {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": 1 << 29}
        options |= {"mm_processor_cache_gb": 0, **json.loads(arguments.device_options)}
        engines = {name: LLM(str(made[block]), **options) for name, block in ARMS.items()}
        processor = Qwen2_5_VLProcessor.from_pretrained(made["stock"])
    measured = {}
    for round_number in range(-1, arguments.rounds):  # round -1 warms up
        for count in (1, 16):
            requests = requests_of(processor, count, 112, seed=100 * round_number + count + 1000)
            tokens = count * len(
                processor(
                    text=requests[0]["prompt"], images=requests[0]["multi_modal_data"]["image"], return_tensors="pt"
                )["input_ids"][0]
            )
            for name in list(engines)[:: 1 if round_number % 2 else -1]:
                prefill = seconds(engines[name], requests, 1)
                decode = seconds(engines[name], requests, NEW_TOKENS + 1) - prefill
                if round_number >= 0:
                    measured.setdefault((f"prefill, {count} at once", name), []).append(tokens / prefill)
                    measured.setdefault((f"decode, {count} at once", name), []).append(count * NEW_TOKENS / decode)
    for what in dict.fromkeys(what for what, _ in measured):
        stock = measured[what, "stock"]
        print(f"{what}: stock {statistics.median(stock):.0f} tokens/s")
        for name in list(ARMS)[1:]:
            ratios = [own / other - 1 for own, other in zip(measured[what, name], stock)]
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            print(f"  {name}: {middle:+.1%} ({low:+.1%} to {high:+.1%})")


if __name__ == "__main__":
    main()
