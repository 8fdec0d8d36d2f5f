"""The logit spread is what its definition says, of the model's own attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circle_rope_imp import CircleGeometry, per_token_distance
from evidence.geometry import LAYOUTS, FlattenedGeometry, Rope, logit_spread, page, place
from evidence.study.arms import QUICK, Run
from evidence.study.model import make_model

QWEN, INTERLEAVED = Rope(), Rope(interleaved=True)
GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda grid: grid != (1, 1))
exact = settings(deadline=None, derandomize=True, max_examples=10)


def turn(vectors, phases):
    """Vectors `(..., head_dim)` turned by the angles of their pairs, in the plain way."""
    first, second = vectors.double().chunk(2, dim=-1)
    return torch.cat(
        [first * phases.cos() - second * phases.sin(), second * phases.cos() + first * phases.sin()], dim=-1
    )


@exact
@given(GRIDS, st.sampled_from(list(LAYOUTS)), st.booleans())
def test_the_spread_is_the_root_mean_square_of_the_logits_standard_deviations(grid, layout, interleaved):
    """By definition, with many q and k, looked from any text token."""
    rope = Rope(interleaved=interleaved)
    _, image, text = place(LAYOUTS[layout], *grid, behind=3)
    q, k = torch.randn(2, 1000, 1, 128, generator=torch.Generator().manual_seed(grid[0]))
    for token in (0, 2):
        logits = turn(q, rope.phases(text[:, token : token + 1])) @ turn(k, rope.phases(image)).mT / 128**0.5
        sampled = logits.var(-1, correction=0).mean().sqrt().item()
        assert logit_spread(image, rope) == pytest.approx(sampled, rel=0.08, abs=1e-6)


@pytest.mark.parametrize("arm", ["grid-contiguous", "ring-interleaved"])
def test_the_spread_is_that_of_the_rotations_of_a_studys_model(arm, tmp_path):
    """The study hands frequencies out by moving them; the spread does not depend on where they stand."""
    model, _ = make_model(Run("shapes", "small", arm, 0), QUICK, tmp_path)
    _, image, _ = place(model.config.make_geometry("circle" if "ring" in arm else "mrope"), 6, 6)
    cos, sin = model.model.language_model.rotary_emb(torch.zeros(1), image[:, None])
    turned = torch.complex(cos[0, :, :16], sin[0, :, :16])
    expected = (1 - turned.mean(0).abs() ** 2).mean().sqrt().item()
    assert logit_spread(image, Rope(32, 1e4, (4, 6, 6), "interleaved" in arm)) == pytest.approx(expected, abs=1e-4)


def test_spreads_that_are_known():
    """Those under interleaved sections come from a review, made with other code."""
    known = {("grid", True): 0.300, ("ring", True): 0.388, ("grid", False): 0.031, ("ring", False): 0.385}
    for (layout, interleaved), expected in known.items():
        _, image, _ = place(LAYOUTS[layout], 16, 16)
        assert logit_spread(image, Rope(interleaved=interleaved)) == pytest.approx(expected, abs=5e-4)


def test_sections_mean_nothing_where_all_rows_are_the_same():
    _, image, _ = place(LAYOUTS["flattened"], 5, 7)
    assert logit_spread(image, INTERLEAVED) == pytest.approx(logit_spread(image, QWEN))
    assert logit_spread(place(LAYOUTS["shared"], 5, 7)[1], QWEN) == 0


def test_a_per_token_distance_of_0_is_no_equal_attention():
    """What the paper's abstract says that it suffices for."""
    _, image, text = place(CircleGeometry(radius=10), 16, 16)
    assert per_token_distance(text, image) < 1e-4 and logit_spread(image, QWEN) > 0.38


def test_one_token_has_no_spread():
    with pytest.raises(ValueError, match="at least two"):
        logit_spread(place(CircleGeometry(), 1, 1)[1], QWEN)


def test_flattened_has_the_papers_per_token_distance():
    """The paper counts on one row, where 9 tokens have 2.22; three equal rows make it sqrt(3) times as large."""
    _, image, text = place(FlattenedGeometry(), 3, 3, behind=5)
    assert per_token_distance(text, image).item() == pytest.approx(20 / 9 * 3**0.5, abs=1e-3)
    assert per_token_distance(text[:1], image[:1]).item() == pytest.approx(20 / 9, abs=1e-3)


def test_the_page_has_every_layout_under_every_rope():
    text = page({"one": QWEN, "other": INTERLEAVED})
    assert text.count("## Logit spread: ") == 2 and text.count("| ring | 0 |") == 1 and "| ring | 0.370 |" in text
