"""Answer those who bring something to the tests' Hub: repositories, large files, commits, tags.

A commit takes effect as a whole or not at all. Everything needs the token but the contents of large
files, which clients send without it.
"""

import base64
import json
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.store import StoredFile, large_file
from tests.hub.views import Access, HubError

_REGULAR = (".md", ".json", ".jsonl", ".txt", ".yaml", ".yml", ".jinja", ".gitattributes")
"""The endings of files that the Hub keeps in git itself; all others are large files."""


class Uploads:
    """The endpoints that change something."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._store = access.store

    async def create(self, request: Request) -> Response:
        """Make a repository of the token's owner."""
        user = self._access.user(request)
        if not user:
            raise HubError(401, "Invalid username or password.")
        body = await request.json()
        kind = body.get("type") or "model"
        owner = body.get("organization") or user
        name = f"{owner}/{body['name']}"
        if owner != user:
            raise HubError(
                403, f"You don't have the rights to create a {kind} under the namespace {owner!r}"
            )
        folder = "datasets/" if kind == "dataset" else ""
        reply = {"url": f"{_base(request)}/{folder}{name}", "name": name}
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
        try:
            is_mapping = isinstance(yaml.safe_load(head), dict)
            errors = [] if is_mapping else ["the metadata are not a mapping"]
        except yaml.YAMLError as error:
            errors = [str(error)]
        found = [{"message": message} for message in errors]
        return JSONResponse({"errors": found, "warnings": []}, 400 if errors else 200)

    async def preupload(self, request: Request) -> Response:
        """Say how each file is to be sent, and what lies at its path now."""
        self._access.repository(request, writes=True)
        _, commit = self._access.commit(request)
        found = []
        for asked in (await request.json())["files"]:
            path = asked["path"]
            mode = "regular" if path.endswith(_REGULAR) else "lfs"
            oid = _shown_oid(commit.files.get(path))
            found.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": found})

    async def lfs_batch(self, request: Request) -> Response:
        """Say where to send each large file; a file that is here already is not asked for again."""
        self._access.repository(request, writes=True)
        objects = []
        for asked in (await request.json())["objects"]:
            reply = {"oid": asked["oid"], "size": asked["size"]}
            if not self._store.content_path(asked["oid"]).exists():
                href = f"{_base(request)}/lfs/{asked['oid']}"
                reply["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(reply)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def lfs_put(self, request: Request) -> Response:
        """Take in the contents of a large file."""
        if self._store.keep(await request.body()) != request.path_params["sha256"]:
            raise HubError(400, "the contents are not those that were announced")
        return Response()

    async def commit(self, request: Request) -> Response:
        """Add and remove files, all in one step."""
        repository = self._access.repository(request, writes=True)
        header, *lines = [json.loads(line) for line in (await request.body()).splitlines()]
        if header["value"].get("parentCommit") not in (None, repository.head.oid):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.head.files)
        for line in lines:
            self._apply(files, line["key"], line["value"])
        made = self._store.commit(repository, header["value"]["summary"], files)
        folder = "datasets/" if repository.kind == "dataset" else ""
        url = f"{_base(request)}/{folder}{repository.name}/commit/{made.oid}"
        return JSONResponse({"commitOid": made.oid, "commitUrl": url})

    def _apply(self, files: dict[str, StoredFile], key: str, value: dict[str, Any]) -> None:
        """Do to `files` what a line of a commit says."""
        path = value["path"]
        if key == "file":
            files[path] = self._store.regular_file(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if not self._store.content_path(value["oid"]).is_file():
                raise HubError(400, f"the contents of {path} were never sent")
            files[path] = large_file(value["oid"], value["size"])
        elif key == "deletedFile":
            files.pop(path, None)
        elif key == "deletedFolder":
            for name in list(files):
                if name.startswith(f"{path.rstrip('/')}/"):
                    del files[name]

    async def tag(self, request: Request) -> Response:
        """Give a commit a name."""
        repository = self._access.repository(request, writes=True)
        _, commit = self._access.commit(request)
        name = (await request.json())["tag"]
        if name in repository.tags:
            raise HubError(409, f"Tag {name} already exists")
        repository.tags[name] = commit.oid
        self._store.save(repository)
        return JSONResponse({})


def _shown_oid(file: StoredFile | None) -> str | None:
    if file is None:
        return None
    return file.sha256 if file.is_lfs else file.git_oid


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")
