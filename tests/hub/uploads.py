"""Answer those who bring something to the tests' Hub: repositories, large files, commits, tags.

A commit is read line by line (`create_commit` sends JSON lines: a header, then files and deletions)
and takes effect as a whole or not at all. Everything needs the token. Clients send large files
without it, so the address that they are given is signed.
"""

import hmac
import secrets

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub import requests as hub_requests
from tests.hub.requests import check_name, check_path, read_json
from tests.hub.store import StoredFile, large_file
from tests.hub.views import Access, HubError

_REGULAR = (".md", ".json", ".jsonl", ".txt", ".yaml", ".yml", ".jinja", ".gitattributes")
"""The endings of files that the Hub keeps in git itself; all others are large files."""


class Uploads:
    """The endpoints that change something."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._store = access.store
        self._key = secrets.token_bytes(32)
        """Signs addresses, for as long as the server runs."""

    async def create(self, request: Request) -> Response:
        """Make a repository of the token's owner."""
        user = self._access.user(request)
        if not user:
            raise HubError(401, "Invalid username or password.")
        body = await read_json(request, hub_requests.NewRepository)
        kind = body.type or "model"
        owner = body.organization or user
        name = check_name(f"{owner}/{body.name}")
        if owner != user:
            raise HubError(
                403, f"You don't have the rights to create a {kind} under the namespace {owner!r}"
            )
        folder = "datasets/" if kind == "dataset" else ""
        reply = {"url": f"{_base(request)}/{folder}{name}", "name": name}
        if self._store.find(kind, name):
            return JSONResponse({"error": f"You already created this {kind} repo", **reply}, 409)
        is_private = body.visibility == "private" or bool(body.private)
        self._store.create(kind, name, private=is_private)
        return JSONResponse(reply)

    async def validate_card(self, request: Request) -> Response:
        """Say whether a card's head is YAML with a mapping in it."""
        content = (await read_json(request, hub_requests.Card)).content
        head = "{}"
        if content.startswith("---\n"):
            head = content.removeprefix("---\n").partition("\n---\n")[0]
        try:
            is_mapping = isinstance(yaml.safe_load(head), dict)
            errors = [] if is_mapping else ["the metadata are not a mapping"]
        except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
            errors = [str(error)]
        found = [{"message": message} for message in errors]
        return JSONResponse({"errors": found, "warnings": []}, 400 if errors else 200)

    async def preupload(self, request: Request) -> Response:
        """Say how each file is to be sent, and what lies at its path now."""
        self._access.repository(request, writes=True)
        _, commit = self._access.commit(request)
        found = []
        for asked in (await read_json(request, hub_requests.AskedFiles)).files:
            path = check_path(asked.path)
            mode = "regular" if path.endswith(_REGULAR) else "lfs"
            oid = _shown_oid(commit.files.get(path))
            found.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": found})

    async def lfs_batch(self, request: Request) -> Response:
        """Say where to send each large file; a file that is here already is not asked for again."""
        self._access.repository(request, writes=True)
        objects = []
        for asked in (await read_json(request, hub_requests.AskedObjects)).objects:
            reply: dict[str, object] = {"oid": asked.oid, "size": asked.size}
            if not self._store.content_path(asked.oid).exists():
                signature = self._signature(asked.oid, asked.size)
                query = f"size={asked.size}&signature={signature}"
                href = f"{_base(request)}/lfs/{asked.oid}?{query}"
                reply["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(reply)
        return JSONResponse({"transfer": "basic", "objects": objects})

    def _signature(self, oid: str, size: int | str) -> str:
        return hmac.new(self._key, f"{oid} {size}".encode(), "sha256").hexdigest()

    async def lfs_put(self, request: Request) -> Response:
        """Take in the contents of a large file, at the address that its owner was given."""
        oid = request.path_params["sha256"]
        size = request.query_params.get("size", "")
        given = request.query_params.get("signature", "")
        if not hmac.compare_digest(given.encode(), self._signature(oid, size).encode()):
            raise HubError(403, "the address is not one that this server gave out")
        with self._store.receiving(oid) as received:
            async for chunk in request.stream():
                received.write(chunk)
                if received.size > int(size):
                    raise HubError(413, "the contents are larger than announced")
        if received.sha256 != oid:
            raise HubError(400, "the contents are not those that were announced")
        return Response()

    async def commit(self, request: Request) -> Response:
        """Add and remove files, all in one step."""
        repository = self._access.repository(request, writes=True)
        lines = await hub_requests.read_lines(request)
        headers = [line.value for line in lines if isinstance(line, hub_requests.HeaderLine)]
        if len(headers) != 1:
            raise HubError(400, "malformed body: a commit has one header")
        header = headers[0]
        if header.parent not in (None, repository.head.oid):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.head.files)
        for line in lines:
            self._apply(files, line)
        made = self._store.commit(repository, header.summary, files)
        folder = "datasets/" if repository.kind == "dataset" else ""
        url = f"{_base(request)}/{folder}{repository.name}/commit/{made.oid}"
        return JSONResponse({"commitOid": made.oid, "commitUrl": url})

    def _apply(self, files: dict[str, StoredFile], line: hub_requests.Line) -> None:
        """Do to `files` what a line of a commit says."""
        match line:
            case hub_requests.SmallFileLine(value):
                files[check_path(value.path)] = self._store.regular_file(value.content)
            case hub_requests.LargeFileLine(value):
                content = self._store.content_path(value.oid)
                if not content.is_file() or content.stat().st_size != value.size:
                    raise HubError(400, f"the contents of {value.path} were never sent")
                files[check_path(value.path)] = large_file(value.oid, value.size)
            case hub_requests.DeletedFileLine(value):
                files.pop(value.path, None)
            case hub_requests.DeletedFolderLine(value):
                folder = check_path(value.path.rstrip("/"))
                for path in list(files):
                    if path.startswith(f"{folder}/"):
                        del files[path]

    async def tag(self, request: Request) -> Response:
        """Give a commit a name."""
        repository = self._access.repository(request, writes=True)
        _, commit = self._access.commit(request)
        name = hub_requests.check_tag((await read_json(request, hub_requests.NewTag)).tag)
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
