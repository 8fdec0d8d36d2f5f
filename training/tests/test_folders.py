"""Checkpoints in folders of any name, and two revisions of one repository in one process."""

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.models import copy_checkpoint

from .conftest import write_to_hub_cache


@pytest.mark.parametrize("name", ["v1.5.final", "with two spaces", "圆环-Ünïcode", "3B-circle", "model-.-x"])
def test_a_folder_may_have_any_name(name, tmp_path):
    copy_checkpoint(tmp_path / name)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / name, trust_remote_code=True)
    model.save_pretrained(tmp_path / f"{name} saved")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / f"{name} saved", trust_remote_code=True)
    assert again.config.circle_rope == model.config.circle_rope
    for parameter, same in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(parameter, same)


def test_two_revisions_have_each_their_own_block_and_code(tmp_path):
    """The second brings other code as well, which says so."""
    for revision, radius in (("v1", 3), ("v2", 7)):
        folder = copy_checkpoint(tmp_path / revision)
        config = json.loads((folder / "config.json").read_text())
        config["circle_rope"]["radius"] = radius
        (folder / "config.json").write_text(json.dumps(config))
        code = folder / "modeling_qwen2_5_vl_circle_rope.py"
        code.write_text(code.read_text() + f"\nREVISION = {revision!r}\n")
        write_to_hub_cache(folder, "user/revised", revision[1] * 40, revision)
    models = {
        revision: AutoModelForImageTextToText.from_pretrained(
            "user/revised", revision=revision, trust_remote_code=True
        )
        for revision in ("v1", "v2", "v1")
    }
    assert [models[revision].model.geometries[0].radius for revision in ("v1", "v2")] == [3, 7]
    for revision, model in models.items():
        assert type(model).__init__.__globals__["REVISION"] == revision
