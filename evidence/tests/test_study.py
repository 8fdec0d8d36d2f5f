"""The study: its metric, its tasks, the sections, what is trained and probed, the command and its results file."""

import hashlib
import json
import lzma
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_model
from transformers import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from configuration_qwen2_5_vl_circle_rope import age_schedule, validate_circle_rope
from evidence.study import bias, digits, pairs, relations, shapes, train
from evidence.study.__main__ import study
from evidence.study.answers import answer, chance, make_test, questions_of, share
from evidence.study.arms import (
    ARMS,
    BIAS,
    CONVERSION,
    CONVERSIONS,
    LAYERS,
    PLAN_FILES,
    PLANS,
    QUICK,
    SCALES,
    TASKS,
    Run,
    recipe,
    weights_path,
)
from evidence.study.batches import make_batch
from evidence.study.boards import CELL, METRIC, Board, is_held_out, make_example, place_name, place_names
from evidence.study.claims import AGE, LARGER, NAMED, PARTS, TRAINED, TWO, Claim, claims, claims_table, front_table
from evidence.study.converted import CONVERTED, conversion_tables
from evidence.study.experiments import best_rates, best_sections, rate_runs, runs_of
from evidence.study.found import by_cell, loss_by_distance, right, slope_over_cells, spread_over_cells
from evidence.study.model import make_model
from evidence.study.planned import plan_commit
from evidence.study.records import RESULTS, EvidenceError, append, parse_name, read_records
from evidence.study.sections import interleaved_order, section_sizes
from evidence.study.shapes import TRAINED_ON
from evidence.study.statistics import difference, holm
from evidence.study.train import make_record
from evidence.study.two import PICTURES, picture_tables

ROOT = Path(__file__).resolve().parents[2]
SHAPES_RUN = Run("shapes", "small", "grid-interleaved", 0)


def run(module, *arguments, **options):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


def assert_refused(done, *words):
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("error: ") and all(word in lines[-1] for word in words), done.stderr


def record_of(which, right=1.0, scales=SCALES, **more):
    """A record as short as it can be: `right` is the share of right answers."""
    ones = round(100 * right)
    outcomes = {"Where is": "1" * ones + "0" * (100 - ones)}
    tests = dict.fromkeys(TASKS[which.trained.what].TESTS, outcomes)
    found = {"curve": [], "tests": tests, "seconds": 60, "parameters": 1}
    base = {"metric": METRIC, "run": which.name, "what": which.what, "scale": which.scale, "arm": which.arm}
    return {**base, "seed": which.seed, "rate": which.rate, "recipe": recipe(which, scales), **found, **more}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(work):
    """A run of two steps on shapes: its record, and the model with the weights that it left."""
    record = make_record(SHAPES_RUN, work, QUICK)
    model, processor = make_model(SHAPES_RUN, QUICK, work)
    load_model(model, weights_path(SHAPES_RUN, QUICK, work))
    return record, model.eval(), processor


# ---- The metric ----

board_sizes = st.builds(lambda height, width: Board(height, width, 2, 4), *[st.integers(2, 9)] * 2)


@given(board_sizes)
def test_a_place_is_the_third_of_the_picture_that_the_cell_lies_in(board):
    for cell in range(board.height * board.width):
        words = place_name(cell, board).split()
        for number, count, names, word in zip(
            divmod(cell, board.width), board[:2], (("top", "middle", "bottom"), ("left", "centre", "right")), words
        ):
            centre = (number + 0.5) / count
            assert word == names[int(3 * centre)]
            # Nothing is drawn so far from the centre of its cell that it lies in another third.
            assert int(3 * (centre - 0.166 / count)) == int(3 * (centre + 0.166 / count)) == names.index(word)


def test_places_on_the_boards_of_the_study():
    assert place_names(Board(2, 2, 2, 4)) == {"top left", "top right", "bottom left", "bottom right"}
    assert place_names(Board(2, 3, 2, 4)) >= {"top centre", "bottom centre"} and len(place_names(TRAINED_ON[1])) == 6
    by_name = Counter(place_name(cell, Board(4, 4, 2, 4)) for cell in range(16))
    assert by_name["middle centre"] == 4 and by_name["top left"] == 1 and by_name["top centre"] == 2
    assert set(Counter(place_name(cell, Board(6, 6, 2, 4)) for cell in range(36)).values()) == {4}
    assert place_name(5, Board(4, 4, 2, 4)) == place_name(4, Board(3, 3, 2, 4)) == "middle centre"


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_scenes_of_the_tests_are_never_drawn_in_training(task):
    rng = random.Random(0)
    for board in {*task.TRAINED_ON, *(board for boards in task.TESTS.values() for board in boards)}:
        for held_out in (True, False):
            for scene in make_example(task, rng, board, held_out).scenes:
                assert is_held_out(scene, board) == is_held_out(scene[::-1], board) == held_out


def test_a_tenth_of_all_scenes_is_held_out():
    board = Board(60, 60, 1, 1)
    shares = [is_held_out((shapes.Thing("circle", "red", cell),), board) for cell in range(3600)]
    assert 0.08 < sum(shares) / len(shares) < 0.12


