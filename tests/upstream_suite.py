"""Fetches transformers' own common test-suite of models, of the installed release, from that release's sdist.

The suite's files in folders of their own (generation, export) do not ship there; it only inherits from them, and runs
without.
"""

import importlib
import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path

import transformers

PACKAGE = "transformers_own_tests"
NOT_SHIPPED = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}


def fetch(cache: Path) -> Path:
    """The folder with the suite of the installed transformers; `cache` keeps it from one run to the next.

    Raises:
        RuntimeError: the package index could not be reached.
    """
    folder = cache / f"transformers-{transformers.__version__}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
        command += [f"transformers=={transformers.__version__}", "--dest", scratch]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(
                f"the sdist of transformers {transformers.__version__} cannot be fetched: {result.stderr}"
            )
        (sdist,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            members = [member for member in archive if Path(member.name).parts[1:2] == ("tests",)]
            archive.extractall(scratch, members=members, filter="data")
        try:
            (Path(scratch) / folder.name / "tests").rename(folder)
        except OSError:  # another test process was faster
            if not folder.is_dir():
                raise
    return folder


def load(cache: Path) -> types.ModuleType:
    """The module `test_modeling_common` of the installed release."""
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(fetch(cache))]
    sys.modules[PACKAGE] = package
    for name, mixin in NOT_SHIPPED.items():
        if not (Path(package.__path__[0]) / f"{name.replace('.', '/')}.py").exists():
            missing = types.ModuleType(f"{PACKAGE}.{name}")
            setattr(missing, mixin, type(mixin, (), {}))
            sys.modules[missing.__name__] = missing
            sys.modules.setdefault(
                f"{PACKAGE}.{name.split('.')[0]}", types.ModuleType(f"{PACKAGE}.{name.split('.')[0]}")
            )
    return importlib.import_module(f"{PACKAGE}.test_modeling_common")
