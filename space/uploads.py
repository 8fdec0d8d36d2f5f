"""Nothing that a visitor sends outlives the visit: files belong to the open pages that show them."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

KEPT_SECONDS = 300  # for a file that no page shows: long enough for a request of the API to get its turn
SWEEP_SECONDS = 30

# Everything that gradio writes goes into one folder, which the process takes with it when it ends.
FOLDER = Path(tempfile.mkdtemp(prefix="circle_rope_space_")).resolve()
os.environ["GRADIO_TEMP_DIR"] = str(FOLDER)
tempfile.tempdir = str(FOLDER)
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# A container is stopped by this signal, which would end the process without its exit handlers.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

_lock = threading.Lock()
_held: dict[str, set[Path]] = {}


def hold(session: str, paths: list[str]):
    """An open page shows these files, and no others any more; what it showed before is deleted."""
    with _lock:
        before = _held.get(session, set())
        _held[session] = {Path(path).resolve() for path in paths}
        _delete(before - _held[session])


def release(session: str | None):
    """The page is closed: its files are deleted, but for those that another page shows."""
    with _lock:
        _delete(_held.pop(session, set()))


def sweep():
    """Delete the files that no page shows and that have been there for a while."""
    with _lock:
        old = time.time() - KEPT_SECONDS
        _delete({path for path in _files() if path.exists() and path.stat().st_mtime < old})


def keep_sweeping():
    """Sweep now and then for as long as the process lives."""

    def run():
        while True:
            time.sleep(SWEEP_SECONDS)
            sweep()

    threading.Thread(target=run, daemon=True).start()


def _files():
    return {path for path in FOLDER.rglob("*") if path.is_file()}


def _delete(paths):
    for path in paths.difference(*_held.values()):
        if FOLDER in path.parents:
            path.unlink(missing_ok=True)
            if path.parent != FOLDER and not any(path.parent.iterdir()):
                path.parent.rmdir()
