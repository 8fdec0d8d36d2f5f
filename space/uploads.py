"""Nothing that a visitor sends is kept: gradio deletes uploads after a while, and the process takes what is left."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from starlette.responses import PlainTextResponse

MAX_BYTES = int(os.environ.get("MAX_UPLOADS_MB", 2048)) * 2**20  # of all files that are there at once
DELETED = (60, 3600)  # every so many seconds, what is older than so many

# Everything that gradio writes goes into one folder.
FOLDER = Path(tempfile.mkdtemp(prefix="circle_rope_space_")).resolve()
os.environ["GRADIO_TEMP_DIR"] = str(FOLDER)
tempfile.tempdir = str(FOLDER)
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# A container is stopped by this signal, which would end the process without its exit handlers.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


class Room:
    """In front of the app: refuses an upload while the files that are there leave no room for it."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        app = self.app
        if scope["type"] == "http" and scope["path"].endswith("/upload") and _size() >= MAX_BYTES:
            app = PlainTextResponse("There is no room for uploads now: try again in a few minutes.", 507)
        await app(scope, receive, send)


def _size():
    return sum(os.stat(path).st_size for path in FOLDER.rglob("*") if os.path.isfile(path))
