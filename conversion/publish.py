"""From a base to a repository on the Hub, step by step: prepare, write, check, upload."""

import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import constants

from . import hub
from .adapter import is_adapter, make_adapter_card, plan_adapter, verify_adapter
from .base import ADAPTER_CONFIG, CARD, INDEX, SINGLE, ConversionError, fetch
from .card import HUB_ID, find_base, find_licence, make_card
from .check import check_loading
from .convert import Qwen2_5_VLConfig_CircleRoPE_V2, plan_conversion, verify
from .core import MODULES, ROOT
from .files import select
from .folder import is_written, refuse_filled, write


@dataclass(frozen=True)
class Order:
    """What a run of push_to_hub.py is to do.

    Attributes:
        base: directory or hub id of what is converted or published.
        block: keys of the `circle_rope` block, over what the base has.
        output_dir: new directory for the result, or None for a place of our own.
        target: where it is published, or None; without one there is an `output_dir`.
        revision: of the base on the hub.
        code_repo: id of the repository that the code is taken from, or None for the result's own.
        license: of the card, or None for the base's own.
        base_model: hub id of the base for the card, or None where the files say it.
        dry_run: contact nobody.
        no_upload: stop before the upload.
    """

    base: str
    block: dict
    output_dir: Path | None = None
    target: hub.Target | None = None
    revision: str | None = None
    code_repo: str | None = None
    license: str | None = None
    base_model: str | None = None
    dry_run: bool = False
    no_upload: bool = False

    @property
    def repo_id(self) -> str | None:
        """Of the repository that is published to."""
        return self.target.repo_id if self.target is not None else None


