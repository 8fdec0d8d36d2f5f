"""The same answers compiled, with lookup, and over several processes."""

import json
import os
import subprocess
import sys

import pytest

from .cases import ROOT, TOLERANCE, all_kinds, load, log_probabilities

MODES = {
    # vLLM's default: the text model in one graph, its rows decoded within.
    "compiled": ({"TORCH_COMPILE_DISABLE": "0"}, {}, "0:4", 40),
    "tensor parallel": ({}, {"enforce_eager": True, "tensor_parallel_size": 2}, "0:4", 40),
    # Not eager: the CPU engine's warm-up, which makes what the stages hand on, is left out then.
    "pipeline parallel": ({"TORCH_COMPILE_DISABLE": "0"}, {"pipeline_parallel_size": 2}, "0:4", 40),
    "lookup": (
        {},
        {
            "enforce_eager": True,
            "speculative_config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3},
        },
        "0:4",
        60,
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_answers_are_those_of_transformers(mode, checkpoint, tmp_path):
    environment, options, picked, tokens = MODES[mode]
    directory, output = checkpoint("strategy_4"), tmp_path / "answers.json"
    sampling = json.dumps({"max_tokens": tokens})
    environment = {**os.environ, **environment}
    arguments = [directory, json.dumps(options), picked, sampling, output]
    command = [sys.executable, "-m", "serving.tests.answers", *arguments]
    subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, check=True)
    model, cases = load(directory), all_kinds()[slice(*map(int, picked.split(":")))]
    for case, (token_ids, given) in zip(cases, json.loads(output.read_text()), strict=True):
        expected = log_probabilities(model, case, token_ids)[-tokens:]
        assert token_ids == expected.argmax(-1).tolist()
        assert given == pytest.approx(expected.amax(-1).tolist(), abs=TOLERANCE)
