"""Positions made without the model, and passed as other trainers pass theirs: the logits are the model's own."""

import warnings
from types import MethodType, SimpleNamespace

import pytest
import torch
from transformers.models.qwen2_5_vl import Qwen2_5_VLModel

from tests.models import IMAGE, image_batch, make_config, make_model, make_stock
from training.positions import rope_index_of, warn_of_grids

BLOCK = {"radius": 8, "AGE_mode": "strategy_4"}


def as_verl(rope_index, batch):
    """Sample by sample, with an integer text row in front."""
    rows, used = [], 0
    for ids, mask, images in zip(batch["input_ids"], batch["attention_mask"], (2, 1)):
        grids = batch["image_grid_thw"][used : used + images]
        used += images
        vision, _ = rope_index(input_ids=ids[None], attention_mask=mask[None], image_grid_thw=grids)
        text = torch.ones((1, len(ids)), dtype=torch.long)
        text[0, mask.bool()] = torch.arange(mask.sum().item())
        rows.append(torch.cat((text[None], vision.transpose(0, 1)), dim=1))
    return torch.cat(rows).transpose(0, 1)


def as_qwen(rope_index, batch):
    """Sample by sample, unpadded, with the size of the spatial merge as the first argument; padded with 1."""

    def get_rope_index(merge, *arguments, **named):
        return rope_index(*arguments, **named)

    rows, used = [], 0
    for ids, mask, images in zip(batch["input_ids"], batch["attention_mask"], (2, 1)):
        grids = batch["image_grid_thw"][used : used + images]
        used += images
        own, _ = get_rope_index(2, ids[mask.bool()][None], image_grid_thw=grids, second_per_grid_ts=None)
        rows.append(torch.nn.functional.pad(own, (0, len(ids) - own.shape[2]), value=1))
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize("way", [as_verl, as_qwen])
@torch.no_grad()
def test_the_logits_are_the_models_own(way):
    torch.manual_seed(0)
    model, batch = make_model(make_stock(), BLOCK), image_batch("right")
    positions = way(rope_index_of(make_config(BLOCK)), batch)
    real = batch["attention_mask"].bool()
    wanted, given = model(**batch).logits, model(**batch, position_ids=positions).logits
    torch.testing.assert_close(given[real], wanted[real])


def on_a_grid(batch):
    """Integer positions `(4, batch, seq)` as verl makes them: by stock's function, bound to a processor."""
    processor = SimpleNamespace(config=make_config(BLOCK))
    for name in ("get_rope_index", "get_vision_position_ids"):
        setattr(processor, name, MethodType(getattr(Qwen2_5_VLModel, name), processor))

    def rope_index(input_ids, **vision):
        return processor.get_rope_index(input_ids, mm_token_type_ids=(input_ids == IMAGE).int(), **vision)

    positions = as_verl(rope_index, batch)
    assert not positions.is_floating_point()
    return positions


@torch.no_grad()
def test_integer_positions_on_a_grid_warn_once_under_circle_layers():
    model, batch = make_model(make_stock(), BLOCK), image_batch()
    warn_of_grids(model)
    positions = on_a_grid(batch)
    with pytest.warns(UserWarning, match="put a picture's tokens on a grid.*leave position_ids out") as caught:
        model(**batch, position_ids=positions)
        model(**batch, position_ids=positions[1:])
    assert len(caught) == 1


@torch.no_grad()
def test_positions_that_are_meant_do_not_warn():
    model, batch = make_model(make_stock(), BLOCK), image_batch()
    warn_of_grids(model)
    vision = {key: value for key, value in batch.items() if key != "pixel_values"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**batch, position_ids=model.model.get_rope_index(**vision)[0])
        model(**batch, position_ids=torch.arange(batch["input_ids"].shape[1]).expand(3, 2, -1))
        model.set_circle_rope({"AGE_mode": ["mrope"] * 4})
        model(**batch, position_ids=on_a_grid(batch))