def test_a_test_set_is_of_the_seed_alone_and_questions_stand_in_the_order_of_outcomes(trained):
    record, _, _ = trained
    scale = QUICK["small"]
    assert make_test(shapes, "larger", 0, scale) == make_test(shapes, "larger", 0, scale)
    assert make_test(shapes, "larger", 0, scale) != make_test(shapes, "larger", 1, scale)
    for test, by_kind in record["tests"].items():
        asked = questions_of(shapes, test, 0, scale)
        assert {kind: len(each) for kind, each in asked.items()} == {kind: len(each) for kind, each in by_kind.items()}
        assert set("".join(by_kind.values())) <= set("01x")
        assert len({number for each in asked.values() for number, _, _ in each}) == 16 * len(shapes.TESTS[test])
        assert {board for each in asked.values() for _, board, _ in each} == set(shapes.TESTS[test])
    assert all(scale.board_pictures >= 512 for scale in SCALES.values())


def test_a_whole_record_is_small():
    scale = SCALES["small"]
    asked = {test: questions_of(shapes, test, 0, scale) for test in shapes.TESTS}
    outcomes = {test: {kind: "1" * len(each) for kind, each in kinds.items()} for test, kinds in asked.items()}
    assert len(json.dumps(record_of(SHAPES_RUN, tests=outcomes, curve=[[500, 0.1234, 0.1234]] * 20))) < 30_000


def test_chance_is_that_of_the_best_guess():
    asked = questions_of(shapes, "larger", 0, SCALES["small"])
    found = {kind: chance(each) for kind, each in asked.items()}
    assert found["Which is"] == 0.5
    for kind, expected in (("How many", 1 / 3), ("What shape", 1 / 4), ("What colour", 1 / 6), ("Where is", 1 / 4)):
        assert expected - 0.03 < found[kind] < expected + 0.06, kind


# ---- The tasks ----


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(list(TASKS)), st.integers(0, 10**6))
def test_every_answer_can_be_read_off_the_scene(name, seed):
    task, rng = TASKS[name], random.Random(seed)
    board = rng.choice([*task.TRAINED_ON, *(board for boards in task.TESTS.values() for board in boards)])
    example = make_example(task, rng, board, held_out=rng.random() < 0.5)
    things = [thing for scene in example.scenes for thing in scene]
    assert len({thing.label for thing in things}) == len(things)
    by_label = {thing.label: thing for thing in things}
    asked = task.ask(example, rng, 6)
    assert len({question.text for question in asked}) == 6
    for kind, text, told, cell in asked:
        assert text.startswith(kind)
        named = [by_label[word] for word in re.findall(r"\w+", text) if word in by_label]
        if kind == "How many":
            assert told == str(len(things)) and len(things) <= 4 and cell is None
        elif kind == "What shape":
            assert told == named[0].shape
        elif kind == "What colour":
            assert [thing.colour for thing in things if text == f"What colour is the {thing.shape}?"] == [told]
        elif kind == "What is":
            way = next(step for words, step in relations.WAYS.items() if words in text)
            start = divmod(named[0].cell, board.width)
            there = tuple(place + step for place, step in zip(start, way))
            (scene,) = (scene for scene in example.scenes if named[0] in scene)
            assert [each.shape for each in scene if divmod(each.cell, board.width) == there] == [told]
        elif kind == "Which picture":
            assert told == ("first", "second")[named[0] in example.scenes[1]] and len(example.scenes) == 2
        elif kind == "Which digit":
            assert [each.name for each in things if text == f"Which digit is {place_name(each.cell, board)}?"] == [
                told
            ]
        elif kind == "Where is":
            assert told == place_name(named[0].cell, board)
        else:
            assert any(set(named) <= set(scene) for scene in example.scenes)
            places = [divmod(thing.cell, board.width)["left" in text] for thing in named]
            assert places[0] != places[1] and by_label[told].cell == named[places.index(min(places))].cell
        assert cell is None or by_label.get(told, named[0] if named else None).cell == cell


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_thing_looks_the_same_in_every_cell(task):
    rng, board = random.Random(1), relations.Boards(3, 3, 3, 3, pictures=2)
    example = make_example(task, rng, board, held_out=True)
    first = example.scenes[0][0]
    cells = [thing.cell for thing in example.scenes[0]]
    free = next(cell for cell in range(9) if cell not in cells)
    moved = example._replace(scenes=((first._replace(cell=free), *example.scenes[0][1:]), *example.scenes[1:]))

    def cut(picture, cell):
        row, column = divmod(cell, 3)
        assert picture.size == (3 * CELL, 3 * CELL)
        return picture.crop((column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)).tobytes()

    before, after = task.draw(example)[0], task.draw(moved)[0]
    assert cut(before, first.cell) == cut(after, free) and cut(before, free) == cut(after, first.cell)
    assert len(task.draw(example)) == len(example.scenes) == (2 if task in (pairs, relations) else 1)
    assert all(side % (2 * scale.patch_size) == 0 for side in before.size for scale in SCALES.values())


def test_digits_are_split_by_picture():
    training, held_out = digits.pictures(False), digits.pictures(True)
    assert sum(map(len, training.values())) == 1400 and sum(map(len, held_out.values())) == 397
    assert min(map(len, held_out.values())) > 20 and training["7"][0].size == (8, 8)


def test_no_colour_is_on_both_pictures():
    example = make_example(pairs, random.Random(0), pairs.TRAINED_ON[0], held_out=False)
    first, second = ({thing.colour for thing in scene} for scene in example.scenes)
    assert not first & second


# ---- Sections and layouts ----


