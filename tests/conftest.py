"""Shared fixtures: nothing is fetched from a hub, and remote code goes into a cache of its own."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="circle_rope_modules_")

import pytest
import torch
from hypothesis import settings

settings.register_profile("exact", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=300)
settings.load_profile("exact")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def hub():
    """A small Hub on this computer, with nothing on it."""
    from tests.hub_server import Hub

    with Hub() as hub:
        yield hub


@pytest.fixture(scope="session")
def stock():
    """A small stock Qwen2.5-VL with random weights, in float32."""
    from tests.models import make_stock

    return make_stock()


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory):
    """A complete stock checkpoint as this release saves it, with a real processor."""
    from tests.models import save_base

    return save_base(tmp_path_factory.mktemp("base"))