class Publication:
    """One run of push_to_hub.py; `prepare` comes first.

    Without an output directory the result goes into a place of our own under HF_HOME, which is removed after the
    upload and kept when that fails.
    """

    def __init__(self, order: Order):
        self.order, self.block, self.target = order, order.block, order.target
        self.is_published = order.target is not None or order.no_upload
        self.is_ours = order.output_dir is None
        self.output = order.output_dir or Path(constants.HF_HOME) / "circle_rope" / order.repo_id.replace("/", "--")
        self.left_out, self.printed = {}, 0

    @property
    def uploads(self) -> bool:
        """Whether this run contacts the Hub to publish."""
        return self.target is not None and not self.order.dry_run and not self.order.no_upload

    def prepare(self) -> None:
        """Find the base and plan the result; nothing is written.

        Raises:
            ConversionError: anything about the base, the block or the options that does not allow it.
        """
        order = self.order
        if order.code_repo is not None:
            hub.Target(order.code_repo, option="--code-repo")  # refuses what is no id
        if not (self.is_ours or any((self.output / name).is_file() for name in ("config.json", ADAPTER_CONFIG))):
            refuse_filled(self.output)  # no result of an earlier run
        if self.uploads and not Path(order.base).exists() and HUB_ID.fullmatch(order.base):
            hub.check_access(self.target)  # before gigabytes are fetched
        base = fetch(order.base, order.revision, offline=order.dry_run)
        _refuse_run_folder(base)
        if is_adapter(base):
            self._plan_adapter(base)
        else:
            self._plan_model(base)
        self._keep_edited_card()
        if self.is_published:
            self.left_out = select(self.plan)
        if not is_written(self.plan, self.output):
            if self._is_base:
                raise ConversionError(f"{base} is where the result would go: give another --output-dir.")
            if not self.is_ours:
                refuse_filled(self.output)
        self._print_notes()

    @property
    def _is_base(self):
        return self.output.resolve() == self.plan.base.resolve()

    def _plan_model(self, base):
        self.plan = plan_conversion(base, self.block, self.order.code_repo)
        if self.order.code_repo is not None and not self.order.dry_run:
            modules = [ROOT / name for name in MODULES]
            self.plan.code = hub.provide_code(self.order.code_repo, modules, self.target if self.uploads else None)
        self.verify = verify
        given = str(base) if self.order.base == self.order.repo_id else self.order.base
        origin, licence = find_base(given, base, self.order.base_model), self._licence(base)
        schedule = Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(dict(self.plan.config)).schedule
        if origin is None:
            self.plan.notes.append("the hub id of the base is not known, so the card names none: give --base-model")
        self._make_card = lambda name: make_card(self.plan, name, origin, licence, schedule, self.order.code_repo)
        self.plan.files[CARD] = self._make_card(self._name).encode()

    def _keep_edited_card(self):
        """Of a directory that an earlier run wrote, an edited card stays as it is unless an option says otherwise."""
        if self.is_ours or self.order.license or self.order.base_model or not is_written(self.plan, self.output):
            return
        there = (self.output / CARD).read_bytes()
        if there != self._make_card(self.output.name).encode():  # as it was before there was an id to name
            self.plan.files[CARD] = there

    def _plan_adapter(self, base):
        if self.order.code_repo is not None:
            raise ConversionError(f"{base} is an adapter, which has no code: leave --code-repo out.")
        if self.block:
            raise ConversionError(f"{base} is an adapter, whose block is its base's: leave the keys of the block out.")
        if not self.is_published:
            raise ConversionError(f"{base} is an adapter, which needs no conversion: give --repo-id to publish it.")
        self.plan = plan_adapter(base, self.order.base_model)
        self.verify = verify_adapter
        licence = self._licence(base)
        self._make_card = lambda name: make_adapter_card(self.plan, name, licence)
        self.plan.files[CARD] = self._make_card(self._name).encode()

    def _licence(self, base):
        licence = find_licence(base, self.order.license)
        if licence["license"] == "unknown":
            self.plan.notes.append("the licence of the base is not known, and the card says so: give --license")
        return licence

    @property
    def _name(self):
        return self.order.repo_id or self.output.name

    def describe(self) -> None:
        """Print what would be written and uploaded."""
        print(f"would write {self.output}")
        if self.target is not None:
            print(f"would create or update {self.target.describe()}")
        print("files:")
        for name, size in self.plan.sizes.items():
            print(f"{size:>18,}  {name}")
        print(f"{sum(self.plan.sizes.values()):>18,}  bytes in {len(self.plan.sizes)} files")
        self._print_left_out()

    def write(self) -> None:
        """Write the result, unless an earlier run has done so."""
        if is_written(self.plan, self.output):
            print(f"{self.output} is there from an earlier run")
            if CARD in self.plan.files:
                (self.output / CARD).write_bytes(self.plan.files[CARD])
            return
        if self.is_ours:  # what is left of earlier runs with other options, or of one that was killed
            for path in (self.output, *self.output.parent.glob(f".{self.output.name}.*")):
                shutil.rmtree(path, ignore_errors=True)
        write(self.plan, self.output, partial(self.verify, self.plan))

    def check(self) -> None:
        """Load the result in a new process, as a user will."""
        print(f"checking that {self.output} loads", file=sys.stderr)
        check_loading(self.plan, self.output)
        self._print_notes()
        self._print_left_out()

    def check_access(self) -> None:
        """Ask the Hub whether the upload will be taken, as far as it says so beforehand."""
        hub.check_access(self.target)

    def upload(self) -> str:
        """Upload the result; the address of the commit or pull request."""
        print(f"uploading to {self.target.repo_id}", file=sys.stderr)
        address = hub.upload(self.plan, self.output, self.target)
        if self.is_ours and not self._is_base:
            shutil.rmtree(self.output, ignore_errors=True)
        return address

    def _print_notes(self):
        for note in self.plan.notes[self.printed :]:
            print(f"note: {note}")
        self.printed = len(self.plan.notes)

    def _print_left_out(self):
        if self.left_out:
            print("left out:")
        for name, reason in self.left_out.items():
            print(f"  {name}: {reason}")


def _refuse_run_folder(base):
    """Name the last checkpoint of a training run where its folder was given and holds no model itself."""
    if is_adapter(base) or any((base / name).exists() for name in (SINGLE, INDEX)):
        return
    checkpoints = [path for path in base.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    if checkpoints:
        last = max(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]))
        raise ConversionError(f"{base} holds no weights itself, but checkpoints: give one of them, such as {last}.")