def test_interleaved_sections_are_those_of_qwen3_vl(work):
    assert section_sizes("interleaved", (16, 24, 24)) == (24, 20, 20)
    for scale in SCALES:
        which = Run("shapes", scale, "grid-interleaved", 0)
        sizes = section_sizes("interleaved", SCALES[scale].mrope_section)
        model, _ = make_model(which, QUICK, work)
        rope = model.model.language_model.rotary_emb
        parameters = {"rope_type": "default", "rope_theta": SCALES[scale].rope_theta, "mrope_section": list(sizes)}
        heads = {"hidden_size": 2 * sum(sizes), "num_attention_heads": 1, "num_key_value_heads": 1}
        config = Qwen3VLTextConfig(**heads, head_dim=2 * sum(sizes), rope_parameters=parameters)
        theirs = Qwen3VLTextRotaryEmbedding(config)
        positions = torch.rand(3, 1, 7) * 100
        order = interleaved_order(sizes)
        order = torch.cat([order, order + sum(sizes)])
        for ours, expected in zip(rope(torch.zeros(1), positions), theirs(torch.zeros(1), positions)):
            torch.testing.assert_close(ours, expected[..., order])


def test_the_interleaved_arms_are_what_mrope_interleaved_makes_of_a_model(work):
    """The same function, but for the order of components: the study moves frequencies, the option moves axes."""
    example = make_example(shapes, random.Random(0), TRAINED_ON[3], held_out=True)
    pictures, asked = [shapes.draw(example)], [shapes.ask(example, random.Random(0), 6)]
    for arm in ("grid-interleaved", "ring-interleaved"):
        model, processor = make_model(Run("shapes", "small", arm, 0), QUICK, work)
        wanted = answer(model.eval(), processor, pictures, asked)
        rope, config = model.model.language_model.rotary_emb, model.config
        order = interleaved_order(section_sizes("interleaved", SCALES["small"].mrope_section))
        rope.inv_freq.copy_(rope.inv_freq[order.argsort()])
        assert torch.equal(rope.inv_freq, rope.inv_freq.sort(descending=True).values)
        model.set_circle_rope({**config.circle_rope, "mrope_interleaved": True})
        back = torch.cat([order.argsort(), order.argsort() + len(order)])
        for layer in model.model.language_model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                for values in (projection.weight.data, projection.bias.data):
                    heads = values.unflatten(0, (-1, 2 * len(order)))
                    values.copy_(heads[:, back].flatten(0, 1))
        found = answer(model, processor, pictures, asked)
        torch.testing.assert_close(found.margin, wanted.margin, atol=1e-4, rtol=1e-4)


def test_contiguous_sections_are_left_as_they_are(work):
    model, _ = make_model(Run("shapes", "small", "ring-contiguous", 0), QUICK, work)
    rope = model.model.language_model.rotary_emb
    assert rope.mrope_section == [4, 6, 6] and torch.equal(rope.inv_freq, rope.original_inv_freq)


def test_where_all_rows_are_equal_sections_mean_nothing(work):
    example = make_example(shapes, random.Random(0), TRAINED_ON[3], held_out=True)
    asked = [shapes.ask(example, random.Random(0), 6)]
    for arm in SCALES["small"].arms:
        model, processor = make_model(Run("shapes", "small", arm, 0), QUICK, work)
        seen = []
        answer(model, processor, [shapes.draw(example)], asked, lambda *given, seen=seen: seen.append(given))
        positions, begin = seen[0]
        # The 36 tokens of the picture stand in front of the token that ends it.
        image = positions[:, 0, begin - 37 : begin - 1].unique(dim=1).shape[1]
        assert torch.equal(positions[0], positions[2]) == (arm in ("shared", "flattened"))
        assert image == (1 if arm == "shared" else 36)


def test_every_arm_is_within_the_options_of_the_block():
    for arm in ARMS.values():
        age_schedule(validate_circle_rope(arm.block).get("AGE_mode"), LAYERS)
    assert all(set(scale.arms) <= set(ARMS) for scale in SCALES.values())
    assert SCALES["small"].seeds == 8 and SCALES["real"].seeds == 6
    assert not set(range(8)) & set(SCALES["small"].rate_seeds)


# ---- Training and probes ----


def test_a_run_gives_the_same_result_again(trained, work, tmp_path):
    record, _, _ = trained
    again = make_record(SHAPES_RUN, tmp_path, QUICK)
    assert {**again, "seconds": 0} == {**record, "seconds": 0}
    assert {"python", "torch", "transformers", "machine", "processor", "kernels"} <= record.keys()
    assert record["processor"] and record["kernels"] == torch.backends.cpu.get_cpu_capability()
    assert [step for step, _, _ in record["curve"]] == [1, 2]
    assert weights_path(SHAPES_RUN, QUICK, work).read_bytes() == weights_path(SHAPES_RUN, QUICK, tmp_path).read_bytes()


def test_positions_that_move_together_change_nothing(trained):
    _, model, processor = trained
    examples = make_test(shapes, "larger", 0, QUICK["small"])[:4]
    pictures, asked = [shapes.draw(example) for example, _ in examples], [questions for _, questions in examples]

    def margins(move=None):
        return answer(model, processor, pictures, asked, move).margin

    def together(position_ids, begin):
        position_ids += 64

    still = margins()
    torch.testing.assert_close(margins(together), still, atol=1e-3, rtol=0)
    for rows in bias.AXES.values():
        assert (margins(bias.text_mover(rows, 64)) - still).abs().max() > 1e-3


