"""A vLLM without a CPU build: the parts that the plugin builds on are word for word those of the one that is tested.

VLLM_WHEELS names a directory with wheels of such releases.
"""

import ast
import os
import zipfile
from pathlib import Path

import pytest
import vllm

WHEELS = sorted(Path(os.environ.get("VLLM_WHEELS", "/nowhere")).glob("vllm-*.whl"))
INSTALLED = Path(vllm.__file__).parent
WHOLE = None
PARTS = {
    # The rows of both runners: how they are made, filled, copied to the device and handed to the model.
    "v1/worker/gpu_model_runner.py": (
        "_init_mrope_positions",
        "_calc_mrope_positions",
        "_get_positions",
        "_prepare_inputs",
        "_preprocess",
        "_dummy_run",
    ),
    "v1/worker/gpu_input_batch.py": ("CachedRequestState",),
    "v1/worker/gpu/mm/rope.py": WHOLE,
    "v1/worker/gpu/model_states/__init__.py": WHOLE,
    "v1/worker/gpu/model_states/default.py": (
        "__init__",
        "add_request",
        "remove_request",
        "prepare_inputs",
        "prepare_dummy_inputs",
    ),
    "v1/worker/gpu/model_runner.py": ("_remove_request", "finish_requests"),
    "transformers_utils/config.py": ("mrope_num_dims", "uses_mrope", "_uses_mrope", "_mrope_section"),
    # The model, and where a configuration is checked.
    "model_executor/models/qwen2.py": WHOLE,
    "model_executor/models/qwen2_5_vl.py": WHOLE,
    "model_executor/layers/rotary_embedding/common.py": WHOLE,
    "model_executor/models/config.py": ("VerifyAndUpdateConfig",),
    "config/model.py": ("_apply_dict_overrides",),
}


def parts_of(source, names):
    """The code of a module's functions and classes by name, or all of it, without comments."""
    tree = ast.parse(source)
    if names is WHOLE:
        return ast.dump(tree)
    found = [node for node in ast.walk(tree) if getattr(node, "name", None) in names]
    assert {node.name for node in found} == set(names)
    return [ast.dump(node) for node in found]


@pytest.mark.skipif(not WHEELS, reason="VLLM_WHEELS names no wheels")
@pytest.mark.parametrize("file", PARTS)
@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name.split("-")[1])
def test_the_parts_that_it_builds_on_are_the_same(wheel, file):
    other = zipfile.ZipFile(wheel).read(f"vllm/{file}").decode()
    assert parts_of(other, PARTS[file]) == parts_of((INSTALLED / file).read_text(), PARTS[file])
