"""Code that comes with a checkpoint: pickled models, code in a repository of its own, two checkpoints side by side."""

import io
import pickle

import pytest
import torch
from transformers import AutoModel, AutoModelForImageTextToText

from models import ROOT

TINY = ROOT / "tiny"


@pytest.mark.parametrize("auto_class", [AutoModelForImageTextToText, AutoModel])
def test_a_model_can_be_pickled(auto_class):
    model = auto_class.from_pretrained(TINY, trust_remote_code=True).eval()
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    ids = torch.tensor([[1, 2, 3]])
    for again in (pickle.loads(pickle.dumps(model)), torch.load(saved, weights_only=False)):
        assert type(again) is type(model)
        assert again(input_ids=ids)[0].equal(model(input_ids=ids)[0])