def test_bias_is_measured_on_the_weights_and_these_are_made_again_where_they_are_gone(trained, work, tmp_path):
    which = Run(BIAS, "small", SHAPES_RUN.arm, 0)
    found = make_record(which, work, QUICK)
    assert len(found["cells"]["3x3"]["outcomes"]) == len(found["cells"]["3x3"]["margin"]) == 9
    assert {len(each) for each in found["cells"]["6x6"]["outcomes"]} == {2} and by_cell(found, "4x4").shape == (16, 2)
    assert all(len(found["distance"][axes]) == len(bias.DISTANCES) for axes in bias.AXES)
    assert found["distance"]["t"][0][2] == 0 and found["distance"]["t"][-1][1] != found["distance"]["t"][0][1]
    again = make_record(which, tmp_path, QUICK)
    assert (again["cells"], again["distance"]) == (found["cells"], found["distance"])


def test_one_thing_goes_through_all_cells_and_the_others_stay():
    scene = shapes.make_scene(random.Random(0), Board(3, 3, 4, 4), True)
    for cell in range(9):
        first, *others = bias._move_first(scene, cell)
        assert first == scene[0]._replace(cell=cell)
        assert len({first.cell, *(other.cell for other in others)}) == 4
        assert sum(old != new for old, new in zip(scene[1:], others)) <= 1


@pytest.mark.parametrize("what", ["pairs", "digits"])
def test_other_tasks_are_trained_too(what, work):
    record = make_record(Run(what, "small", "ring-contiguous", 0), work, QUICK)
    asked = questions_of(TASKS[what], "as trained", 0, QUICK["small"])
    outcomes = record["tests"]["as trained"]
    assert {kind: len(each) for kind, each in asked.items()} == {kind: len(each) for kind, each in outcomes.items()}


def test_trained_weights_go_on_under_another_block(work):
    record = make_record(Run(CONVERSION, "converted", "strategy_4 annealed", 0), work, QUICK)
    assert record["converted"].keys() == record["tests"].keys() == relations.TESTS.keys()
    assert record["recipe"]["plan"] == hashlib.sha256(PLAN_FILES["conversion"].read_bytes()).hexdigest()
    assert [step for step, _, _ in record["curve"]] == [1, 2]
    base = make_record(Run("relations", "converted", "grid-contiguous", 0), work, QUICK)
    kept = make_record(Run(CONVERSION, "converted", "mrope", 0), work, QUICK)
    assert kept["converted"] == base["tests"]


def test_training_stops_where_enough_places_are_known(work):
    scales = {**QUICK, "converted": replace(QUICK["converted"], until=-1.0)}
    record = make_record(Run("relations", "converted", "grid-contiguous", 1), work, scales)
    assert [step for step, _, _ in record["curve"]] == [1]


def test_a_plan_that_was_changed_after_its_runs_is_refused(tmp_path):
    which = Run(CONVERSION, "converted", "mrope", 0)
    assert read_records(write(tmp_path / "runs.jsonl", record_of(which)), SCALES)
    changed = record_of(which)
    changed["recipe"]["plan"] = "0" * 64
    with pytest.raises(EvidenceError, match="made with plan 000"):
        read_records(write(tmp_path / "runs.jsonl", changed), SCALES)


def test_with_lora_adapters_alone_are_trained(work):
    which = Run(CONVERSION, "converted", "strategy_4 with LoRA", 0)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "test", lambda model, *_: seen.append(model) or {})
        assert make_record(which, work, QUICK)["recipe"]["blocks"] == [[0, {"radius": 10, "AGE_mode": "strategy_4"}]]
    learned = {name for name, each in seen[-1].named_parameters() if each.requires_grad}
    assert len(learned) == 2 * 7 * LAYERS and all(".language_model.layers." in name for name in learned)
    assert all("lora_" in name for name in learned) and seen[-1].config.circle_rope["AGE_mode"] == "strategy_4"


def all_records(planned, record_of_run):
    """All records of a planned experiment, as the function makes them of a run."""
    records = {}
    while missing := [each for each in planned.runs(records) if each.name not in records]:
        records |= {each.name: record_of_run(each) for each in missing}
    return records


def test_what_the_conversion_says_follows_from_its_runs():
    def made(which):
        known = {"mrope": (0.8, 0.8), "strategy_4": (0.5, 0.9)}.get(which.arm, (0.5, 0.7))
        tests = [
            {
                test: dict.fromkeys(("Where is", "What shape"), "1" * round(10 * each) + "0" * round(10 - 10 * each))
                for test in relations.TESTS
            }
            for each in known
        ]
        if which.what == "relations":
            return record_of(which, tests=tests[0], curve=[[5, 1.0, 0.85]])
        curve = [[5, 1.0, 0.6], [10, 1.0, known[1]]]
        return record_of(which, converted=tests[0], tests=tests[1], curve=curve)

    records, plan = all_records(CONVERTED, made), PLANS["conversion"]
    verdicts, short, lines = (text.splitlines()[2:] for text in conversion_tables(records).values())
    seeds, fewer = len(plan["seeds"]), plan["other_seeds"]
    ends = " | 50.0 ± 0.0 | 50.0 ± 0.0 | 90.0 ± 0.0 | 90.0 ± 0.0 | 90.0 ± 0.0 | 90.0 ± 0.0 |"
    assert f"| strategy_4 | {min(plan['rates']['strategy_4'])} | {seeds}{ends} 10 |" in lines
    assert any(line.startswith("| ring with LoRA |") and line.endswith(f"| (0/{fewer}) |") for line in lines)
    assert verdicts[0].startswith("| the named contrast | strategy_4 minus mrope | +10.0 |")
    assert len(verdicts) == 1 + len(plan["family"]) and len(lines) == 1 + len(CONVERSIONS)
    assert "| strategy_4 | 50.0±0.0 | 90.0±0.0 | 10 | 70.0±0.0 |" in short
    assert short[0] == "| before |  | 50.0±0.0 |  |  |" and len(short) == 9
    assert conversion_tables(dict(list(records.items())[:-1])) == {}


