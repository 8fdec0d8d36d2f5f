"""A small Hub on this computer: the part of its HTTP API that huggingface_hub uses to publish a model or a Space.

Large files take the LFS way, basic or in parts; Xet is not offered. Everything is kept in memory, `log` holds every
request with the bytes that came, and `fault` may answer one in the Hub's place.
"""

import base64
import hashlib
import json
import re
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.hub_http import Handler, Refusal

LFS_FROM, PARTS_FROM, PART = 100_000, 4_000_000, 3_000_000  # bytes
# Who a token belongs to, and what it may do.
ROLES = {"hf_owner": ("user", "write"), "hf_reader": ("user", "read"), "hf_stranger": ("stranger", "write")}
# A Space is kept as spaces/USER/NAME, as its addresses have it.
REPO = r"(?P<repo>(?:spaces/)?[\w.-]+/[\w.-]+)"
API = r"/api/(?:models/|(?=spaces/))" + REPO


@dataclass
class Repo:
    """One repository: what each commit holds, which commit each ref is at, and who may see it."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)  # of a Space

    def commit(self, files: dict[str, bytes], ref: str = "main", message: str = "initial commit") -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files), ref)).encode()).hexdigest()
        self.commits[oid], self.refs[ref] = files, oid
        self.messages.append(message)
        return oid

    def oid(self, revision: str) -> str | None:
        return self.refs.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.oid(revision)]


class Hub(ThreadingHTTPServer):
    """The server; use it as a context manager. `url` is what HF_ENDPOINT must be."""

    daemon_threads = True
    roles = ROLES

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.cdn_url = f"http://localhost:{self.server_address[1]}/cdn"  # another host than the Hub's, as it is
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.log: list[tuple[str, str, int]] = []
        self.fault = lambda request: None
        self.connections = set()

    def process_request(self, request, client_address):
        self.connections.add(client_address)
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        super().process_request_thread(request, client_address)
        self.connections.discard(client_address)

    def wait_for_clients_to_leave(self):
        """Until what clients that are gone had sent is dealt with: nothing of it is stored or logged later."""
        while self.connections:
            time.sleep(0.01)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""

    def repo(self, request, name, *, writes=False):
        repo, namespace = self.repos.get(name), name.split("/")[-2]
        if repo is None or (repo.private and request.account != namespace):
            raise Refusal(404 if request.account else 401, "RepoNotFound", "Repository not found")
        if writes and (request.account != namespace or request.role != "write"):
            raise Refusal(403 if request.account else 401, None, "You don't have the right to write")
        return repo

    def whoami(self, request):
        if request.account is None:
            raise Refusal(401, None, "Invalid username or password.")
        token = {"role": request.role, "displayName": "test"}
        return {"type": "user", "name": request.account, "orgs": [], "auth": {"accessToken": token}}

    def _named(self, request):
        """What a request says of a repo, in whose namespace it is, and its name."""
        given = json.loads(request.body)
        namespace = given.get("organization") or request.account
        return given, namespace, f"{'spaces/' if given.get('type') == 'space' else ''}{namespace}/{given['name']}"

    def create(self, request):
        given, namespace, name = self._named(request)
        if request.account != namespace or request.role != "write":
            raise Refusal(403, None, "You don't have the rights to create a model under this namespace")
        if name in self.repos:
            raise Refusal(409, None, "You already created this model repo", url=f"{self.url}/{name}", name=name)
        private = given.get("private") or given.get("visibility") == "private"
        if name.startswith("spaces/") and given.get("sdk") != "gradio":
            raise Refusal(400, None, "a Space needs its SDK")
        variables = {one["key"]: one["value"] for one in given.get("variables", [])}
        self.repos[name] = Repo(private=bool(private), variables=variables)
        self.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        return {"url": f"{self.url}/{name}", "name": name}

    def info(self, request, repo, revision="main"):
        found = self.repo(request, repo)
        oid = self._oid(found, revision)
        names = [{"rfilename": name} for name in found.commits[oid]]
        return {"id": repo, "modelId": repo, "private": found.private, "sha": oid, "siblings": names, "tags": []}

    def delete(self, request):
        _, _, name = self._named(request)
        self.repo(request, name, writes=True)
        del self.repos[name]
        return {}

    def variable(self, request, repo):
        given = json.loads(request.body)
        self.repo(request, repo, writes=True).variables[given["key"]] = given["value"]
        return {}

    def tree(self, request, repo, revision, folder=""):
        found = self.repo(request, repo)
        files = found.commits[self._oid(found, revision)]
        entries = [_entry(name, data) for name, data in files.items() if name.startswith(unquote(folder).strip("/"))]
        if not entries:
            raise Refusal(404, "EntryNotFound", "not there")
        return entries

    def branch(self, request, repo, name):
        found = self.repo(request, repo, writes=True)
        if unquote(name) in found.refs:
            raise Refusal(409, None, "Reference already exists")
        found.refs[unquote(name)] = found.refs["main"]
        return {}

    def preupload(self, request, repo, revision):
        found = self.repo(request, repo, writes="create_pr" not in request.query)
        files = found.commits[self._oid(found, revision)]
        given, answers = json.loads(request.body), []
        ignored = _ignored(given.get("gitIgnore"), [file["path"] for file in given["files"]])
        for file in given["files"]:
            is_large = file["size"] > LFS_FROM or file["path"].endswith(".safetensors")
            old = files.get(file["path"])
            oid = None if old is None else _oid(old, is_large)
            mode = "lfs" if is_large else "regular"
            answers.append(
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": file["path"] in ignored, "oid": oid}
            )
        return {"files": answers}

    def batch(self, request, repo):
        self.repo(request, repo)
        given = json.loads(request.body)
        objects, transfer = [], "basic"
        for files in self.repos[repo].commits.values():
            self.blobs |= {_oid(data, True): data for data in files.values()}
        for wanted in given["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            answer = {"oid": oid, "size": size}
            if oid not in self.blobs:
                upload = {"href": f"{self.url}/lfs/{oid}", "header": {}}
                if size > PARTS_FROM:
                    transfer = "multipart"
                    count = -(-size // PART)
                    urls = {str(part): f"{self.url}/lfs/{oid}/{part}" for part in range(1, count + 1)}
                    upload = {"href": f"{self.url}/lfs/{oid}/complete", "header": {"chunk_size": str(PART), **urls}}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.url}/lfs-verify"}}
            objects.append(answer)
        return {"transfer": transfer, "objects": objects}

    def put(self, request, oid):
        self._store(oid, request.body)
        return {}

    def put_part(self, request, oid, part):
        self.parts[oid, int(part)] = request.body
        return {}, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'}

    def complete(self, request, oid):
        numbers = [part["partNumber"] for part in json.loads(request.body)["parts"]]
        self._store(oid, b"".join(self.parts.pop((oid, number)) for number in numbers))
        return {}

    def verify(self, request):
        given = json.loads(request.body)
        if len(self.blobs.get(given["oid"], b"")) != given["size"]:
            raise Refusal(422, None, "wrong size")
        return {}

    def validate(self, request):
        return {"errors": [], "warnings": []}

    def commit(self, request, repo, revision):
        is_pr = "create_pr" in request.query
        found = self.repo(request, repo, writes=not is_pr)
        files = dict(found.commits[self._oid(found, revision)])
        message = ""
        for line in request.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.blobs:
                    raise Refusal(400, None, f"{value['path']} was not uploaded")
                files[value["path"]] = self.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        ref = f"refs/pr/{1 + sum(name.startswith('refs/pr/') for name in found.refs)}" if is_pr else unquote(revision)
        oid = found.commit(files, ref, message)
        url = f"{self.url}/{repo}/discussions/{ref.split('/')[-1]}" if is_pr else None
        return {"commitUrl": f"{self.url}/{repo}/commit/{oid}", "commitOid": oid, "pullRequestUrl": url}

    def resolve(self, request, repo, revision, path):
        found = self.repo(request, repo)
        oid = self._oid(found, revision)
        if found.gated and request.account != repo.split("/")[-2]:
            raise Refusal(403 if request.account else 401, "GatedRepo", "Access to this repo is restricted")
        data = found.commits[oid].get(unquote(path))
        if data is None:
            raise Refusal(404, "EntryNotFound", "not there")
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if len(data) <= LFS_FROM:
            return data, {**headers, "ETag": f'"{_oid(data, False)}"'}
        sha = _oid(data, True)
        self.blobs.setdefault(sha, data)
        linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data))}
        return None, {**headers, **linked, "Location": f"{self.cdn_url}/{sha}"}

    def cdn(self, request, sha):
        return self.blobs[sha], {"ETag": f'"{sha}"', "Accept-Ranges": "bytes"}

    def _store(self, oid, data):
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, None, "these are other bytes")
        self.blobs[oid] = data

    def _oid(self, repo, revision):
        oid = repo.oid(unquote(revision))
        if oid is None:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        return oid


def _oid(data, is_large):
    return hashlib.sha256(data).hexdigest() if is_large else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _ignored(patterns, paths):
    """Which of the paths a .gitignore of these patterns leaves out: git itself says."""
    if not patterns:
        return set()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, ".gitignore").write_text(patterns)
        subprocess.run(["git", "init", "--quiet", folder], check=True)
        command = ["git", "-C", folder, "check-ignore", "--stdin", "-z"]
        return set(subprocess.run(command, input="\0".join(paths), capture_output=True, text=True).stdout.split("\0"))


def _entry(name, data):
    entry = {"type": "file", "path": name, "size": len(data), "oid": _oid(data, False)}
    if len(data) > LFS_FROM:
        entry["lfs"] = {"oid": _oid(data, True), "size": len(data), "pointerSize": 130}
    return entry


Hub.routes = [
    (method, re.compile(pattern + "$"), answer)
    for method, pattern, answer in (
        ("GET", "/api/whoami-v2", Hub.whoami),
        ("POST", "/api/repos/create", Hub.create),
        ("DELETE", "/api/repos/delete", Hub.delete),
        ("POST", f"{API}/variables", Hub.variable),
        ("POST", "/api/validate-yaml", Hub.validate),
        ("GET", f"{API}(/revision/(?P<revision>[^/]+))?", Hub.info),
        ("GET", f"{API}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", Hub.tree),
        ("POST", f"{API}/branch/(?P<name>.+)", Hub.branch),
        ("POST", f"{API}/preupload/(?P<revision>.+)", Hub.preupload),
        ("POST", f"{API}/commit/(?P<revision>.+)", Hub.commit),
        ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Hub.batch),
        ("PUT", r"/lfs/(?P<oid>\w+)", Hub.put),
        ("PUT", r"/lfs/(?P<oid>\w+)/(?P<part>\d+)", Hub.put_part),
        ("POST", r"/lfs/(?P<oid>\w+)/complete", Hub.complete),
        ("POST", "/lfs-verify", Hub.verify),
        ("GET", f"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Hub.resolve),
        ("GET", r"/cdn/(?P<sha>\w+)", Hub.cdn),
    )
]
