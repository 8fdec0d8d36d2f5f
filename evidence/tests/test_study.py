"""The study: its task, its runs in processes of their own, its results file, and the report made from it."""

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configuration_qwen2_5_vl_circle_rope import age_schedule, validate_circle_rope
from evidence.study import report as study_report
from evidence.study.arms import ARMS, QUICK, SCALES, SWITCHES, Run, make_runs, recipe
from evidence.study.records import EvidenceError, read_records
from evidence.study.task import COLUMNS, MOST_COUNTED, ROWS, Board, draw, make_questions, make_scene, place_name

EVIDENCE = Path(__file__).resolve().parent.parent


def run(module, *arguments):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=EVIDENCE.parent)


def assert_refused(done, *words):
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("error: ") and all(word in lines[-1] for word in words), done.stderr


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A study of a few steps, made by the command."""
    folder = tmp_path_factory.mktemp("study")
    done = run("evidence.study", "--quick", "--output", folder / "study.jsonl", "--work", folder / "work")
    assert done.returncode == 0, done.stderr
    return folder


def record_of(which, scales=SCALES, **more):
    return {"run": which.name, "recipe": recipe(which, scales), "curve": [], "tests": {}, **more}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


boards = st.builds(lambda height, width: Board(height, width, 2, min(6, height * width)), *[st.integers(2, 6)] * 2)


@settings(deadline=None)
@given(boards, st.integers(0, 10**6))
def test_every_answer_can_be_read_off_the_scene(board, seed):
    rng = random.Random(seed)
    scene = make_scene(rng, board)
    assert len({thing.colour for thing in scene}) == len({thing.cell for thing in scene}) == len(scene)
    by_colour = {thing.colour: thing for thing in scene}
    questions = make_questions(scene, board, rng, 6)
    assert len(questions) == len(set(questions)) == 6
    for question, answer in questions:
        words = re.findall(r"\w+", question)
        named = [by_colour[word] for word in words if word in by_colour]
        if words[0] == "How":
            assert answer == str(len(scene)) and len(scene) <= MOST_COUNTED
        elif words[:2] == ["What", "shape"]:
            assert answer == named[0].shape
        elif words[:2] == ["What", "colour"]:
            assert [thing.colour for thing in scene if thing.shape == words[-1]] == [answer]
        elif words[0] == "Where":
            assert answer == place_name(named[0].cell, board)
        else:
            axis = 0 if "higher" in words else 1
            places = [divmod(thing.cell, board.width)[axis] for thing in named]
            assert places[0] != places[1] and by_colour[answer].cell == named[places.index(min(places))].cell


@given(boards)
def test_places_have_the_same_words_on_every_board(board):
    names = [place_name(cell, board) for cell in range(board.height * board.width)]
    assert names[0] == "top left" and names[-1] == "bottom right"
    assert ("middle" in {name.split()[0] for name in names}) == (board.height % 2 == 1)
    mirrored = {"left": "right", "centre": "centre", "right": "left"}
    for row in range(board.height):
        line = [name.split() for name in names[row * board.width : (row + 1) * board.width]]
        assert [column for _, column in line] == [mirrored[column] for _, column in reversed(line)]
        assert {vertical for vertical, _ in line} <= set(ROWS) and {column for _, column in line} <= set(COLUMNS)


def test_a_larger_board_is_a_larger_picture():
    rng = random.Random(0)
    for board in (Board(2, 2, 2, 4), Board(3, 5, 2, 4)):
        picture = draw(make_scene(rng, board), board, rng)
        assert picture.size == (32 * board.width, 32 * board.height)
        # 2 patches of the merged grid on either side make a token.
        assert all(side % (2 * scale.patch_size) == 0 for side in picture.size for scale in SCALES.values())


def test_every_arm_is_within_the_options_of_the_block():
    for block in (*ARMS.values(), *(block for block, _ in SWITCHES.values())):
        age_schedule(validate_circle_rope(block).get("AGE_mode"), 4)
    for needed in ("mrope", "circle", "strategy_2", "strategy_3", "strategy_4", "dff_0.1"):
        assert needed in SCALES["small"].arms
    assert all(len(scale.seeds) >= 3 for scale in SCALES.values())


def test_every_run_of_the_study_has_a_record_of_its_own(quick):
    records = read_records(quick / "study.jsonl", QUICK)
    assert set(records) == {which.name for which in make_runs(QUICK)}
    for record in records.values():
        assert record["curve"][0]["step"] == 0 and record["curve"][-1]["step"] == 2
        assert record["tests"]["larger"]["questions"] > 0 and 0 <= record["tests"]["larger"]["exact"] <= 1


def test_a_run_gives_the_same_result_again_and_what_is_there_is_not_run_again(quick, tmp_path):
    lines = (quick / "study.jsonl").read_text().splitlines()
    kept = [line for line in lines if "strategy_4" not in json.loads(line)["run"]]
    results = tmp_path / "study.jsonl"
    results.write_text("\n".join(kept) + "\n")
    done = run("evidence.study", "--quick", "--output", results, "--work", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    new = results.read_text().splitlines()
    assert new[: len(kept)] == kept and len(new) == len(lines)
    again, before = json.loads(new[-1]), next(json.loads(line) for line in lines if line not in kept)
    for record in (again, before):
        record.pop("seconds")
    assert again == before


def test_a_switch_starts_from_the_weights_of_m_rope_even_where_these_are_gone(quick, tmp_path):
    lines = [json.loads(line) for line in (quick / "study.jsonl").read_text().splitlines()]
    results = write(tmp_path / "study.jsonl", *(line for line in lines if not line["run"].endswith("stay/0")))
    done = run("evidence.study", "--quick", "--output", results, "--work", tmp_path / "work", "--only", "switch/stay")
    assert done.returncode == 0, done.stderr
    records = read_records(results, QUICK)
    assert len(records) == len(lines)
    learned = records["small/mrope/0"]["curve"][-1]["exact"]
    assert records["small/switch/stay/0"]["curve"][0]["exact"] == learned


def test_the_runs_are_listed(tmp_path):
    which = make_runs(SCALES)[0]
    results = write(tmp_path / "study.jsonl", record_of(which))
    done = run("evidence.study", "--list", "--output", results)
    states = dict(reversed(line.split()) for line in done.stdout.splitlines())
    assert set(states) == {which.name for which in make_runs(SCALES)}
    assert [name for name, state in states.items() if state == "done"] == [which.name]


def test_tables_and_figures_come_from_the_records(quick, tmp_path):
    records = read_records(quick / "study.jsonl", QUICK)
    tables = study_report.tables(records, QUICK)
    tests = records["small/strategy_4/0"]["tests"]
    row = next(line for line in tables["small tests"].splitlines() if line.startswith("| strategy_4")).split("|")
    assert row[2].strip() == f"{100 * tests['as trained']['exact']:.1f} %"
    defined = [share for kind, share in tests["larger"]["by_kind"].items() if kind != "Where is"]
    assert row[4].strip() == f"{100 * sum(defined) / len(defined):.1f} %"
    study_report.draw(records, QUICK, tmp_path)
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.split(".")[-1] for path in drawn} == {"png", "svg"} and len(drawn) == 6
    study_report.draw(records, QUICK, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == drawn


def test_intervals_are_those_of_student_over_seeds():
    # By hand: mean 2, standard error 1 / sqrt(3), and 4.303 of it at two degrees of freedom.
    assert study_report._ahead([1.0, 2.0, 3.0]) == "+2.0 [-0.5, +4.5]"
    assert study_report._spread([0.5, 0.6, 0.7]) == "60.0 % ± 24.8"
    assert study_report._spread([0.5]) == "50.0 %"


def test_the_report_is_what_the_results_give(tmp_path):
    report = tmp_path / "README.md"
    emptied = re.sub(
        r"(<!-- table [^\n]*? -->).*?(<!-- end -->)", r"\1\2", (EVIDENCE / "README.md").read_text(), flags=re.S
    )
    report.write_text(emptied)
    done = run("evidence.report", "--report", report, "--figures", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    assert report.read_text() == (EVIDENCE / "README.md").read_text()
    assert {path.name for path in (tmp_path / "figures").iterdir()} <= {
        path.name for path in (EVIDENCE / "figures").iterdir()
    }
    for shown in re.findall(r"\]\((figures/[^)]+)\)", report.read_text()):
        assert (EVIDENCE / shown).exists(), shown


def test_an_unfinished_study_is_no_report(tmp_path):
    results = write(tmp_path / "study.jsonl", record_of(make_runs(SCALES)[0]))
    report = shutil.copy(EVIDENCE / "README.md", tmp_path)
    before = Path(report).read_text()
    done = run("evidence.report", "--study", results, "--report", report, "--figures", tmp_path / "figures")
    assert_refused(done, "lacks", make_runs(SCALES)[1].name, "evidence.study")
    assert Path(report).read_text() == before and not (tmp_path / "figures").exists()


def test_results_of_other_recipes_are_not_mixed(quick, tmp_path):
    for script, option in (("evidence.study", "--output"), ("evidence.report", "--study")):
        assert_refused(run(script, option, quick / "study.jsonl"), "line 1", "recipes are not mixed")


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"run": "small/mro', "delete this line"),
        ("[1, 2]", "delete this line"),
        (json.dumps(record_of(Run("small", "mrope", 0)) | {"run": "small/cone/0"}), "not in this study"),
        ("\n".join([json.dumps(record_of(Run("small", "mrope", 0)))] * 2), "second record"),
    ],
)
def test_a_broken_results_file_is_refused_with_what_to_do(tmp_path, content, words):
    results = tmp_path / "study.jsonl"
    results.write_text(content + "\n")
    with pytest.raises(EvidenceError, match=words):
        read_records(results, SCALES)
    assert_refused(run("evidence.study", "--output", results), words)
    assert results.read_text() == content + "\n"


def test_runs_that_do_not_exist_are_refused(tmp_path):
    assert_refused(run("evidence.study", "--only", "cone", "--output", tmp_path / "study.jsonl"), "cone", "--list")
    done = run("evidence.study", "--jobs", "0")
    assert done.returncode == 2 and "--jobs 0" in done.stderr