# ---- Why two pictures ----


def two_pictures(arm, work, rows=2, columns=3):
    """Positions of two pictures of so many cells and a question behind them, under an arm; and which are images."""
    model, processor = make_model(Run("pairs", "two", arm, 200), QUICK, work)
    example = make_example(pairs, random.Random(0), Board(rows, columns, 2, 3), held_out=False)
    batch = make_batch(model, processor, [pairs.draw(example)], [[("Where is red?", "top left")]])
    return batch["position_ids"][:, 0], batch["input_ids"][0] == model.config.image_token_id


def test_h_and_w_begin_anew_in_every_picture(work):
    grid, is_image = two_pictures("grid-interleaved", work)
    reset, _ = two_pictures("grid-reset", work)
    assert torch.equal(reset[0], grid[0]) and torch.equal(reset[:, ~is_image], grid[:, ~is_image])
    rows, columns = torch.arange(4.0).repeat_interleave(6).repeat(2), torch.arange(6.0).repeat(8)
    assert torch.equal(reset[1:, is_image], torch.stack([rows, columns]))
    # The picture's six columns, and the tokens that end it and begin the next.
    assert reset[0, is_image].unique().diff().tolist() == [8]


def test_neighbours_are_three_times_as_far_apart(work):
    grid, is_image = (each[..., :40] for each in two_pictures("grid-interleaved", work))
    spaced, _ = two_pictures("grid-spaced", work)
    first = grid[:, is_image][:, :1]
    assert torch.equal(spaced[:, :40][:, is_image] - first, 3 * (grid[:, is_image] - first))


def test_the_arms_codes_of_two_pictures_are_as_alike_as_the_plan_says(work):
    expected = {"grid-interleaved": -0.44, "grid-stride-15": 0.77, "grid-stride-21": -0.84, "grid-spaced": 0.05}
    expected |= {"ring-interleaved": 0.0, "ring-stride-17": -0.65, "ring-stride-26": 0.41}
    assert [float(each) for each in re.findall(r"[+-]?\d\.\d\d", PLANS["pictures"]["codes"])] == [*expected.values()]
    rope = SCALES["two"].rope("interleaved")
    for arm, code in expected.items():
        alike = []
        for rows, columns in ((2, 2), (2, 3), (3, 2), (3, 3)):
            positions, is_image = two_pictures(arm, work, rows, columns)
            phases = rope.phases(positions[:, is_image])
            first, second = torch.polar(torch.ones(()).double(), phases).chunk(2)
            first, second = first - first.mean(0), second - second.mean(0)
            alike.append(((first.conj() * second).real.sum() / first.abs().square().sum()).item())
        assert sum(alike) / 4 == pytest.approx(code, abs=0.006), arm


def records_of_two(right_of):
    """All records of the plan of two pictures, with the share of right answers that `right_of` gives a run."""

    def made(which):
        record = record_of(which, right_of(which), curve=[[step, 0.1, right_of(which)] for step in range(1, 21)])
        record["tests"]["as trained"]["Which is"] = record["tests"]["as trained"]["Where is"]
        return record

    return all_records(PICTURES, made)


def test_the_contrast_of_two_pictures_comes_first_and_every_arm_has_its_rate():
    search = PICTURES.runs({})
    assert len(search) == 12 and {each.arm for each in search} == {"grid-reset", "ring-interleaved"}
    assert {each.seed for each in search} == {290, 291} and {each.rate for each in search} == {0.5, 1, 2}
    records = records_of_two(lambda each: 0.9 if each.rate == (2 if "ring" in each.arm else 0.5) else 0.5)
    assert len(records) == 12 + 2 * 12 + 6 + 10 * 6
    found = [parse_name(name) for name in records]
    assert {each.arm for each in found[12:36]} == {"grid-reset", "ring-interleaved"}
    assert {each.seed for each in found[12:36]} == set(range(200, 212))
    assert all(each.rate == (2 if "ring" in each.arm else 0.5) for each in found if each.seed < 290)
    assert len(PICTURES.runs(records, seeds=1)) == 12 + 2 + 6 + 10
    used = {parse_name(name).seed for name in read_records(RESULTS, SCALES)}
    assert not used & {*PLANS["pictures"]["seeds"], *PLANS["pictures"]["rate_seeds"]}


def test_nothing_is_said_of_two_pictures_before_all_runs_are_there():
    records = records_of_two(lambda each: 0.5 + 0.001 * (each.seed % 2) + 0.2 * (each.arm == "ring-interleaved"))
    verdicts, table = (text.splitlines()[2:] for text in picture_tables(records).values())
    named, *family = verdicts
    assert named.startswith("| the named contrast | two/grid-reset minus two/ring-interleaved | -20.0 |")
    assert "| 12 |" in named and len(family) == 4 and all("| 6 |" in line for line in family)
    assert any(line.startswith("| two long/ring-interleaved | 0.5 | 6 | 70") for line in table)
    last = list(records)[-1]
    assert picture_tables({name: each for name, each in records.items() if name != last}) == {}


