"""The tiny checkpoint's data: every question has its one right answer, and each conversation is learned by itself."""

import random
import re
import subprocess
import sys

import pytest
import torch
from transformers import AutoProcessor

from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
from shapes.branches import make_batch, process
from shapes.checkpoint import model_config, save_processor
from shapes.lessons import LAYOUTS, WEIGHTS, ask_other, converse, make_sample, make_size, to_messages
from shapes.pictures import COLOURS, WAYS, Thing, draw, draw_video, is_held_out, make_motion, make_scene
from shapes.questions import Fact, ask, facts, of_video, say, vary
from shapes.words import LANGUAGES, NAMES, UNKNOWN, WORDINGS
from tests.models import ROOT

# A red circle above a blue cross, and two green squares in a row with a place between them.
SCENE = (
    *(Thing("circle", "red", 1, 3), Thing("cross", "blue", 4, 3)),
    *(Thing("square", "green", 6, 3), Thing("square", "green", 8, 3)),
)


def test_a_thing_is_drawn_where_its_place_says():
    for cell, place in ((0, "top left"), (4, "centre"), (5, "middle right"), (7, "bottom middle")):
        thing = Thing("square", "red", cell, side=3)
        assert thing.place == place
        picture = draw((thing,), random.Random(1), (96, 120))
        row, column = divmod(cell, 3)
        assert picture.getpixel((column * 32 + 16, row * 40 + 20)) == COLOURS["red"]


def test_a_moving_thing_ends_where_it_is_said_to_be():
    rng = random.Random(0)
    for _ in range(50):
        before, after, way = make_motion(rng, held_out=False, side=3)
        (row, column), (new_row, new_column) = (divmod(scene[0].cell, 3) for scene in (before, after))
        step = (new_row > row) - (new_row < row), (new_column > column) - (new_column < column)
        assert WAYS[step] == way and before[1:] == after[1:]
    first, *_, last = draw_video(before, after, random.Random(2), 4)
    assert first.tobytes() != last.tobytes()


@pytest.mark.parametrize("side", [2, 3])
def test_both_parts_have_scenes_and_share_none(side):
    rng = random.Random(3)
    for part in (True, False):
        assert all(is_held_out(make_scene(rng, part, side=side)) == part for _ in range(50))
        assert all(is_held_out(make_motion(rng, part, side=side)[1]) == part for _ in range(50))


def test_an_empty_board_is_of_both_parts():
    assert all(make_scene(random.Random(0), part, 0, 0) == () for part in (True, False))


def answers(scene):
    """The answer of everything that can be asked about a board of 3 x 3 places, by wording and slots."""
    found = {}
    for seed in range(40):
        for fact in facts(scene, 3, random.Random(seed)):
            key = fact.wording, repr(sorted(fact.slots.items()))
            assert found.setdefault(key, fact.answer) == fact.answer, (key, fact)
    return found


def answer(scene, wording, **slots):
    return answers(scene)[wording, repr(sorted(slots.items()))]


def test_every_kind_has_its_one_right_answer():
    circle, squares = ("red", "circle", None), (None, "square", None)
    assert answer(SCENE, "count", what=(None, None, None)) == "4"
    assert answer(SCENE, "count", what=squares) == answer(SCENE, "count", what=("green", None, None)) == "2"
    assert answer(SCENE, "count", what=(None, "triangle", None)) == "0"
    assert answer(SCENE, "is there", what=circle) == "yes"
    assert answer(SCENE, "is there", what=("blue", "circle", None)) == "no"
    assert answer(SCENE, "is there", what=("red", "circle", "top left")) == "no"
    assert answer(SCENE, "where", what=circle) == answer(SCENE, "where", what=("red", None, None)) == "top middle"
    assert answer(SCENE, "where", what=("red", "cross", None)) == "there is none"
    assert answer(SCENE, "what at", what=(None, None, "centre")) == "a blue cross"
    assert answer(SCENE, "what at", what=(None, None, "middle left")) == "there is none"
    assert answer(SCENE, "colour", what=(None, None, "bottom left")) == "green"
    assert answer(SCENE, "shape of colour", what=("blue", None, None)) == "the cross"
    assert answer(SCENE, "is", what=(None, "circle", None), colour="red") == "yes"
    assert answer(SCENE, "is", what=("blue", None, None), shape="circle") == "no"
    assert answer(SCENE, "is", what=circle, place="top middle") == "yes"
    assert answer(SCENE, "list") == "red circle, blue cross, green square, green square"
    assert answer((), "list") == "nothing"


