"""Starts an app as ZeroGPU does, without a GPU: `python zerogpu.py APP`.

The `spaces` package's own wrappers ask a scheduler for a GPU and fork workers; only what moves tensors to a GPU is
left out. The scheduler writes what it is asked to the file SPACES_TEST_ASKED, and lends a GPU to SPACES_TEST_QUOTA
requests.
"""

import json
import os
import runpy
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit


class Scheduler(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self):
        url = urlsplit(self.path)
        status, answer = 200, {}
        if url.path == "/schedule":
            with open(os.environ["SPACES_TEST_ASKED"], "a") as file:
                file.write(json.dumps(dict(parse_qsl(url.query))) + "\n")
            Scheduler.asked += 1
            if Scheduler.asked > int(os.environ.get("SPACES_TEST_QUOTA", 10**6)):
                status, answer = 429, {"left": 0, "wait": "01:00:00"}
            else:
                answer = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "test", "allowToken": "test"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


def main():
    app = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_address[1]}",
    }
    cpu = types.ModuleType("spaces.zero.torch")
    for name in ("enter_mode", "patch", "unpatch", "init", "move"):
        setattr(cpu, name, lambda *arguments, **named: None)
    cpu.pack = cpu.size = lambda: 0
    cpu.is_in_bad_fork = lambda: False
    sys.modules[cpu.__name__] = cpu
    sys.path.insert(0, str(app.parent))
    sys.argv = [str(app)]
    runpy.run_path(str(app), run_name="__main__")


if __name__ == "__main__":
    main()