def test_weights_that_know_one_picture_go_on_with_two(work, capsys):
    record = make_record(Run("pairs", "two from one", "grid-interleaved", 200), work, QUICK)
    assert re.findall(r"(\w+)/two from one/.*: step (\d)", capsys.readouterr().out) == [
        *(("shapes", "1"), ("shapes", "2")),
        *(("pairs", "1"), ("pairs", "2")),
    ]
    assert len(record["curve"]) == 2 and record["recipe"]["before"] == "shapes"


def test_a_plan_counts_from_its_commit_on(tmp_path, monkeypatch):
    monkeypatch.setitem(PLAN_FILES, "pictures", tmp_path / "pictures.json")

    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    PLAN_FILES["pictures"].write_text("{}")
    assert plan_commit("pictures") == ""
    git("add", "pictures.json")
    git("commit", "-m", "A plan")
    assert plan_commit("pictures") == git("rev-parse", "HEAD")
    PLAN_FILES["pictures"].write_text("[]")
    assert plan_commit("pictures") == ""
    given = SimpleNamespace(experiment=["pictures"], scale=None, seeds=None, output=tmp_path / "runs", quick=False)
    with pytest.raises(EvidenceError, match="pictures.json is not committed as it is"):
        study(given, SCALES)


# ---- Experiments ----


def some_records(right_of, seeds=2, scale="small"):
    """Records of the allocation experiment, with the share of right answers that `right_of` gives a run."""
    records = {}
    while missing := [
        each for each in runs_of("allocation", scale, seeds, records, SCALES) if each.name not in records
    ]:
        records |= {each.name: record_of(each, right_of(each)) for each in missing}
    return records


def test_learning_rates_are_searched_first_and_every_arm_takes_its_familys_best():
    first = runs_of("allocation", "small", 8, {}, SCALES)
    assert first == rate_runs("small", SCALES) and len(first) == 12 and {each.seed for each in first} == {100, 101}
    best = {"grid": 2, "ring": 0.5}
    records = some_records(lambda each: 0.9 if each.rate == best[ARMS[each.arm].family] else 0.5, seeds=8)
    assert best_rates(records, "small", SCALES) == best
    made = [parse_name(name) for name in records if not name.endswith(("/100", "/101"))]
    assert len(made) == 8 * 6 and [each.seed for each in made[:6]] == [0] * 6
    assert all(each.rate == best[ARMS[each.arm].family] for each in made)


def test_later_experiments_take_up_what_the_first_one_found():
    shares = {"ring-interleaved": 0.9, "ring-contiguous": 0.7, "grid-interleaved": 0.8}
    records = some_records(lambda each: shares.get(each.arm, 0.5))
    assert best_sections(records, "small", 2, SCALES) == "interleaved"
    found = {each: runs_of(each, "small", 2, records, SCALES) for each in ("bias", "digits", "age")}
    assert len(found["bias"]) == 2 * 6 + 2 * 4 and {each.what for each in found["bias"]} == {"bias", "pairs"}
    best = ["ring-interleaved", "grid-interleaved", "ring-contiguous"]
    assert [each.arm for each in found["digits"]] == 2 * best and {each.what for each in found["digits"]} == {"digits"}
    assert {each.arm for each in found["age"]} == {f"strategy_{number}-interleaved" for number in (2, 3, 4)}
    records |= {each.name: record_of(each) for each in found["age"]}
    assert {each.what for each in runs_of("age", "small", 2, records, SCALES)} == {"shapes", "bias", "digits", "pairs"}
    with pytest.raises(EvidenceError, match="allocation"):
        runs_of("digits", "small", 3, records, SCALES)


# ---- The command and the results ----


def quick_records(folder, but=()):
    records = some_records(lambda each: 0.5, seeds=1)
    kept = [
        record | {"recipe": recipe(parse_name(name), QUICK)} for name, record in records.items() if name not in but
    ]
    return write(folder / "runs.jsonl", *kept)


QUICK_STUDY = ("--quick", "--experiment", "allocation", "--seeds", 1)


def test_a_killed_study_goes_on_where_it_was(tmp_path, work):
    but = ["shapes/small/shared/x0.5/0", "shapes/small/flattened/x0.5/0"]
    results = quick_records(tmp_path, but)
    before = results.read_text()
    command = [sys.executable, "-m", "evidence.study", *map(str, QUICK_STUDY), "--output", results, "--work", work]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert "2 of 18" in process.stdout.readline()
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
        # Its runs have the other end of this pipe: it closes when they have ended too.
        assert "Traceback" not in process.stdout.read()
    done = run("evidence.study", *QUICK_STUDY, "--output", results, "--work", work)
    assert done.returncode == 0, done.stderr
    assert results.read_text().startswith(before)
    assert set(read_records(results, QUICK)) >= set(but) and len(read_records(results, QUICK)) == 18
    done = run("evidence.study", *QUICK_STUDY, "--output", results, "--work", work)
    assert done.returncode == 0 and done.stdout == "all runs are there.\n"


def test_results_of_other_recipes_are_not_mixed(tmp_path):
    for module, option in (("evidence.study", "--output"), ("evidence.report", "--study")):
        assert_refused(run(module, option, quick_records(tmp_path)), "line 1", "recipes are not mixed")


