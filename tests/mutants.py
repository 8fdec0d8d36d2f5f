"""Small changes of meaning to the shipped files, and the tests that should fail under each: `python -m tests.mutants`.

Every mutant is written into a copy of the tree, never into the tree itself, and its tests run there. It is an error
where one survives, where its text does not stand in its file exactly once, or where tests fail without any.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tests import warm_python

ROOT = Path(__file__).resolve().parent.parent
GEOMETRY, CONFIGURATION = "circle_rope_imp.py", "configuration_qwen2_5_vl_circle_rope.py"
MODEL_CARD = "modelcard_qwen2_5_vl_circle_rope.py"
MODELING = "modeling_qwen2_5_vl_circle_rope.py"
WARM = ("torch", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "hypothesis")


class Mutant(NamedTuple):
    """A change of `before` to `after`, which stands in the file once, and the tests to run.

    `tests` is a file of tests without its `test_`, and part of the names of those in it that are to run.
    """

    file: str
    before: str
    after: str
    tests: str


def of(file, *changes):
    return [Mutant(file, *change) for change in changes]


MUTANTS = [
    *of(
        GEOMETRY,
        ("[[0], [1], [-1]]", "[[0], [-1], [1]]", "geometry hand"),
        ("**_EXACT) / math.sqrt(2)", "**_EXACT) / math.sqrt(3)", "geometry hand"),
        ("**_EXACT) / math.sqrt(6)", "**_EXACT) / math.sqrt(2)", "geometry hand"),
        ("radius: float | str = 10", "radius: float | str = 12", "geometry hand"),
        ("move_to_origin: bool = True", "move_to_origin: bool = False", "geometry hand"),
        ("image_stride: float = 0\n\n    # A later", "image_stride: float = 1\n\n    # A later", "geometry stride"),
        ("torch.tensor([[1], [1], [1]]", "torch.tensor([[1], [0], [0]]", "geometry video"),
        ("torch.tensor([[1], [0], [0]]", "torch.tensor([[1], [1], [1]]", "geometry video"),
        ("((grid_h - 1) / 2, (grid_w - 1) / 2)", "(grid_h / 2, grid_w / 2)", "geometry hand"),
        ("if self.move_to_origin else (0, 0)", "if self.move_to_origin else (1, 1)", "geometry hand"),
        ("radius * theta.cos(), radius * theta.sin()", "radius * theta.sin(), radius * theta.cos()", "geometry hand"),
        ("points = ring_x * _U + ring_y * _V", "points = ring_x * _V + ring_y * _U", "geometry hand"),
        ("            if self.dff_rate:", "            if not self.dff_rate:", "geometry hand"),
        (
            "(1 - self.dff_rate) * points + self.dff_rate * flat",
            "self.dff_rate * points + (1 - self.dff_rate) * flat",
            "geometry hand",
        ),
        ("if self.move_to_positive:", "if self.move_to_positive is not False:", "geometry 0_means"),
        ("points + points.min().abs()", "points - points.max()", "geometry hand"),
        ("points = points + self.move_to_positive", "points = points + 0", "geometry hand"),
        ("torch.atan2(y, x)", "torch.atan2(x, y)", "geometry hand"),
        ("if high > low:", "if high >= low:", "geometry one_cell"),
        ("(spatial - low) * (2", "spatial * (2", "geometry hand"),
        ("(2 * math.pi / (high - low))", "(math.pi / (high - low))", "geometry hand"),
        ("(2 * math.pi / cells)", "(2 * math.pi / (cells - 1))", "geometry hand"),
        ("self.alpha * spatial + (1 - self.alpha)", "(1 - self.alpha) * spatial + self.alpha", "geometry hand"),
        ("largest = max(", "largest = min(", "geometry auto_radius"),
        ('removeprefix("-") or 1)', 'removeprefix("-") or 2)', "geometry auto_radius"),
        ("flat = x * _U + y * _V", "flat = x * _V + y * _U", "geometry hand"),
        ("points[1] = torch.arange(grid_h", "points[0] = torch.arange(grid_h", "geometry hand"),
        ("min(round(pairs * 20 / 64), pairs // 3)", "round(pairs * 20 / 64)", "interleaved share"),
        ("slice(axis, 3 * mrope_section[axis], 3)", "slice(axis, None, 3)", "interleaved axis_of"),
        (
            "(distances - distances.mean(-1, keepdim=True)).abs()",
            "(distances - distances.mean()).abs()",
            "geometry table",
        ),
        (".abs().mean().float()", ".square().mean().float()", "geometry table"),
    ),
    *of(
        CONFIGURATION,
        ("most=3.4e38", 'most=float("inf")', "configuration wrong_block"),
        ("_is_number(value, 1)\n", "_is_number(value, 0)\n", "configuration wrong_block"),
        ("        return _is_number(value, 0)\n", "        return _is_number(value)\n", "configuration wrong_block"),
        ("re.fullmatch(", "re.match(", "configuration wrong_block"),
        ("_is_number(float(value[5:] or 1))", "True", "configuration wrong_block"),
        (
            '"alpha": (lambda value: _is_number(value, 0, 1)',
            '"alpha": (lambda value: _is_number(value, 0, 2)',
            "configuration wrong_block",
        ),
        ('value in (False, "auto") or', 'value in (False, True, "auto") or', "configuration wrong_block"),
        ("_is_number(value) and value > 1", "_is_number(value) and value >= 1", "configuration wrong_block"),
        ('block["radius"] != block["circle_r"]', 'block["radius"] == block["circle_r"]', "configuration wrong_block"),
        ("return copy.deepcopy(block)", "return block", "configuration not_shared"),
        ("value is not None or key not in may_be_null", "value is not None", "configuration malformed"),
        ('"rope_parameters", "rope_scaling"} &', '"rope_parameters"} &', "configuration malformed"),
        ('("circle",) * half + ("mrope",)', '("mrope",) * half + ("circle",)', "configuration schedules"),
        (
            "half, rest = num_hidden_layers // 2,",
            "half, rest = (num_hidden_layers + 1) // 2,",
            "configuration schedules",
        ),
        ("(GEOMETRIES * num", "(GEOMETRIES[::-1] * num", "configuration schedules"),
        ('return {"move_to_origin": False, **block}', "return block", "configuration v1"),
        ('{"move_to_origin": False, **block}', '{**block, "move_to_origin": False}', "configuration v1"),
        (
            'config_dict.get("model_type") != V1_MODEL_TYPE and (',
            'config_dict.get("model_type") != V1_MODEL_TYPE or (',
            "configuration v1",
        ),
        ('"radius" if key == "circle_r" else key', "key", "configuration v1"),
        ('MARK, "mrope", "default")', 'MARK, "default")', "configuration reading_every"),
        ('part.get("rope_type") != MARK):', 'part.get("rope_type") == MARK):', "configuration every_way"),
        ("{**read_rope(config_dict), **rope}", "{**rope, **read_rope(config_dict)}", "configuration every_way"),
        ('"stands_for": rope.get("rope_type", "default")', '"stands_for": "default"', "configuration mark"),
        ("= rope, dict(rope)\n", '= rope, {**rope, "rope_type": rope["stands_for"]}\n', "configuration mark"),
        ('rope["rope_type"] = rope.pop("stands_for")', 'rope["rope_type"] = "default"', "configuration mark"),
        ("    if not repos:", "    if repos:", "remote_code another_repository"),
        ("sum(section) != head_dim // 2", "sum(section) > head_dim // 2", "configuration refused"),
        ("max(section[1:]) > sum(section) // 3", "max(section[1:]) > sum(section)", "interleaved do_not_fit"),
        ("if base not in (None, rope_theta):", "if base in (None, rope_theta):", "configuration base"),
        ('theta_in["rope_theta"] = float(base)', 'theta_in["rope_theta"] = rope_theta', "configuration base"),
        ('["mrope_section"] = list(section)', '["mrope_section"] = [2, 3, 3]', "configuration base"),
        (
            "for name in GEOMETRIES if name in self.schedule",
            "for name in dict.fromkeys(self.schedule)",
            "configuration geometries",
        ),
        ('fields["radius"] = self.circle_rope["circle_r"]', 'fields["radius"] = 10', "configuration circle_r"),
    ),
    # Layout of a sequence, and what a cache remembers.
    *of(
        GEOMETRY,
        ("* self.interval).long()", "* self.interval).round()", "geometry video"),
        ("float((of_rows + moves.max(1)).max())", "float(of_rows.max())", "geometry video"),
        ("if length <= 0 or last", "if last", "positions nothing_is"),
        (" or last // seq != sample:", ":", "positions next_sample"),
        ("rest = rest[length:]", "rest = rest[1:]", "geometry sequence"),
        ("    if len(rest):", "    if False:", "positions placeholders"),
        ("for block in sorted(blocks):", "for block in blocks:", "geometry later_turn"),
        ("real.cumsum(-1) - real.long()", "real.cumsum(-1)", "positions pads_on"),
        ("above = max(above, start + ramp[block.slot])", "above = start + ramp[block.slot]", "positions moved_back"),
        ("geometry.image_stride * picture\n", "geometry.image_stride * (picture + 1)\n", "positions number"),
        ("enumerate(own, pictures[sample])", "enumerate(own)", "positions number"),
        ("behind = first + largest + 1", "behind = first + largest", "positions reference"),
        ("above = max(above, behind)", "above = behind", "positions moved_back"),
        ("behind - ramp[block.slot] - block.length", "behind - ramp[block.slot]", "positions reference"),
        ("= start + length, above", "= start + length + 1, above", "positions reference"),
        ("pictures[sample] += len(own)", "pictures[sample] = len(own)", "geometry later_turn"),
        ("position_ids.masked_fill_(~real, 0)", "pass", "positions pads_on"),
        ("(self.text.T - slots).float()", "(self.free.T - slots).float()", "record test"),
        ("self.real.cpu() != 0", "self.real.cpu() == 0", "record test"),
        ("tensor.index_select(-2, samples)", "tensor", "record test"),
        ("        self.cut(part.slot)\n", "", "record test"),
        ("if self.held < self.length:", "if False:", "record test"),
        ("tensor[..., : self.held] for tensor", "tensor for tensor", "record test"),
        ("if self.held < part.slot:", "if False:", "record test"),
        ("first + torch.arange(part.slot", "first + 0 * torch.arange(part.slot", "record test"),
        ("self.text_from[0] > length:", "self.text_from[0] > length + 99:", "record test"),
        ("self.held = min(self.held, length)", "pass", "record test"),
        ("rows[:, samples.to(rows.device)]", "rows", "record test"),
        ("self.text_from[1] + (slot - self.text_from[0])", "self.text_from[1]", "record test"),
        ("samples = entry.cpu() if samples is None else entry.cpu()[samples]", "samples = entry.cpu()", "record test"),
        ("begins |= is_picture", "begins = is_picture", "record test"),
        ("self.length = self.log.pop().slot", "self.log.pop()", "record test"),
        ("& (number[:, length] > 0)", "& (number[:, length] > 99)", "record test"),
        ("& is_last & ~in_picture).any():", "& is_last & False).any():", "record test"),
        (
            "torch.where(in_picture, number == number_of_last, is_last)",
            "is_last",
            "record test",
        ),
        ("behind(real), number", "behind(is_last), number", "record test"),
        ("Ends(text + (slot - length)", "Ends(text", "record test"),
        ("number.amax(-1).tolist())", "(0 * number.amax(-1)).tolist())", "record test"),
    ),
    # Positions in forward and in generate, and caches.
    *of(
        MODELING,
        ("[(t, h // merge, w // merge)", "[(t, w // merge, w // merge)", "positions reference"),
        ("vision.tokens_per_second * second for second", "second for second", "positions rule"),
        ("torch.as_tensor(1.0 if second", "torch.as_tensor(2.0 if second", "positions without_seconds"),
        ("input_ids = torch.zeros_like(input_ids)", "input_ids = input_ids", "positions without_any"),
        (
            "attention_mask.shape[1]) else attention_mask[:, -length:]",
            "attention_mask.shape[1]) else attention_mask[:, :length]",
            "caches different_lengths",
        ),
        ("before = record.ends(slot) if record else", "before =", "decoding later"),
        ("begins[block.sample, block.slot] = True", "pass", "positions number"),
        ("first = first + real.int().argmax(1, keepdim=True)", "pass", "model text"),
        ("(first + (counted - 1)).masked_fill(~real, 0)", "first + (counted - 1)", "positions pads_of"),
        ("first + counted[:, -1:])", "first + length)", "caches different_lengths"),
        (
            "text_row, position_ids = position_ids[0].long(), position_ids[1:]",
            "text_row, position_ids = None, position_ids[1:]",
            "decoding packed",
        ),
        (
            "position_ids.repeat(num_geometries, 1, 1)",
            "position_ids.repeat_interleave(num_geometries, 0)",
            "positions layout",
        ),
        (
            "return text_row, position_ids.float()",
            "return text_row, position_ids.float().round()",
            "positions layout or geometry",
        ),
        ("geometry_embeddings[self.geometry_of_layer[self.number]]", "geometry_embeddings[0]", "positions layer"),
        ("position_ids + (0 if cache is None else cache.get_seq_length())", "position_ids", "model by_itself"),
        ("tuple(zip(cos, sin))", "tuple(zip(cos, sin))[::-1]", "positions layer"),
        ("self.record.select(beam_idx)", "pass", "caches samples_of"),
        ("self.record.cut(int(self.get_seq_length()))", "pass", "caches others"),
        (
            "self.record.select(torch.arange(batch).repeat_interleave(repeats))",
            "self.record.select(torch.arange(batch).repeat(repeats))",
            "caches samples_of",
        ),
        ("if record and record.made_for != self.made_for:", "if False:", "caches geometries"),
        ("if held not in (None, batch):", "if False:", "caches number"),
        ('and (kwargs["position_ids"][0] != text_row).any():', "and False:", "positions fractional"),
        ('if slot and getattr(cache, "has_unknown_positions", False):', "if False:", "compile guessed"),
        ("block.slot >= slot for block", "block.slot > slot for block", "decoding begin_with"),
        ("if input_ids.shape[1] != slot + length:", "if False:", "decoding begin_with"),
        ('GRIDS, PIXELS, (None, "second_per_grid_ts")', "GRIDS, PIXELS, (None, None)", "decoding seconds"),
        ("is_new[: len(grid_thw)], is_new[len(grid_thw) :]", "is_new[: len(grid_thw)], is_new", "decoding beside"),
        ("if not self.model.is_placeholder(input_ids[:, -length:]).any():", "if False:", "decoding earlier_turn"),
        ("if part.is_picture is None or not part.is_picture[:, -1].any():", "if True:", "decoding ends"),
        ("torch.where(is_new < 0, rows, behind)", "rows", "decoding ends"),
        ("position_ids[[0, -3, -2, -1]] if is_ours else position_ids", "position_ids", "caches assistant"),
    ),
    *of(
        MODEL_CARD,
        ('"## Circle-RoPE" if', '"# Circle-RoPE" if', "modelcard owner"),
        ("**data, **own.data.to_dict()", "**own.data.to_dict(), **data", "modelcard owner"),
        (", **counts}, tags)", "}, tags)", "modelcard owner"),
        ("kept = before + part + behind if end", "kept = kept + part if end", "modelcard owner"),
        ('*(["age"] if len(set(schedule)) > 1 else [])', '"age"', "modelcard words"),
        ("if len(runs) == len(schedule):", "if len(runs) > 2:", "modelcard words"),
        ('licence["license"] == "unknown"', 'licence["license"] == "other"', "modelcard words"),
    ),
]


def not_found(mutants: list[Mutant]) -> list[str]:
    """The texts of mutants that do not stand in their file exactly once."""
    return [
        f"{mutant.file} has {count} times {mutant.before!r}"
        for mutant in mutants
        if (count := (ROOT / mutant.file).read_text().count(mutant.before)) != 1
    ]


def copy_tree(directory: Path) -> Path:
    """A copy of what git knows of the tree, or would add to it."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("evidence/"):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
    return directory


