"""What of upstream's is not public API and yet touched: all of it is listed in one place, and checked at import."""

import ast
import inspect
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
import transformers
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

import modeling_qwen2_5_vl_circle_rope as modeling
from tests.models import ROOT

FILES = ("modeling_qwen2_5_vl_circle_rope.py", "configuration_qwen2_5_vl_circle_rope.py")
WAYS = (
    modeling.POSITIONS_UP_FRONT,
    modeling.POSITIONS_BY_STEP,
    modeling.NAMES_BY_RENAMINGS,
    modeling.NAMES_BY_ATTRIBUTE,
    modeling.CHUNKS_WITH_PICTURES,
    modeling.CHUNKS_OF_TEXT,
    modeling.TEXT_BEHIND_PADS,
)
LISTED = {part for path, _ in (*modeling.RELIED_ON, *WAYS) for part in path.split(".")} | {modeling.RELIED_ON_KEY}


def touched(file):
    """Names that a file uses and that are upstream's own: underscored, or of upstream's modules without an export.

    A string may name something as well: what `hasattr` and `getattr` ask upstream for, and keys with an underscore.
    """
    tree = ast.parse((ROOT / file).read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr.startswith("_")
    }
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_upstream = isinstance(node.value, ast.Name) and node.value.id == "upstream"
            is_private = node.attr.startswith("_") and not node.attr.startswith("__")
            if (of_upstream and node.attr not in upstream.__all__) or (is_private and node.attr not in own):
                names.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            asked, name = node.args[:2]
            if "upstream" in ast.dump(asked) and isinstance(name, ast.Constant):
                names.add(name.value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in own:
            names |= set(re.findall(r"^_[a-z]\w+$", node.value))
    return names, own


def test_every_name_that_is_not_public_is_listed():
    names, own = zip(*map(touched, FILES))
    used, own = set().union(*names), set().union(*own)
    # An override is a use, too; what upstream writes into our classes while they run is none.
    overridden = {
        name
        for cls in vars(modeling).values()
        if inspect.isclass(cls) and cls.__module__ == modeling.__name__
        for name in vars(cls)
        if name in own and name.startswith("_") and not name.startswith("__")
        for base in cls.__mro__[1:]
        if base.__module__.startswith("transformers") and name in vars(base)
    }
    of_python = {"_replace"}  # a named tuple's
    assert (used | overridden) - of_python <= LISTED


def test_the_key_that_is_relied_on_is_upstreams():
    for module in ("models.auto.auto_factory", "modeling_utils"):
        path = Path(transformers.__file__).parent / f"{module.replace('.', '/')}.py"
        assert modeling.RELIED_ON_KEY in path.read_text(encoding="utf-8")


def test_nothing_is_listed_that_is_not_used():
    text = "".join((ROOT / file).read_text() for file in FILES)
    for path, _ in modeling.RELIED_ON:
        owner, name = path.split(".")[-2:]
        assert text.count(owner if name == "forward" else name) > 1, path


@pytest.mark.parametrize("path", [path for path, _ in modeling.RELIED_ON])
def test_what_is_gone_is_named(path, monkeypatch):
    owner, name = attrgetter(path.rpartition(".")[0])(transformers), path.rpartition(".")[2]
    for cls in getattr(owner, "__mro__", [owner]):
        if name in vars(cls) and getattr(cls, "__module__", "") != "torch.nn.modules.module":
            monkeypatch.delattr(cls, name)
    # torch's own modules have a forward, which takes other arguments.
    with pytest.raises(ImportError, match=f"{transformers.__version__} has no {path}.*the last release known to be"):
        modeling._check_upstream()


@pytest.mark.parametrize("path, arguments", [(path, names) for path, names in modeling.RELIED_ON if names])
def test_what_has_another_shape_is_named(path, arguments, monkeypatch):
    owner, _, name = path.rpartition(".")
    monkeypatch.setattr(attrgetter(owner)(transformers), name, lambda self, other: None)
    with pytest.raises(ImportError, match=f"has no {path} that takes {', '.join(arguments)}, which Circle-RoPE"):
        modeling._check_upstream()


def test_a_release_with_neither_way_is_refused_and_not_taken_for_an_older_one(monkeypatch):
    for way in (modeling.POSITIONS_UP_FRONT, modeling.POSITIONS_BY_STEP):
        if modeling._is_there(*way):
            monkeypatch.setattr(transformers.GenerationMixin, way[0].split(".")[1], lambda self: None)
    with pytest.raises(ImportError, match="has no GenerationMixin._prepare_position_ids_for_generation"):
        modeling._check_upstream()


def test_the_import_itself_fails_with_one_sentence():
    code = (
        "import transformers\n"
        "del transformers.PreTrainedModel._supports_flex_attn\n"
        "import modeling_qwen2_5_vl_circle_rope"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert last.startswith(f"ImportError: transformers {transformers.__version__} has no PreTrainedModel._supports_")
