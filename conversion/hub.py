"""Everything that talks to the Hub: who we are, what is there already, and the upload; each failure in a sentence."""

import contextlib
import errno
import importlib.util
import json
import re
import tempfile
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from .base import TRANSPORT_ERRORS, ConversionError
from .folder import Plan

# Bytes from which `upload_large_folder` is used where it is the client's way of sending much (0.36). Newer clients
# resume and split commits in `upload_folder`, and have deprecated or dropped the other.
LARGE = 10 * 1000**3
SPLITS_COMMITS = importlib.util.find_spec("huggingface_hub._upload_pipeline") is not None


@dataclass(frozen=True)
class Target:
    """Where a checkpoint goes: repository, branch or pull request, and whether the repository may be public."""

    repo_id: str
    branch: str | None = None
    create_pr: bool = False
    public: bool = False
    message: str = "Upload a Circle-RoPE checkpoint"
    option: str = "--repo-id"

    def __post_init__(self):
        try:
            validate_repo_id(self.repo_id)
        except HFValidationError:
            pass
        else:
            if self.repo_id.count("/") == 1:
                return
        raise ConversionError(
            f"{self.option} {self.repo_id} is no repository id: give USER/NAME, of letters, digits, '-', '_' and '.'."
        )

    def describe(self) -> str:
        """What an upload would create, in words."""
        if self.create_pr:
            return f"a pull request on the existing repository {self.repo_id}"
        branch = f", on the branch {self.branch}" if self.branch else ""
        return f"the {'public' if self.public else 'private'} repository {self.repo_id}, if it is not there{branch}"


def check_access(target: Target) -> None:
    """Ask the Hub, before any long work, whether the token is valid and the repository may be published to.

    Raises:
        ConversionError: it may not, or the Hub cannot be asked.
    """
    if get_token() is None:
        raise ConversionError(
            "there is no token of the Hub: log in with `hf auth login` or set HF_TOKEN, with write permission."
        )
    with in_one_sentence(target):
        api = _api()
        token = (api.whoami().get("auth") or {}).get("accessToken") or {}
        if token.get("role") == "read":
            raise ConversionError("the token may only read: make one with write permission and log in with it.")
        _find_repository(api, target)


def _api():
    """A client that sends the user's token with every request, whatever HF_HUB_DISABLE_IMPLICIT_TOKEN says."""
    return HfApi(token=get_token())


def _find_repository(api, target):
    """The info of the repository, or None where it must be made.

    Raises:
        ConversionError: it is public though that was not asked for, or its main branch holds another kind of model.
    """
    try:
        info = api.repo_info(target.repo_id)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        if target.create_pr:
            raise
        return None
    if target.create_pr or (target.branch or "").startswith("refs/pr/"):
        return info
    if info.private is False and not target.public:
        raise ConversionError(
            f"{target.repo_id} exists and is public: give --public to publish there, or another --repo-id."
        )
    if target.branch is None and "config.json" in _names(info):
        with tempfile.TemporaryDirectory() as scratch:
            path = api.hf_hub_download(target.repo_id, "config.json", local_dir=scratch)
            there = json.loads(Path(path).read_text(encoding="utf-8"))
        if "circle_rope" not in there:
            raise ConversionError(
                f"{target.repo_id} exists and holds a {there.get('model_type')!r} model without Circle-RoPE: give "
                "another --repo-id, a --branch, or --create-pr."
            )
    return info


def provide_code(repo_id: str, modules: list[Path], target: Target | None) -> Path:
    """The snapshot of a repository that holds the given modules for many checkpoints; its name is the commit.

    Where there is no such repository it is made, as public or private as `target` is; without a target, it is not.

    Raises:
        ConversionError: it is not there, or its modules are others: those that its checkpoints run are never replaced.
    """
    code = Target(repo_id, public=target is not None and target.public, option="--code-repo")
    with in_one_sentence(code):
        api = _api()
        try:
            if api.repo_info(repo_id).private and code.public:
                raise ConversionError(f"{repo_id} is private, so a public model cannot run its code: make it public.")
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            if target is None:
                raise ConversionError(
                    f"there is no repository {repo_id}: publish with --code-repo to make it, or check the name."
                ) from None
            api.create_repo(repo_id, private=not code.public)
            api.create_commit(
                repo_id,
                [CommitOperationAdd(path.name, path) for path in modules],
                commit_message="The code of Circle-RoPE checkpoints",
            )
        snapshot = Path(api.snapshot_download(repo_id, allow_patterns=[path.name for path in modules]))
    for path in modules:
        there = snapshot / path.name
        if not there.is_file() or there.read_bytes() != path.read_bytes():
            raise ConversionError(
                f"{path.name} of {repo_id} is not this repo's, and whatever shares it would change with it: upload it "
                f"there yourself (hf upload {repo_id} {path.name}), or name another --code-repo."
            )
    return snapshot