def test_what_is_there_several_times_is_not_asked_for_as_one():
    for (wording, slots), given in answers(SCENE).items():
        several = "(None, 'square', None)", "('green', None, None)", "('green', 'square', None)"
        assert wording in ("count", "is there") or not any(what in slots for what in several), (slots, given)


def test_relations_are_those_of_rows_and_columns():
    cross, circle = ("blue", "cross", None), ("red", "circle", None)
    assert answer(SCENE, "beside", what=circle, side="below") == "a blue cross"
    assert answer(SCENE, "beside", what=circle, side="next") == "a blue cross"
    assert answer(SCENE, "beside", what=cross, side="left") == "nothing"
    assert answer(SCENE, "is", what=circle, side="above", other=cross) == "yes"
    assert answer(SCENE, "is", what=circle, side="left", other=cross) == "no"
    assert answer(SCENE, "is", what=circle, side="next", other=cross) == "yes"
    ends = (Thing("circle", "red", 0, 3), Thing("cross", "blue", 2, 3))
    assert answer(ends, "beside", what=circle, side="right") == "a blue cross"
    with pytest.raises(KeyError):  # beside or not: people differ
        answer(ends, "beside", what=circle, side="next")


def test_a_video_is_asked_for_its_end_its_start_and_what_moves():
    before, after = (Thing("circle", "red", 0),), (Thing("circle", "red", 1),)
    found = of_video(before, after, "right", 2, random.Random(0))
    what = ("red", "circle", None)
    told = {(fact.kind, fact.scope): fact.answer for fact in found if fact.slots.get("what", what) == what}
    assert told["start", "start"] == "top left" and told["where", None] == told["where", "end"] == "top right"
    assert told["mover", None] == "the red circle" and told["way", None] == "right"


def test_answers_have_one_form_in_chinese():
    said = {
        ("top left", "where"): "左上",
        ("bottom right", "where"): "右下",
        ("a blue square", "beside"): "蓝色方形",
        ("the cross", "shape"): "十字形",
        ("red circle, black triangle", "list"): "红色圆形、黑色三角形",
        ("7", "count"): "7",
        ("yes", "is there"): "有",
        ("no", "is there"): "没有",
        ("yes", "is"): "是",
        ("no", "is beside"): "不是",
        ("there is none", "absent"): "没有",
        ("left", "way"): "左",
    }
    for (english, kind), chinese in said.items():
        assert say(english, "zh", kind) == chinese and say(english, "en", kind) == english
    assert say(UNKNOWN, "zh").endswith("红色圆形在哪里？")


def test_every_kind_can_be_said_in_every_language_and_some_wordings_are_held_out():
    for kind in {key[0] for key in WORDINGS if key[-1] in ("taught", "held out")}:
        for language in LANGUAGES:
            taught, held_out = (WORDINGS[kind, language, part] for part in ("taught", "held out"))
            assert len(taught) >= 7 and len(held_out) >= 3
            assert not set(taught) & set(held_out) and len(set(taught)) == len(taught)
    rng = random.Random(0)
    known = facts(SCENE, 3, rng) + of_video(*make_motion(rng, held_out=False), 2, rng)
    assert {fact.kind for fact in known} | {"unknown", "photo"} == set(WEIGHTS)
    for fact in known:
        for language in LANGUAGES:
            for held_out in (False, True):
                text = ask(fact, language, rng, held_out).text
                assert text and "{" not in text and "  " not in text.strip()
                assert (language == "zh") == bool(re.search("[\u4e00-\u9fff]", text)), text


