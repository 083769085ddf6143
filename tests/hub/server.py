"""Serve a folder as a Hugging Face Hub that the real `huggingface_hub` and `datasets` work with.

    python -m tests.hub.server PORT FOLDER      # the account `local`, its token `hf_local`

It speaks the part of the Hub's HTTP API that creating, committing, tagging, listing and loading
need. Small files come with the commit, large ones by LFS. There is no Xet and no pull request.
"""

import base64
import json
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tests.hub.store import MAIN, Commit, Repository, Store, StoredFile, large_file

Endpoint = Callable[[Request], Awaitable[Response]]
_REGULAR = (".md", ".json", ".jsonl", ".txt", ".yaml", ".yml", ".jinja", ".gitattributes")
"""The endings of files that the Hub keeps in git itself; all others are large files."""
_FIXED_BEGINNINGS = ("/api/", "/datasets/", "/lfs/")
"""Beginnings of the paths that do not begin with an owner's name."""


class HubError(Exception):
    """A refusal, as the Hub words it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


def answered(call: Endpoint) -> Endpoint:
    """Wrap an endpoint so that its refusals become the Hub's replies."""

    @wraps(call)
    async def answer(request: Request) -> Response:
        try:
            return await call(request)
        except HubError as error:
            headers = {"X-Error-Message": error.message}
            if error.code:
                headers["X-Error-Code"] = error.code
            return JSONResponse({"error": error.message}, error.status, headers)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    return answer