def upload(plan: Plan, folder: Path, target: Target) -> str:
    """Upload the files of the plan from `folder`; the address of the commit or pull request.

    The repository and the branch are made if they are not there. What has arrived in an earlier attempt is not sent
    again. Weights that are in the repository and not in the plan are deleted in the same commit, so that no loader
    finds both.

    Raises:
        ConversionError: it did not arrive whole; running again goes on.
    """
    api = _api()
    with in_one_sentence(target):
        info = _find_repository(api, target)
        if info is None:
            api.create_repo(target.repo_id, private=not target.public, exist_ok=True)
            info = api.repo_info(target.repo_id)
        if target.branch:
            if not target.branch.startswith("refs/"):
                api.create_branch(target.repo_id, branch=target.branch, exist_ok=True)
            info = api.repo_info(target.repo_id, revision=target.branch)
        stale = [name for name in _names(info) if name not in plan.files and _is_weights(name)]
        names, revision = set(plan.files), target.branch
        if sum(plan.sizes.values()) > LARGE and not SPLITS_COMMITS:
            if target.create_pr:
                revision = api.create_pull_request(target.repo_id, target.message).git_reference
            weights = {name for name in names if name.endswith(".safetensors")}
            api.upload_large_folder(
                target.repo_id, folder, repo_type="model", revision=revision, allow_patterns=list(map(escape, weights))
            )
            names -= weights
        send = partial(
            api.upload_folder,
            repo_id=target.repo_id,
            folder_path=folder,
            commit_message=target.message,
            revision=revision,
            create_pr=target.create_pr and revision is None,
            allow_patterns=list(map(escape, names)),
            delete_patterns=list(map(escape, stale)) or None,
        )
        try:
            done = send()
        except ConnectionError as error:
            # A Hub without Xet storage: 0.x asks whether there is one, 1.x and 2.x do not.
            if "xet-write-token" not in str(error) or "404" not in str(error):
                raise
            constants.HF_HUB_DISABLE_XET = True
            done = send()
    return done.pr_url or done.commit_url


def _names(info):
    return [file.rfilename for file in info.siblings or []]


def _is_weights(name):
    return "/" not in name and name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"))


@contextlib.contextmanager
def in_one_sentence(target: Target):
    """Turn whatever the Hub's client raises within into a ConversionError of one sentence."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:  # the client has many, its own and its HTTP library's
        raise ConversionError(_sentence(error, target)) from None


def _sentence(error, target):
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    responses = (getattr(cause, "response", None) for cause in chain)
    status = next((response.status_code for response in responses if response is not None), None)
    if status is None and (said := re.search(r"client error \((\d{3})", str(error))):  # hf_xet's words
        status = int(said[1])
    repo = target.repo_id
    for cause in chain:
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, so the Hub cannot be reached: unset it."
        if isinstance(cause, RevisionNotFoundError):
            return f"{repo} has no branch {target.branch}: check --branch."
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"the disk is full ({cause.strerror}): make room and run again."
        if isinstance(cause, RepositoryNotFoundError):
            if target.create_pr:
                return f"there is no repository {repo} to open a pull request on: leave --create-pr out to make it."
            return f"there is no repository {repo}, or the token may not see it: check {target.option} and the token."
    if status == 401:
        return "the Hub does not accept the token: log in again with `hf auth login` or correct HF_TOKEN."
    if status == 403:
        owner = repo.split("/")[0]
        return f"the token may not write to {repo}: use one with write permission for {owner}, or --create-pr."
    if status is None and any(isinstance(cause, TRANSPORT_ERRORS) for cause in chain):
        return f"the connection to {constants.ENDPOINT} failed ({_reason(chain[-1])}): check it and run again."
    return f"the Hub did not take the upload to {repo} ({_reason(error)}): run again, or see its status page."


def _reason(error):
    text = " ".join(str(error).split()) or type(error).__name__
    token = get_token()
    return text.replace(token, "(token)") if token else text