def run_tests(tree: Path, tests: str) -> int:
    """The exit code of pytest: 0 where all pass, 1 where one fails."""
    file, names = tests.split(maxsplit=1)
    arguments = [*f"-m pytest -q -x -p no:cacheprovider tests/test_{file}.py -k".split(), names]
    return subprocess.run([warm_python.executable(*WARM), *arguments], cwd=tree, capture_output=True).returncode


def is_killed(mutant: Mutant, tree: Path) -> bool:
    path = tree / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.before, mutant.after))
    try:
        return run_tests(tree, mutant.tests) == 1
    finally:
        path.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Change the meaning of the shipped files, and see that tests fail.")
    parser.add_argument("names", nargs="*", help="parts of files, texts or tests of the mutants to try (default: all)")
    parser.add_argument("--workers", type=int, default=2, help="how many are tried at once")
    given = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if not given.names or any(part in str(mutant) for part in given.names)]
    if lost := not_found(mutants):
        print("\n".join(lost))
        return 1
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.workers) as pool:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": f"{folder}/modules", "OMP_NUM_THREADS": "1"}
        # Compiled files are told apart by size and second, and two mutants may agree in both.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        warm_python.executable(*WARM)  # once, before there are threads
        trees = SimpleQueue()
        for number in range(given.workers):
            trees.put(copy_tree(Path(folder, f"tree{number}")))

        def borrow(action, *arguments):
            tree = trees.get()
            try:
                return action(*arguments, tree)
            finally:
                trees.put(tree)

        tests = sorted({mutant.tests for mutant in mutants})
        passing = list(pool.map(lambda one: borrow(lambda tree: run_tests(tree, one) == 0), tests))
        if failing := [one for one, passes in zip(tests, passing) if not passes]:
            print(f"these fail, or are not there, without any mutant: {', '.join(failing)}")
            return 1
        survivors = 0
        for mutant, killed in zip(mutants, pool.map(lambda mutant: borrow(is_killed, mutant), mutants)):
            survivors += not killed
            fate = "killed" if killed else "SURVIVED"
            print(f"{fate:8}  {mutant.file}: {mutant.before.strip()!r} -> {mutant.after.strip()!r}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants killed")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