class Hub:
    """The endpoints of a Hub with one account."""

    def __init__(self, store: Store, owner: str, token: str) -> None:
        self._store = store
        self._owner = owner
        self._token = token

    # --- who asks, and for what

    def _user(self, request: Request) -> str:
        """Return the account of a request; empty where it names none."""
        given = request.headers.get("authorization", "")
        if given and given != f"Bearer {self._token}":
            raise HubError(401, "Invalid credentials in Authorization header")
        return self._owner if given else ""

    def _repository(self, request: Request, *, writes: bool = False) -> Repository:
        """Return the repository of a request that the account may see, or write to."""
        user = self._user(request)
        is_data_set = request.url.path.startswith(("/datasets/", "/api/datasets/"))
        owner = request.path_params["owner"]
        name = f"{owner}/{request.path_params['name']}"
        found = self._store.find("dataset" if is_data_set else "model", name)
        if found is None or (found.private and user != owner):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if writes and user != owner:
            raise HubError(403, f"Forbidden: no right to write to {name}")
        return found

    def _commit(self, request: Request) -> tuple[Repository, Commit]:
        """Return the repository of a request and the commit that its revision names."""
        repository = self._repository(request)
        found = repository.at(request.path_params.get("revision", MAIN))
        if found is None:
            raise HubError(404, "Invalid rev id", "RevisionNotFound")
        return repository, found

    # --- endpoints that change nothing

    async def whoami(self, request: Request) -> Response:
        """Name the account that the token belongs to."""
        user = self._user(request)
        if not user:
            raise HubError(401, "Invalid username or password.")
        return JSONResponse({"type": "user", "name": user, "orgs": []})

    async def info(self, request: Request) -> Response:
        """Describe a repository and name its files."""
        repository, commit = self._commit(request)
        described = {
            "_id": repository.name,
            "id": repository.name,
            "author": repository.name.partition("/")[0],
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": repository.commits[0].date,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }
        return JSONResponse(described)

    async def refs(self, request: Request) -> Response:
        """List the branch and the tags."""
        repository = self._repository(request)
        branch = {"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": repository.head.oid}
        tags = []
        for name, oid in repository.tags.items():
            tags.append({"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid})
        return JSONResponse({"branches": [branch], "tags": tags, "converts": []})

    async def commits(self, request: Request) -> Response:
        """List the history up to a revision, the newest commit first."""
        repository, newest = self._commit(request)
        found = []
        for commit in repository.commits[: repository.commits.index(newest) + 1]:
            described = {"id": commit.oid, "title": commit.title, "message": ""}
            authors = [{"user": self._owner}]
            found.append({**described, "date": commit.date, "authors": authors})
        return JSONResponse(found[::-1])

    async def tree(self, request: Request) -> Response:
        """List the files and folders below a path."""
        _, commit = self._commit(request)
        folder = request.path_params.get("path", "").strip("/")
        prefix = f"{folder}/" if folder else ""
        found = [it for it in _entries(commit) if it["path"].startswith(prefix)]
        if folder and not found:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound")
        if request.query_params.get("recursive", "").lower() not in ("true", "1"):
            depth = prefix.count("/")
            found = [entry for entry in found if entry["path"].count("/") == depth]
        return JSONResponse(found)

    async def paths_info(self, request: Request) -> Response:
        """Describe what lies at each of some paths, and leave out those where nothing lies."""
        _, commit = self._commit(request)
        asked = parse_qs((await request.body()).decode()).get("paths", [])
        wanted = {path.strip("/") for path in asked}
        return JSONResponse([it for it in _entries(commit) if it["path"] in wanted])

    async def resolve(self, request: Request) -> Response:
        """Send a file's contents, whole or in part."""
        _, commit = self._commit(request)
        file = commit.files.get(request.path_params["path"])
        if file is None or not self._store.content_path(file.sha256).is_file():
            raise HubError(404, "Entry not found", "EntryNotFound")
        etag = f'"{_oid(file)}"'
        headers = {"X-Repo-Commit": commit.oid, "ETag": etag, "X-Linked-Etag": etag}
        headers["X-Linked-Size"] = str(file.size)
        return FileResponse(self._store.content_path(file.sha256), headers=headers)

    # --- endpoints that change something

    async def create(self, request: Request) -> Response:
        """Make a repository of the token's owner."""
        user = self._user(request)
        if not user:
            raise HubError(401, "Invalid username or password.")
        body = await request.json()
        kind = body.get("type") or "model"
        owner = body.get("organization") or user
        name = f"{owner}/{body['name']}"
        if owner != user:
            raise HubError(403, f"You don't have the rights to create a {kind} under {owner!r}")
        folder = "datasets/" if kind == "dataset" else ""
        reply = {"url": f"{request.base_url}{folder}{name}", "name": name}
        if self._store.find(kind, name):
            return JSONResponse({"error": f"You already created this {kind} repo", **reply}, 409)
        is_private = body.get("visibility") == "private" or bool(body.get("private"))
        self._store.create(kind, name, private=is_private)
        return JSONResponse(reply)

    async def validate_card(self, request: Request) -> Response:
        """Say whether a card's head is YAML with a mapping in it."""
        content = (await request.json())["content"]
        head = "{}"
        if content.startswith("---\n"):
            head = content.removeprefix("---\n").partition("\n---\n")[0]
        if isinstance(yaml.safe_load(head), dict):
            return JSONResponse({"errors": [], "warnings": []})
        errors = [{"message": "the metadata are not a mapping"}]
        return JSONResponse({"errors": errors, "warnings": []}, 400)

    async def preupload(self, request: Request) -> Response:
        """Say how each file is to be sent, and what lies at its path now."""
        self._repository(request, writes=True)
        _, commit = self._commit(request)
        found = []
        for asked in (await request.json())["files"]:
            path = asked["path"]
            mode = "regular" if path.endswith(_REGULAR) else "lfs"
            there = commit.files.get(path)
            reply = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            found.append({**reply, "oid": _oid(there) if there else None})
        return JSONResponse({"files": found})

    async def lfs_batch(self, request: Request) -> Response:
        """Say where to send each large file; a file that is here already is not asked for again."""
        self._repository(request, writes=True)
        objects = []
        for asked in (await request.json())["objects"]:
            reply = {"oid": asked["oid"], "size": asked["size"]}
            if not self._store.content_path(asked["oid"]).exists():
                href = f"{request.base_url}lfs/{asked['oid']}"
                reply["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(reply)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def lfs_put(self, request: Request) -> Response:
        """Take in the contents of a large file."""
        content = await request.body()
        if self._store.keep(content) != request.path_params["sha256"]:
            raise HubError(400, "the contents are not those that were announced")
        return Response()

    async def commit(self, request: Request) -> Response:
        """Add and remove files, all in one step; a line for each thing that is done."""
        repository = self._repository(request, writes=True)
        files = dict(repository.head.files)
        title = ""
        for line in (await request.body()).splitlines():
            change = json.loads(line)
            value = change["value"]
            if change["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, repository.head.oid):
                    raise HubError(412, "A commit has happened since. Please refresh.")
            elif change["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = self._store.regular_file(content)
            elif change["key"] == "lfsFile":
                if not self._store.content_path(value["oid"]).is_file():
                    raise HubError(400, f"the contents of {value['path']} were never sent")
                files[value["path"]] = large_file(value["oid"], value["size"])
            else:
                files.pop(value["path"], None)
        made = self._store.commit(repository, title, files)
        folder = "datasets/" if repository.kind == "dataset" else ""
        url = f"{request.base_url}{folder}{repository.name}/commit/{made.oid}"
        return JSONResponse({"commitOid": made.oid, "commitUrl": url})

    async def tag(self, request: Request) -> Response:
        """Give a commit a name."""
        repository = self._repository(request, writes=True)
        _, commit = self._commit(request)
        name = (await request.json())["tag"]
        if name in repository.tags:
            raise HubError(409, f"Tag {name} already exists")
        repository.tags[name] = commit.oid
        self._store.save(repository)
        return JSONResponse({})


def _oid(file: StoredFile) -> str:
    return file.sha256 if file.is_lfs else file.git_oid


def _entries(commit: Commit) -> list[dict[str, Any]]:
    """Describe the folders and files of a commit, the folders first."""
    folders = set()
    for path in commit.files:
        folders.update(str(parent) for parent in Path(path).parents)
    found: list[dict[str, Any]] = []
    for path in sorted(folders - {"."}):
        found.append({"type": "directory", "path": path, "oid": commit.oid, "size": 0})
    for path, file in sorted(commit.files.items()):
        entry = {"type": "file", "path": path, "oid": file.git_oid, "size": file.size}
        if file.is_lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
        found.append(entry)
    return found


def create_app(folder: Path, owner: str, token: str) -> Starlette:
    """Build the application of a Hub with one account, which keeps everything in a folder."""
    hub = Hub(Store(folder), owner, token)
    endpoints: list[tuple[str, str, Endpoint]] = [
        ("GET", "/api/whoami-v2", hub.whoami),
        ("POST", "/api/repos/create", hub.create),
        ("POST", "/api/validate-yaml", hub.validate_card),
        ("PUT", "/lfs/{sha256}", hub.lfs_put),
    ]
    for api, files in (("/api/models", ""), ("/api/datasets", "/datasets")):
        repository = f"{api}/{{owner}}/{{name}}"
        contents = f"{files}/{{owner}}/{{name}}"
        endpoints += [
            ("GET", repository, hub.info),
            ("GET", f"{repository}/revision/{{revision}}", hub.info),
            ("GET", f"{repository}/refs", hub.refs),
            ("GET", f"{repository}/commits/{{revision}}", hub.commits),
            ("GET", f"{repository}/tree/{{revision}}", hub.tree),
            ("GET", f"{repository}/tree/{{revision}}/{{path:path}}", hub.tree),
            ("POST", f"{repository}/paths-info/{{revision}}", hub.paths_info),
            ("POST", f"{repository}/preupload/{{revision}}", hub.preupload),
            ("POST", f"{repository}/commit/{{revision}}", hub.commit),
            ("POST", f"{repository}/tag/{{revision}}", hub.tag),
            ("POST", f"{contents}.git/info/lfs/objects/batch", hub.lfs_batch),
            ("GET", f"{contents}/resolve/{{revision}}/{{path:path}}", hub.resolve),
        ]
    # `/datasets/a/b/...` must be tried before `/{owner}/{name}/...`.
    endpoints.sort(key=lambda endpoint: not endpoint[1].startswith(_FIXED_BEGINNINGS))
    routes = [Route(path, answered(call), methods=[method]) for method, path, call in endpoints]
    return Starlette(routes=routes)


if __name__ == "__main__":
    port, directory = sys.argv[1:]
    uvicorn.run(
        create_app(Path(directory), owner="local", token="hf_local"),
        host="127.0.0.1",
        port=int(port),
        log_level="warning",
        access_log=False,
    )