def test_results_of_the_older_metric_are_refused_with_the_reason(tmp_path):
    made = {"recipe": {"tests": {"larger": [[4, 4, 2, 4]]}}, "tests": {"larger": {"Where is": [3, 16]}}}
    older = write(tmp_path / "older.jsonl", {"run": "small/circle/0", "scale": "small", "arm": "circle", **made})
    mixed = write(tmp_path / "runs.jsonl", record_of(SHAPES_RUN))
    mixed.write_text(mixed.read_text() + older.read_text())
    for path, line in ((older, 1), (mixed, 2)):
        with pytest.raises(EvidenceError, match=f"line {line} .*other places on larger boards"):
            read_records(path, SCALES)


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"run": "small/mro', "delete this line"),
        ("[1, 2]", "delete this line"),
        (json.dumps(record_of(SHAPES_RUN) | {"run": "shapes/small/cone/x1/0"}), "not in this study"),
        (json.dumps(record_of(SHAPES_RUN) | {"run": "shapes/small"}), "not in this study"),
        (json.dumps(record_of(SHAPES_RUN, tests={"as trained": {}})), "not the complete record"),
        ("\n".join([json.dumps(record_of(SHAPES_RUN))] * 2), "second record"),
    ],
)
def test_a_broken_results_file_is_refused_with_what_to_do(tmp_path, content, words):
    results = tmp_path / "runs.jsonl"
    results.write_text(content + "\n")
    with pytest.raises(EvidenceError, match=words):
        read_records(results, SCALES)
    assert results.read_text() == content + "\n"


@pytest.mark.parametrize("name", ["runs.jsonl", "runs.jsonl.xz"])
def test_records_are_added_line_by_line(tmp_path, name):
    path = tmp_path / "new" / name
    for seed in (0, 1):
        append(path, json.dumps(record_of(Run("shapes", "small", "shared", seed))) + "\n")
    assert list(read_records(path, SCALES)) == ["shapes/small/shared/x1/0", "shapes/small/shared/x1/1"]
    assert share(read_records(path, SCALES)["shapes/small/shared/x1/0"]["tests"]["as trained"]) == 1


def test_a_compressed_results_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "runs.jsonl.xz"
    append(path, json.dumps(record_of(SHAPES_RUN)) + "\n")
    for content in (path.read_bytes()[:-9], b"no xz"):
        path.write_bytes(content)
        with pytest.raises(EvidenceError, match="broken or cut off"):
            read_records(path, SCALES)


def test_any_reader_of_xz_reads_the_committed_results():
    path = ROOT / "evidence" / "results" / "runs.jsonl.xz"
    with lzma.open(path, "rt") as file:
        assert [json.loads(line)["run"] for line in file] == list(read_records(path, SCALES))
    assert path.stat().st_size < 600_000


@pytest.mark.parametrize("option", [("--jobs", "0"), ("--seeds", "-1"), ("--seeds", "x"), ("--experiment", "cone")])
def test_options_that_mean_nothing_are_refused(option):
    done = run("evidence.study", *option)
    assert done.returncode == 2 and option[0] in done.stderr.splitlines()[-1]


def test_the_conversion_has_a_size_of_its_own():
    done = run("evidence.study", "--experiment", "conversion", "--scale", "real")
    assert done.returncode == 2 and "leave --scale out" in done.stderr.splitlines()[-1]


def test_an_experiment_that_lacks_another_ones_results_says_which(tmp_path):
    done = run("evidence.study", "--experiment", "digits", "--output", tmp_path / "runs.jsonl")
    assert_refused(done, "digits", "--experiment allocation --scale small")


# ---- Statistics and the report ----


def test_measures_of_position_bias():
    half = {"outcomes": ["01" * 25] * 9, "margin": [2 + 0.25 * each for each in range(9)]}
    record = {"cells": {"3x3": half}}
    assert slope_over_cells(record, "3x3") == pytest.approx(2) and spread_over_cells(record, "3x3") == 0
    half["outcomes"] = ["0" * 50, "1" * 50] * 4 + ["0" * 50]
    assert spread_over_cells(record, "3x3") == pytest.approx(52.7, abs=0.1)
    # Where scenes differ, but not with the cell, a single scene that does is all that is seen.
    half["outcomes"] = ["01" * 25] * 8 + ["11" + "01" * 24]
    assert 0 <= spread_over_cells(record, "3x3") < 0.5
    # Chance alone: nearly nothing is left of a standard deviation of 7 points.
    rng = numpy.random.default_rng(0)
    spreads = []
    for _ in range(50):
        half["outcomes"] = ["".join("01"[each] for each in row) for row in rng.integers(2, size=(9, 50))]
        spreads.append(spread_over_cells(record, "3x3") ** 2)
    assert numpy.mean(spreads) < 0.3 * 7.07**2
    assert loss_by_distance({"distance": {"all axes": [[0.9, 1, 0], [0.7, 1, 0], [0.5, 1, 0.4]]}}) == pytest.approx(40)


def test_an_interval_is_student_over_seeds():
    # By hand: mean 2, standard error 1 / sqrt(3), and 4.303 of it at two degrees of freedom.
    found = difference([1.0, 2.0, 3.0])
    assert found.mean == 2 and numpy.allclose(found.interval, (2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), atol=1e-3)
    assert found.p == pytest.approx(0.0742, abs=1e-4)
    assert difference([1.0]).interval is None and difference([0.0] * 3).p == 1


def a_claim(by_seed, family=TRAINED, what="shapes", measure="as trained", p=None):
    found = difference(by_seed)
    return Claim(family, "small", what, ("one", "other"), measure, "points", found, found.p if p is None else p)


