"""The Space as it is pushed, running on its own, and a browser; nothing is fetched from anywhere."""

import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="circle_rope_modules_")

SPACE = Path(__file__).resolve().parent.parent
for folder in (SPACE.parent, SPACE):
    sys.path.insert(0, str(folder))

import json  # noqa: E402
import shutil  # noqa: E402

import pytest  # noqa: E402
from gradio_client import Client  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from browser import launch, open_page, serve  # noqa: E402
from push import lay_out  # noqa: E402


class Running:
    """A Space that runs: its address, the folder of its temporary files, and what it has printed."""

    def __init__(self, url, temporary, log):
        self.url, self.temporary, self._log = url, temporary, log

    @property
    def log(self):
        return self._log.read_text(encoding="utf-8", errors="replace")

    def uploads(self):
        """Names of the files of visitors that are on the disk."""
        return {path.name for path in self.temporary.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Runs a Space with temporary files of its own: `with run(app, **environment) as space`."""
    import contextlib

    modules = str(tmp_path_factory.getbasetemp() / "m")
    with contextlib.ExitStack() as folders:

        @contextlib.contextmanager
        def start(app, **environment):
            # Not in pytest's folder: ZeroGPU's workers have sockets there, whose paths may have 107 characters.
            temporary = folders.enter_context(tempfile.TemporaryDirectory())
            log = tmp_path_factory.mktemp("log") / "log.txt"
            with serve(app, log, TMPDIR=temporary, HF_MODULES_CACHE=modules, **environment) as url:
                yield Running(url, Path(temporary), log)

        yield start


@pytest.fixture(scope="session")
def pushed(tmp_path_factory):
    """The Space as a push lays it out, in a directory of its own with nothing around it."""
    directory = tmp_path_factory.mktemp("hub") / "space"
    lay_out(directory, "user/name", None)
    return directory


@pytest.fixture(scope="session")
def space(run, pushed):
    """The pushed Space, running, in which nothing goes wrong."""
    with run(pushed / "app.py") as running:
        yield running
        assert "a request failed" not in running.log


@pytest.fixture(scope="session")
def endless(run, pushed, tmp_path_factory):
    """A Space whose model never stops by itself, and in whose line three requests may wait."""
    model = tmp_path_factory.mktemp("model") / "endless"
    shutil.copytree(pushed / "tiny", model)
    config = json.loads((model / "generation_config.json").read_text())
    config["eos_token_id"] = config["pad_token_id"]
    config["suppress_tokens"] = [config["pad_token_id"]]
    (model / "generation_config.json").write_text(json.dumps(config))
    with run(pushed / "app.py", MODEL_ID=str(model), MAX_QUEUE="3") as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens a visitor's page: `visit(space, width=390, height=844, scheme="dark", lang="zh")`."""
    pages = []

    def start(space, **properties):
        pages.append(open_page(browser, space.url, **properties))
        return pages[-1]

    yield start
    for page in pages:
        page.context.close()


@pytest.fixture(scope="session")
def client(space):
    return Client(space.url, verbose=False)


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory):
    """Files that no visitor may ask about, by the words that tell them apart in the answer."""
    from bad import make_bad_files

    return make_bad_files(tmp_path_factory.mktemp("bad"))
