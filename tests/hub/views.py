"""Answer those who look at the Hub of the tests.

They ask who they are, what a repository holds, and for the files themselves.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from tests.hub.store import MAIN, Commit, Kind, Repository, Store, StoredFile

Endpoint = Callable[[Request], Awaitable[Response]]


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


@dataclass(frozen=True, slots=True)
class Access:
    """The one account with its token, and the rights that it has."""

    store: Store
    owner: str
    token: str

    def user(self, request: Request) -> str:
        """Return the account of a request; empty where it names none.

        Raises:
            HubError: the token is not the owner's.
        """
        given = request.headers.get("authorization", "")
        if given not in ("", f"Bearer {self.token}"):
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.owner if given else ""

    def repository(self, request: Request, *, writes: bool = False) -> Repository:
        """Return the repository of a request.

        Raises:
            HubError: there is none, or the account may not see it or write to it.
        """
        user = self.user(request)
        owner = request.path_params["owner"]
        is_data_set = request.url.path.startswith(("/datasets/", "/api/datasets/"))
        kind: Kind = "dataset" if is_data_set else "model"
        found = self.store.find(kind, f"{owner}/{request.path_params['name']}")
        if found is None or (found.private and user != owner):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if writes and user != owner:
            raise HubError(403, f"Forbidden: no right to write to {found.name}")
        return found

    def commit(self, request: Request) -> tuple[Repository, Commit]:
        """Return the repository of a request and the commit that its revision names.

        Raises:
            HubError: there is none, or the account may not see it.
        """
        repository = self.repository(request)
        found = repository.at(request.path_params.get("revision", MAIN))
        if found is None:
            raise HubError(404, "Invalid rev id", "RevisionNotFound")
        return repository, found


class Views:
    """The endpoints that change nothing."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def whoami(self, request: Request) -> Response:
        """Name the account that the token belongs to."""
        user = self._access.user(request)
        if not user:
            raise HubError(401, "Invalid username or password.")
        return JSONResponse({"type": "user", "name": user, "orgs": []})

    async def info(self, request: Request) -> Response:
        """Describe a repository and name its files."""
        repository, commit = self._access.commit(request)
        return JSONResponse(
            {
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
        )

    async def refs(self, request: Request) -> Response:
        """List the branch and the tags."""
        repository = self._access.repository(request)
        branch = {"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": repository.head.oid}
        tags = []
        for name, oid in repository.tags.items():
            tags.append({"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid})
        return JSONResponse({"branches": [branch], "tags": tags, "converts": []})

    async def commits(self, request: Request) -> Response:
        """List the history up to a revision, the newest commit first."""
        repository, newest = self._access.commit(request)
        history = repository.commits[: repository.commits.index(newest) + 1]
        found = []
        for commit in reversed(history):
            found.append(
                {
                    "id": commit.oid,
                    "title": commit.title,
                    "message": "",
                    "date": commit.date,
                    "authors": [{"user": self._access.owner}],
                }
            )
        return JSONResponse(found)

    async def tree(self, request: Request) -> Response:
        """List the files and folders below a path."""
        _, commit = self._access.commit(request)
        folder = request.path_params.get("path", "").strip("/")
        prefix = f"{folder}/" if folder else ""
        is_recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        found = _folders(commit, prefix)
        for path, file in _below(commit, prefix):
            found.append(_entry(path, file))
        if folder and not found:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound")
        if not is_recursive:
            depth = prefix.count("/")
            found = [entry for entry in found if entry["path"].count("/") == depth]
        return JSONResponse(found)

    async def paths_info(self, request: Request) -> Response:
        """Describe what lies at each of some paths, and leave out those where nothing lies."""
        _, commit = self._access.commit(request)
        body = (await request.body()).decode("utf-8", "replace")
        folders = {entry["path"]: entry for entry in _folders(commit, "")}
        found = []
        for asked in parse_qs(body).get("paths", []):
            path = asked.strip("/")
            if path in commit.files:
                found.append(_entry(path, commit.files[path]))
            elif path in folders:
                found.append(folders[path])
        return JSONResponse(found)

    async def resolve(self, request: Request) -> Response:
        """Send a file's contents, whole or in part."""
        _, commit = self._access.commit(request)
        file = commit.files.get(request.path_params["path"])
        if file is None or not self._access.store.content_path(file.sha256).is_file():
            raise HubError(404, "Entry not found", "EntryNotFound")
        etag = file.sha256 if file.is_lfs else file.git_oid
        headers = {
            "X-Repo-Commit": commit.oid,
            "ETag": f'"{etag}"',
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(file.size),
        }
        return FileResponse(self._access.store.content_path(file.sha256), headers=headers)


def _below(commit: Commit, prefix: str) -> list[tuple[str, StoredFile]]:
    return sorted((path, file) for path, file in commit.files.items() if path.startswith(prefix))


def _folders(commit: Commit, prefix: str) -> list[dict[str, Any]]:
    """Describe the folders below a prefix, sorted by path; git knows them by their files alone."""
    parents = set()
    for path in commit.files:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            parents.add("/".join(parts[:depth]))
    found: list[dict[str, Any]] = []
    for path in sorted(parents):
        if path.startswith(prefix):
            found.append({"type": "directory", "path": path, "oid": commit.oid, "size": 0})
    return found


def _entry(path: str, file: StoredFile) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "oid": file.git_oid,
        "size": file.size,
    }
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
    return entry
