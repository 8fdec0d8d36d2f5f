"""A checkpoint with AGE, quantised by llm-compressor with the page's own lines: loaded, published and served.

QUANTISE_PYTHON is the Python of an environment with llm-compressor, whose transformers is not that of vLLM.
"""

import json
import os
import re
import shutil
import subprocess

import pytest
import torch
from vllm import SamplingParams

from .cases import ROOT, ask, load
from .http_tools import turned

PYTHON = os.environ.get("QUANTISE_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="QUANTISE_PYTHON names no environment")

SUBGRAPHS = """
import torch
from llmcompressor.args.dataset_arguments import DatasetArguments
from llmcompressor.pipelines.sequential.helpers import trace_subgraphs
from transformers import AutoModelForImageTextToText

model = AutoModelForImageTextToText.from_pretrained(".", trust_remote_code=True, dtype=torch.float32)
inputs = torch.load("INPUTS")
subgraphs = trace_subgraphs(model, inputs[0], ["Qwen2_5_VLDecoderLayer"], DatasetArguments().tracing_ignore)
seen = []
model.lm_head.register_forward_hook(lambda module, given, logits: seen.append(logits))
with torch.no_grad():
    for sample in inputs:
        model(**sample)
        values = dict(sample)
        for subgraph in subgraphs:
            values |= subgraph.forward(model, **{name: values[name] for name in subgraph.input_names})
        print(len(subgraphs), torch.equal(*seen[-2:]))
"""


def run(*arguments):
    return subprocess.run([PYTHON, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """The directory that the page's lines save, calibrated with the example picture turned by eighths."""
    directory = tmp_path_factory.mktemp("quantised")
    pictures = directory / "pictures"
    pictures.mkdir()
    for number in range(8):
        turned(number).save(pictures / f"{number}.png")
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "conversion" / "quantise.md").read_text(), re.DOTALL)
    # The CPU engine has no kernel for four bits on every processor.
    there = {"CONVERTED": ROOT, "PICTURES": pictures, "QUANTISED": directory / "saved", "W4A16": "W8A8"}
    for name, value in there.items():
        lines = lines.replace(name, str(value))
    done = run("-c", lines)
    assert done.returncode == 0, done.stderr
    return directory / "saved"


def test_every_layer_is_calibrated_under_its_own_geometry(tmp_path):
    samples = [dict(ask(turned(number), question="Where? " * (1 + number), of=ROOT).inputs) for number in range(3)]
    torch.save(samples, tmp_path / "inputs")
    done = run("-c", SUBGRAPHS.replace("INPUTS", str(tmp_path / "inputs")))
    assert done.stdout.splitlines()[-3:] == ["7 True"] * 3, done.stderr


def test_it_is_published_and_answers_in_vllm_as_before(quantised, start, tmp_path):
    options = ("--repo-id", "user/name", "--no-upload", "--output-dir", tmp_path / "published")
    done = run("push_to_hub.py", quantised, *options)
    assert done.returncode == 0, done.stderr
    # On a CPU with AMX, vLLM's kernel for W8A8 takes no float32.
    engine, model = start(tmp_path / "published", dtype="bfloat16"), load(ROOT)
    cases = [ask(turned(number), of=ROOT) for number in range(8)]
    outputs = engine.generate(
        [case.request for case in cases], SamplingParams(temperature=0, max_tokens=8), use_tqdm=False
    )
    for case, output in zip(cases, outputs):
        expected = model.generate(**case.inputs, max_new_tokens=8, do_sample=False)
        assert list(output.outputs[0].token_ids) == expected[0, case.inputs["input_ids"].shape[1] :].tolist()


def test_names_that_no_module_has_are_refused_with_those_to_write(quantised, tmp_path):
    wrong = shutil.copytree(quantised, tmp_path / "wrong")
    config = json.loads((wrong / "config.json").read_text())
    config["quantization_config"]["ignore"] = ["lm_head", "re:visual.*"]
    (wrong / "config.json").write_text(json.dumps(config))
    done = run(
        "push_to_hub.py", wrong, "--repo-id", "user/name", "--no-upload", "--output-dir", tmp_path / "published"
    )
    assert done.returncode != 0
    assert "add 're:.*visual.*' to quantization_config.ignore in config.json" in done.stderr