def test_a_verdict_is_that_of_the_corrected_p():
    assert a_claim([5.0, 5.1, 5.2]).verdict == "above zero" and a_claim([-5.0, -5.1, -5.2]).verdict == "below zero"
    assert a_claim([5.0, 5.1, 5.2], p=0.06).verdict == "open (after correction)"
    assert a_claim([1.0, 2.0, 3.0]).verdict == "open" and a_claim([1.0]).verdict == "one seed"
    assert a_claim([5.0, 5.1, 5.2], PARTS).verdict == ""


def test_what_was_named_after_a_look_has_a_dagger():
    assert a_claim([1.0]).on == "as trained" and a_claim([1.0], measure="larger").on == "larger"
    after = [a_claim([1.0], measure="much larger"), a_claim([1.0], TWO, "pairs"), a_claim([1.0], measure="of 6x6")]
    for claim in after:
        assert claim.on.endswith(" †") and "†" in claims_table([claim])


def test_p_is_corrected_within_its_family_alone():
    ring = {0: 0.8, 1: 0.81, 2: 0.82}
    records = some_records(lambda each: ring.get(each.seed, 0.8) if each.arm == "ring-contiguous" else 0.5, seeds=3)
    for record in records.values():
        which = record["tests"]["as trained"]["Where is"]
        wrong = which.replace("1", "0")
        record["tests"] = {test: {"Which is": which if test == "as trained" else wrong} for test in shapes.TESTS}
    made = claims(records, SCALES)
    (named,) = made[NAMED]
    assert named.found.mean == pytest.approx(7.75) and named.p == named.found.p and named.verdict == "above zero"
    assert [claim.found.mean for claim in made[PARTS]] == pytest.approx([31, 0, 0, 0])
    assert {claim.p for claim in made[PARTS]} == {None}
    assert not made[TWO] and not made[AGE] and (len(made[LARGER]), len(made[TRAINED])) == (14, 7)
    assert [claim.p for claim in made[TRAINED]] == holm([claim.found.p for claim in made[TRAINED]])
    assert made[TRAINED][0].p == pytest.approx(7 * made[TRAINED][0].found.p)
    assert made[TRAINED][0].found.mean == pytest.approx(31) and made[TRAINED][0].verdict == "above zero"
    assert "| small | **+7.8±0.6** | +31.0±2.5 | +0.0±0.0 |" in front_table(made)


@pytest.fixture(scope="module")
def some_study(trained, work, tmp_path_factory):
    """A results file of a study that is far from finished: of the small scale alone, one seed, and not all arms."""
    record, _, _ = trained
    records = {name: record_of(parse_name(name), scales=QUICK) for name in some_records(lambda each: 0.5, seeds=1)}
    quick = Run("shapes", "small", SHAPES_RUN.arm, 0, 0.5)
    records[quick.name] = record | {"run": quick.name, "rate": 0.5}
    kinds = {test: {kind: "1" * len(each) for kind, each in by.items()} for test, by in record["tests"].items()}
    for arm in ("ring-contiguous", "grid-contiguous"):
        records[Run("shapes", "small", arm, 0, 0.5).name] |= {"tests": kinds, "curve": record["curve"]}
    for arm in ("shared", "flattened", "ring-interleaved"):
        del records[Run("shapes", "small", arm, 0, 0.5).name]
    which = Run(BIAS, "small", SHAPES_RUN.arm, 0, 0.5)
    records[which.name] = make_record(Run(BIAS, "small", SHAPES_RUN.arm, 0), work, QUICK) | {"run": which.name}
    return write(tmp_path_factory.mktemp("results") / "runs.jsonl", *records.values()), record


def test_the_report_goes_as_far_as_the_records(some_study, tmp_path):
    path, record = some_study
    done = run("evidence.report", "--quick", "--study", path, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "results" / "study.md").read_text()
    ahead = 100 - right(record, kinds=("Which is",))
    claim = next(line for line in page.splitlines() if "four boards |" in line)
    assert f"| {ahead:+.2f} points |" in claim and "one seed" in claim
    for title in ("learning rates", "by kind", "learning curve", "position bias"):
        assert any(line.startswith("## small") and title in line for line in page.splitlines()), title
    assert any(line.startswith("| chance | ") for line in page.splitlines()) and "real" not in page
    front = (tmp_path / "README.md").read_text()
    assert f"| small | {ahead:+.1f} |" in front
    assert {each.name for each in (tmp_path / "figures").iterdir()} == {"board.png", "cone.png", "why.png"}


def test_a_report_without_results_is_refused(tmp_path):
    assert_refused(run("evidence.report", "--study", tmp_path / "none.jsonl"), "no runs yet")


def test_the_report_is_what_the_results_give(tmp_path):
    done = run("evidence.report", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    committed = ROOT / "evidence"
    for page in ("README.md", "results/geometry.md", "results/study.md"):
        assert (tmp_path / page).read_text() == (committed / page).read_text(), page
    made = {path.name for path in (tmp_path / "figures").iterdir()}
    assert made == {path.name for path in (committed / "figures").iterdir()}


def test_the_front_page_can_be_read_in_one_sitting():
    text = (ROOT / "evidence" / "README.md").read_text()
    assert len(text.split()) <= 700
    shown = re.findall(r"!\[[^\]]+\]\((figures/[^)]+)\)", text)
    assert len(shown) == 2 and all((ROOT / "evidence" / path).exists() for path in shown)
