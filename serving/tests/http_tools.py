"""Starting a server, waiting for it, and asking it with pictures in base64."""

import base64
import contextlib
import io
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "examples" / "shapes.png"
START_WITHIN = 900  # seconds, of a machine that does other things too


@contextlib.contextmanager
def serve(*command, **options):
    """Run a command that takes `--host` and `--port` until its server answers; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([*map(str, command), "--host", "127.0.0.1", "--port", str(port)], **options)
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(url, process):
    end = time.monotonic() + START_WITHIN
    while True:
        assert process.poll() is None, "the server ended"
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5)
        except OSError:
            assert time.monotonic() < end, "the server did not start"
            time.sleep(1)


def messages(*images, question="Where is the red circle?"):
    """A conversation of one turn about pictures (PIL)."""
    parts = [{"type": "image_url", "image_url": {"url": as_url(image)}} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def as_url(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def turned(number):
    """The example picture, turned by eighths."""
    return Image.open(SHAPES).convert("RGB").rotate(45 * number)
