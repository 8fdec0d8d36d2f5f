"""Nothing that a visitor sends outlives the visit: files belong to the open pages that show them."""

import atexit
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from starlette.responses import PlainTextResponse

MAX_BYTES = int(os.environ.get("MAX_UPLOADS_MB", 2048)) * 2**20  # of all files that are there at once
KEPT_SECONDS = 300  # for a file that no page shows: long enough for a request of the API to get its turn
LATE_SECONDS = 15  # within which what a page had begun before it was closed may still come in
SWEEP_SECONDS = 20

# Everything that gradio writes goes into one folder, which the process takes with it when it ends.
FOLDER = Path(tempfile.mkdtemp(prefix="circle_rope_space_")).resolve()
os.environ["GRADIO_TEMP_DIR"] = str(FOLDER)
tempfile.tempdir = str(FOLDER)
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# A container is stopped by this signal, which would end the process without its exit handlers.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

_lock = threading.Lock()
_held: dict[str, set[Path]] = {}  # by session
_told: dict[str, float] = {}  # when pages said so, by their own clocks
_closed: dict[str, float] = {}  # when pages were closed, for a while


def hold(session: str, paths: list[str], told: float = 0):
    """An open page shows these files, and no others any more; what it showed before is deleted.

    What the page told before, by its own clock, may arrive later: then it is out of date.
    """
    with _lock:
        if told < _told.get(session, 0):
            return
        _told[session] = told
        if time.time() - _closed.get(session, 0) > LATE_SECONDS:
            _closed.pop(session, None)  # a page that slept is back
        before = _held.get(session, set())
        _held[session] = {Path(path).resolve() for path in paths}
        _delete(before - _held[session])


def holds(session: str, paths: list[str]) -> bool:
    """Whether these are still the files that the page shows."""
    with _lock:
        return _held.get(session, set()) == {Path(path).resolve() for path in paths}


def release(session: str):
    """The page is closed: its files are deleted, but for those that another page shows."""
    with _lock:
        _closed[session] = time.time()
        _forget(session)


def sweep():
    """Delete what came in late for closed pages, and files that no page shows and that have been there for a while."""
    now = time.time()
    with _lock:
        for session in [session for session, closed in _closed.items() if now - closed > LATE_SECONDS]:
            del _closed[session]
            _forget(session)
        _delete({path for path in _files() if path.exists() and path.stat().st_mtime < now - KEPT_SECONDS})


class Room:
    """In front of the app: refuses an upload while the files that are there leave no room for it."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        app = self.app
        if scope["type"] == "http" and scope["path"].endswith("/upload") and sum(_sizes()) >= MAX_BYTES:
            app = PlainTextResponse("There is no room for uploads now: try again in a few minutes.", 507)
        await app(scope, receive, send)


def keep_sweeping():
    """Sweep now and then for as long as the process lives."""

    def run():
        while True:
            time.sleep(SWEEP_SECONDS)
            sweep()

    threading.Thread(target=run, daemon=True).start()


def _files():
    return {path for path in FOLDER.rglob("*") if path.is_file()}


def _forget(session):
    _told.pop(session, None)
    _delete(_held.pop(session, set()))


def _sizes():
    for path in _files():
        with contextlib.suppress(FileNotFoundError):
            yield path.stat().st_size


def _delete(paths):
    for path in paths.difference(*_held.values()):
        if FOLDER in path.parents:
            path.unlink(missing_ok=True)
            if path.parent != FOLDER and not any(path.parent.iterdir()):
                path.parent.rmdir()