def test_questions_come_as_people_type_them():
    rng = random.Random(0)
    forms = {vary("What is the colour of the circle?", "en", rng) for _ in range(2000)}
    expected = {
        *("What is the colour of the circle?", "what is the colour of the circle", "What's the colour of the circle?"),
        *("What is the color of the circle?", "WHAT IS THE COLOUR OF THE CIRCLE", "whats the color of the circle"),
    }
    assert expected <= forms
    assert {"圆形在哪里？", "圆形在哪里", "圆形在哪里?", "请问圆形在哪里？"} <= {
        vary("圆形在哪里？", "zh", rng) for _ in range(300)
    }
    thing = Fact("where", "where", {"what": ("red", "circle", None)}, "top left")
    assert any("红色圆形" in ask(thing, "zh", rng).text for _ in range(100))
    assert any("红色的圆在" in ask(thing, "zh", rng).text for _ in range(400))


def test_what_it_cannot_know_names_what_it_does_not_know():
    rng = random.Random(0)
    for language in LANGUAGES:
        asked = [ask_other(rng, False, language) for _ in range(200)]
        assert {question.answer for question in asked} == {say(UNKNOWN, language)}
    first, held_out = ({ask_other(random.Random(n), part, "en").text for n in range(300)} for part in (False, True))
    assert first != held_out


def test_every_answer_of_a_kind_is_about_as_frequent():
    rng, count = random.Random(0), {"yes": 0, "no": 0}
    for _ in range(200):
        for question in converse(facts(SCENE, 3, rng), rng, 6, held_out=False):
            if question.language == "en" and question.kind in ("is", "is there", "is beside"):
                count[question.answer] += 1
    assert 0.4 < count["yes"] / sum(count.values()) < 0.6


def test_boards_have_repeats_and_up_to_nine_things_in_pictures_of_all_shapes():
    rng = random.Random(0)
    scenes = [make_scene(rng, False, 9, 9, 3, repeats=True) for _ in range(20)]
    assert all(len(scene) == 9 and not is_held_out(scene) for scene in scenes)
    for layout, (least, most) in {"2x2": (1, 1.25), "oblong": (1, 3.1), "strip": (2.9, 17.5)}.items():
        ratios = [max(size) / min(size) for size in (make_size(rng, layout) for _ in range(300))]
        assert least <= min(ratios) and max(ratios) <= most and max(ratios) > 0.8 * most


