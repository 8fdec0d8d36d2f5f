"""The model card: what its owner wrote stays, and the rest says what the checkpoint is."""

import pytest
from huggingface_hub import ModelCard

from configuration_qwen2_5_vl_circle_rope import validate_circle_rope
from modelcard_qwen2_5_vl_circle_rope import MEANING, NO_CARD, licence_sentence, make_card
from tests.models import make_config

OTHER = {"license": "other", "license_name": "qwen-research", "license_link": "https://hf.co/q/LICENSE"}


def card(own=NO_CARD, schedule=("circle",) * 4, block=None, **data):
    data = {"base_model": "user/base", "license": "apache-2.0", **data}
    return ModelCard(make_card(ModelCard(own), block or {}, schedule, "user/name", data))


def test_what_the_owner_wrote_stays_and_only_our_part_is_written_anew():
    own = "---\nlicense: mit\nlanguage: fr\ntags: [mine]\nlibrary_name: other\n---\n# Mine\n\nWords.\n"
    first = card(own, language="en", block={"alpha": 0.25})
    again = card(str(first), block={"alpha": 1})
    for made in (first, again):
        assert made.text.strip().startswith("# Mine\n\nWords.") and made.text.count("Words.") == 1
        assert made.text.count("## Use") == 1
        assert made.data.language == "fr" and made.data.license == "apache-2.0"
        assert made.data.library_name == "transformers" and made.data.base_model == "user/base"
        assert made.data.tags == ["mine", "circle-rope", "qwen2_5_vl", "multimodal", "custom_code"]
    assert "\n## Circle-RoPE\n" in first.text and '"alpha": 1' in again.text and "0.25" not in again.text


def test_without_an_owners_card_it_is_whole():
    made = card(language=["en"])
    assert made.text.strip().splitlines()[1] == "# name"
    assert made.data.to_dict() == {
        "base_model": "user/base",
        "base_model_relation": "finetune",
        "language": ["en"],
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "image-text-to-text",
        "tags": ["circle-rope", "qwen2_5_vl", "multimodal", "custom_code"],
    }
    assert "base_model_relation" not in card(base_model=None).data.to_dict()


@pytest.mark.parametrize(
    "age_mode, words",
    [
        (None, "all 4 circle"),
        (["mrope"] * 4, "all 4 mrope"),
        ("strategy_4", "4, alternating, layer 0 circle"),
        ("strategy_3", "mrope 0 to 1, circle 2 to 3"),
        (["circle", "mrope", "mrope", "circle"], "circle 0, mrope 1 to 2, circle 3"),
    ],
)
def test_a_schedule_in_words(age_mode, words):
    made = card(schedule=make_config({"AGE_mode": age_mode}).schedule)
    assert f"\nLayers: {words}.\n" in made.text
    assert ("age" in made.data.tags) == (not words.startswith("all "))


def test_a_licence_in_words():
    sentence = "The weights are under the licence of qwen/base: [qwen-research](https://hf.co/q/LICENSE)."
    assert licence_sentence(OTHER, "qwen/base") == f"{sentence} The code is Apache-2.0."
    assert licence_sentence({"license": "unknown"}, None).startswith("The licence of the base is not known; ask")


def test_every_key_has_a_meaning():
    block = {"circle_r": 10, "alpha": 0.5, "dff_rate": 0}
    assert "- `alpha`: the share of the spatial angle" in card(block=block).text
    with pytest.raises(ValueError, match="allowed are ") as error:
        validate_circle_rope({"?": 1})
    assert set(str(error.value).rstrip(".").split("allowed are ")[1].split(", ")) == set(MEANING)
