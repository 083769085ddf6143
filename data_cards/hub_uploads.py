"""What the local Hub does for those who bring something: a repository, large files, a commit, a tag.

A commit is read line by line (`create_commit` sends JSON lines: a header, then files and deletions) and takes effect as
a whole or not at all.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from data_cards.hub_store import StoredFile, large_file
from data_cards.hub_views import Access, HubError

_REGULAR = (".md", ".json", ".jsonl", ".txt", ".yaml", ".yml", ".jinja", ".gitattributes")
"""What the Hub keeps in git itself; all else is a large file."""


class Uploads:
    """The endpoints that change something."""

    def __init__(self, access: Access) -> None:
        self._access, self._store = access, access.store

    async def create(self, request: Request) -> Response:
        """A new repository of the token's owner."""
        body, user = await request.json(), self._access.user(request)
        kind, owner = body.get("type") or "model", body.get("organization") or user
        name = f"{owner}/{body['name']}"
        if not user:
            raise HubError(401, "Invalid username or password.")
        if owner != user:
            raise HubError(
                403, f"You don't have the rights to create a {kind} under the namespace {owner!r}"
            )
        reply = {
            "url": f"{_base(request)}/{'datasets/' if kind == 'dataset' else ''}{name}",
            "name": name,
        }
        if self._store.find(kind, name):
            return JSONResponse({"error": f"You already created this {kind} repo", **reply}, 409)
        self._store.create(kind, name, private=body.get("visibility") == "private")
        return JSONResponse(reply)

    async def validate_card(self, request: Request) -> Response:
        """Whether a card's head is YAML with a mapping in it."""
        content: str = (await request.json())["content"]
        head = (
            content.removeprefix("---\n").partition("\n---\n")[0]
            if content.startswith("---\n")
            else "{}"
        )
        try:
            errors = (
                [] if isinstance(yaml.safe_load(head), dict) else ["the metadata are no mapping"]
            )
        except yaml.YAMLError as error:
            errors = [str(error)]
        found = [{"message": message} for message in errors]
        return JSONResponse({"errors": found, "warnings": []}, 400 if errors else 200)

    async def preupload(self, request: Request) -> Response:
        """How each file is to be sent, and what lies at its path now."""
        self._access.repository(request, writes=True)
        _, commit = self._access.commit(request)
        found = []
        for asked in (await request.json())["files"]:
            mode = "regular" if asked["path"].endswith(_REGULAR) else "lfs"
            there = commit.files.get(asked["path"])
            oid = None if there is None else there.sha256 if there.is_lfs else there.git_oid
            found.append(
                {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            )
        return JSONResponse({"files": found})

    async def lfs_batch(self, request: Request) -> Response:
        """Where to send each large file; those that are here already are not asked for again."""
        self._access.repository(request, writes=True)
        objects = []
        for asked in (await request.json())["objects"]:
            action = {"upload": {"href": f"{_base(request)}/lfs/{asked['oid']}", "header": {}}}
            is_here = self._store.content_path(asked["oid"]).exists()
            objects.append(
                {
                    "oid": asked["oid"],
                    "size": asked["size"],
                    **({} if is_here else {"actions": action}),
                }
            )
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def lfs_put(self, request: Request) -> Response:
        """The contents of a large file; the address is the permission, as on the Hub."""
        with self._store.receiving() as received:
            async for chunk in request.stream():
                received.write(chunk)
        if received.sha256 != request.path_params["sha256"]:
            raise HubError(400, "the contents are not those that were announced")
        return Response()

    async def commit(self, request: Request) -> Response:
        """Files added and removed, all in one step."""
        repository = self._access.repository(request, writes=True)
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", repository.head.oid) != repository.head.oid:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.head.files)
        for line in lines:
            self._apply(files, line["key"], line["value"])
        made = self._store.commit(repository, header["summary"], files)
        folder = "datasets/" if repository.kind == "dataset" else ""
        url = f"{_base(request)}/{folder}{repository.name}/commit/{made.oid}"
        return JSONResponse({"commitOid": made.oid, "commitUrl": url})

    def _apply(self, files: dict[str, StoredFile], key: str, value: Mapping[str, Any]) -> None:
        path = value.get("path", "")
        if key == "file":
            files[path] = self._store.regular_file(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if not self._store.content_path(value["oid"]).exists():
                raise HubError(400, f"the contents of {path} were never sent")
            files[path] = large_file(value["oid"], value["size"])
        elif key == "deletedFile":
            files.pop(path, None)
        elif key == "deletedFolder":
            for inside in [it for it in files if it.startswith(path.rstrip("/") + "/")]:
                del files[inside]

    async def tag(self, request: Request) -> Response:
        """A name for a commit."""
        repository = self._access.repository(request, writes=True)
        _, commit = self._access.commit(request)
        name = (await request.json())["tag"]
        if name in repository.tags:
            raise HubError(409, f"Tag {name} already exists")
        repository.tags[name] = commit.oid
        self._store.save(repository)
        return JSONResponse({})


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")
