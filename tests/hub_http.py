"""HTTP for the small Hub: reads a request, finds its route, writes the answer with ranges and redirects."""

import json
import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """What came: method, path without query, query, headers and body."""

    method: str
    path: str
    query: dict
    body: bytes
    account: str | None
    role: str | None


class Refusal(Exception):
    """An answer that is no success: status, the Hub's headers for it, and more of its content."""

    def __init__(self, status, code=None, message="refused", **content):
        self.status, self.code, self.message, self.content = status, code, message, content


class Handler(BaseHTTPRequestHandler):
    """Reads a request, finds its route, and writes the answer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """The log is the server's own."""

    def answer(self):
        parts = urlsplit(self.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        account, role = self.server.roles.get(token, (None, None))
        try:
            body = self._read()
        except EOFError:  # the client went away: no request has come
            self.close_connection = True
            return
        request = Request(self.command, parts.path, parse_qs(parts.query), body, account, role)
        hub = self.server
        hub.log.append((request.method, request.path, len(request.body)))
        try:
            if token and account is None:
                raise Refusal(401, None, "Invalid credentials in Authorization header")
            hub.fault(request)
            method = "GET" if request.method == "HEAD" else request.method
            for route, pattern, function in hub.routes:
                match = pattern.match(request.path)
                if route == method and match:
                    return self._send(function(hub, request, **{k: v for k, v in match.groupdict().items() if v}))
            raise Refusal(404, None, f"no such route: {request.method} {request.path}")
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message, **({"X-Error-Code": refusal.code} if refusal.code else {})}
            self._write(refusal.status, json.dumps({"error": refusal.message, **refusal.content}).encode(), headers)
        except ConnectionError:
            self.close_connection = True
            self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def _read(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self._read_exactly(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline() or "-1", 16):
            body += self._read_exactly(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _read_exactly(self, size):
        data = self.rfile.read(size) if size >= 0 else b""
        if len(data) != size:
            raise EOFError
        return data

    def _send(self, answer):
        content, headers = answer if isinstance(answer, tuple) else (answer, {})
        if "Location" in headers:
            return self._write(302, b"", headers)
        if not isinstance(content, bytes):
            return self._write(200, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            return self._write(200, content, headers)
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        part = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return self._write(206, content[first : last + 1], {**headers, **part})

    def _write(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
