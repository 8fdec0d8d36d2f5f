"""Shared parts of the serving tests: environment, checkpoints under every block, and engines in this process."""

import gc
import os
import tempfile
from types import SimpleNamespace

# Nothing is fetched or compiled, and the engine runs in this process, where its parts can be looked at.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "HF_MODULES_CACHE": tempfile.mkdtemp(prefix="circle_rope_modules_"),
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}

import pytest

if os.environ.get("TRITON_INTERPRET"):
    # For Model Runner V2, whose kernels are Triton's: this Triton has no backend for the CPU, and its interpreter
    # needs none; vLLM asks for the name alone.
    from triton.backends import backends

    backends["cpu"] = SimpleNamespace(driver=None, compiler=None)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The directory of the root's checkpoint under a block, made when it is asked for."""
    from .cases import save_checkpoint

    made = {}

    def make(block):
        if block not in made:
            made[block] = save_checkpoint(tmp_path_factory.mktemp(block), block)
        return made[block]

    return make


@pytest.fixture(scope="module")
def start():
    """Start engines in this process; they end with the module."""
    from vllm import LLM

    from .cases import MEDIA

    engines = []

    def run(directory, **options):
        common = {"max_model_len": 1024, "max_num_seqs": 8, "dtype": "float32", "enforce_eager": True, "seed": 0}
        memory = {"gpu_memory_utilization": 0.02, "kv_cache_memory_bytes": 1 << 26}
        engines.append(LLM(str(directory), **{**common, **memory, **MEDIA, **options}))
        return engines[-1]

    yield run
    engines.clear()
    gc.collect()
