"""The tiny checkpoint's data: what is asked has one right answer, and training sees each conversation by itself."""

import random

import pytest
import torch

from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
from shapes import unknown
from shapes.branches import make_batch, process
from shapes.checkpoint import model_config, save_processor
from shapes.conversations import ABSENT, LAYOUTS, ask_about, converse, make_sample, vary
from shapes.lessons import to_messages
from shapes.pictures import COLOURS, WAYS, Thing, draw, draw_video, is_held_out, make_motion, make_scene

BLOCK = {"radius": 10, "alpha": 0.5, "method": "circle", "move_to_origin": True, "AGE_mode": "strategy_4"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model with random weights and the processor of the tiny checkpoint."""
    from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2

    processor = save_processor(tmp_path_factory.mktemp("processor"))
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig_CircleRoPE_V2(**model_config(processor, BLOCK))
    return Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config).eval(), processor


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
    asked = {part: {unknown.make_question(rng, part) for _ in range(2000)} for part in (True, False)}
    assert not asked[True] & asked[False]


def test_an_empty_board_is_of_both_parts():
    assert all(make_scene(random.Random(0), part, 0, 0) == () for part in (True, False))


def test_every_question_has_its_only_right_answer():
    scene = (Thing("circle", "red", 0, 3), Thing("cross", "blue", 4, 3))
    rng = random.Random(0)
    answers = {}
    for _ in range(200):
        for group in ask_about(scene, 3, rng).values():
            for question in group:
                assert answers.setdefault(question.text, question.answer) == question.answer
    assert answers["Where is the blue cross?"] == "centre"
    assert answers["What is at the top left?"] == "a red circle"
    assert answers["What colour is the cross?"] == "blue"
    assert answers["What shape is red?"] == "the circle"
    assert answers["How many shapes are there?"] == "2"
    for lacking in ("Where is the red cross?", "What is at the middle left?", "What colour is the square?"):
        assert answers[lacking] == ABSENT


def test_most_conversations_do_not_tell_a_later_answer():
    rng, telling = random.Random(5), 0
    for _ in range(300):
        scene = make_scene(rng, held_out=False, fewest=4)
        talk = converse(ask_about(scene, 2, rng), rng, 3, held_out=False)
        asked = {}
        for question in talk:
            # What was asked before may come again, with the same answer.
            fresh = (question.kind, question.about) not in asked
            telling += fresh and any(question.about & about for _, about in asked)
            asked[question.kind, question.about] = True
    assert telling < 0.35 * 600


def test_questions_come_as_people_type_them():
    rng = random.Random(0)
    forms = {vary("What colour is the circle?", rng) for _ in range(300)}
    expected = {"What colour is the circle?", "what colour is the circle", "What color is the circle?"}
    assert expected | {"WHAT COLOUR IS THE CIRCLE"} <= forms


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


def test_the_words_of_the_task_are_few_tokens(small):
    """Every word of the task is few tokens: conversations stay short."""
    tokenizer = small[1].tokenizer
    for words in ("Where is the red circle in the second picture?", "WHAT COLOUR IS THE TRIANGLE", unknown.ANSWER):
        assert len(tokenizer.encode(words)) <= 1.7 * len(words.split()) + 1
        assert tokenizer.decode(tokenizer.encode(words)) == words