def test_most_conversations_do_not_tell_a_later_answer():
    rng, telling = random.Random(5), 0
    for _ in range(300):
        scene = make_scene(rng, held_out=False, fewest=4)
        talk = converse(facts(scene, 2, rng), rng, 3, held_out=False)
        asked = {}
        for question in talk:
            # What was asked before may come again, with the same answer.
            fresh = (question.kind, question.about) not in asked
            telling += fresh and any(question.about & about for _, about in asked)
            asked[question.kind, question.about] = True
    assert telling < 0.35 * 600


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model with random weights and the processor of the tiny checkpoint."""
    from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2

    processor = save_processor(tmp_path_factory.mktemp("processor"))
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig_CircleRoPE_V2(**model_config(processor, {"AGE_mode": "strategy_4"}))
    return Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config).eval(), processor


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_a_batch_every_conversation_is_by_itself(small, layout):
    """The logits of every answer are those of its conversation alone, whatever else is in the batch."""
    model, processor = small
    rng = random.Random(1)
    samples = [make_sample(rng, layout, held_out=False, conversations=2, turns=3) for _ in range(2)]
    talks = [[to_messages(sample, talk) for talk in sample.conversations] for sample in samples]
    batch = make_batch(model, processor, [s.media for s in samples], talks, [s.fps for s in samples])
    is_learned = batch.pop("labels")[:, 1:] != -100
    logits = model(**batch).logits[:, :-1]
    for row, (sample, several) in enumerate(zip(samples, talks)):
        expected = []
        for messages in several:
            text = processor.apply_chat_template(messages, tokenize=False)
            alone = process(processor, [text], [sample.media], [sample.fps])
            alone.pop("mm_token_type_ids", None)
            ids = alone["input_ids"][0].tolist()
            opened = _answers(ids, processor)[len(sample.opening) :]
            expected.append(torch.cat([model(**alone).logits[0, a - 1 : b - 1] for a, b in opened]))
        torch.testing.assert_close(logits[row][is_learned[row]], torch.cat(expected), atol=1e-4, rtol=0)


def _answers(ids, processor):
    """Begin and end of every answer, its end and the line break included."""
    opening = processor.tokenizer.encode("<|im_start|>assistant\n")
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    starts = [n + len(opening) for n in range(len(ids)) if ids[n : n + len(opening)] == opening]
    return [(start, ids.index(end, start) + 2) for start in starts]


@torch.no_grad()
def test_a_batch_takes_as_many_conversations_as_fit(small):
    """What is left out changes nothing of what is there."""
    model, processor = small
    samples = [make_sample(random.Random(1), "3x3", held_out=False, conversations=6, turns=1) for _ in range(2)]
    talks = [[to_messages(sample, talk) for talk in sample.conversations] for sample in samples]
    given = [sample.media for sample in samples], talks, [sample.fps for sample in samples]
    whole = make_batch(model, processor, *given)
    longest = whole["input_ids"].shape[1] - 10
    part = make_batch(model, processor, *given, longest=longest)
    assert part["input_ids"].shape[1] <= longest
    logits, all_logits = (model(**{**batch, "labels": None}).logits for batch in (part, whole))
    # Up to the first conversation that is left out.
    same = int((part["input_ids"][0] == whole["input_ids"][0, : part["input_ids"].shape[1]]).int().cumprod(0).sum())
    assert same > 40
    torch.testing.assert_close(logits[:, :same], all_logits[:, :same], atol=1e-4, rtol=0)


def test_the_words_of_the_task_are_few_tokens(small):
    tokenizer = small[1].tokenizer
    for words in ("Where is the red circle in the second picture?", "WHAT COLOUR IS THE TRIANGLE", UNKNOWN):
        assert len(tokenizer.encode(words)) <= 1.3 * len(words.split()) + 2
        assert tokenizer.decode(tokenizer.encode(words)) == words
    assert all(len(tokenizer.encode(role)) == 1 for role in ("system", "user", "assistant"))
    for forms in NAMES["zh"].values():
        for word in forms.split("|"):
            assert len(tokenizer.encode(word)) <= len(word) + 1


def test_training_goes_on_where_it_was_stopped(tmp_path):
    command = [sys.executable, "-m", "shapes.train", "--output-dir", tmp_path, "--batch-size", "2", "--steps"]
    for steps, first in ((2, 1), (3, 3)):
        result = subprocess.run([*command, str(steps)], capture_output=True, text=True, cwd=ROOT)
        assert result.returncode == 0, result.stderr
        assert f"from step {first} to {steps}" in result.stdout and "held out: " in result.stdout
        assert torch.load(tmp_path / "training" / "state.pt", weights_only=True)["step"] == steps
    assert AutoProcessor.from_pretrained(tmp_path).tokenizer.encode("三角形")


def test_training_starts_from_the_weights_and_tokens_of_a_checkpoint(tmp_path):
    command = [sys.executable, "-m", "shapes.train", "--output-dir", tmp_path, "--start-from", ROOT, "--steps", "1"]
    result = subprocess.run([*map(str, command), "--batch-size", "2"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"loss ([\d.]+)", result.stdout)[1]) < 0.5  # 7 without weights that know the answers
    vocabularies = [AutoProcessor.from_pretrained(folder).tokenizer.get_vocab() for folder in (tmp_path, ROOT)]
    assert vocabularies[0] == vocabularies[1]
