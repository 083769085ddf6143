"""What the local Hub answers to those who look: who they are, what a repository holds, and the files themselves."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from data_cards.hub_server.store import MAIN, Commit, Kind, Repository, Store, StoredFile

Endpoint = Callable[[Request], Awaitable[Response]]


class HubError(Exception):
    """A refusal, as the Hub words it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def answered(call: Endpoint) -> Endpoint:
    """An endpoint whose refusals become the Hub's replies."""

    @wraps(call)
    async def answer(request: Request) -> Response:
        try:
            return await call(request)
        except HubError as error:
            headers = {"X-Error-Message": _header(error.message)}
            if error.code:
                headers["X-Error-Code"] = error.code
            return JSONResponse({"error": _header(error.message)}, error.status, headers)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    return answer


def _header(message: str) -> str:
    """Keep what may stand in a header."""
    return "".join(sign if " " <= sign <= "~" else "?" for sign in message[:500])


@dataclass(frozen=True, slots=True)
class Access:
    """One account with one token, and what it may do."""

    store: Store
    owner: str
    token: str

    def user(self, request: Request) -> str:
        """The account of a request; empty where it names none.

        Raises:
            HubError: the token is not the owner's.
        """
        given = request.headers.get("authorization", "")
        wanted = f"Bearer {self.token}"
        if given and not hmac.compare_digest(given.encode(), wanted.encode()):
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.owner if given else ""

    def repository(self, request: Request, *, writes: bool = False) -> Repository:
        """The repository of a request.

        Raises:
            HubError: there is none, or the account may not see it or write to it.
        """
        user, owner = self.user(request), request.path_params["owner"]
        is_data_set = request.url.path.startswith(("/datasets/", "/api/datasets/"))
        kind: Kind = "dataset" if is_data_set else "model"
        found = self.store.find(kind, f"{owner}/{request.path_params['name']}")
        if found is None or (found.private and user != owner):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if writes and user != owner:
            raise HubError(403, f"Forbidden: no right to write to {found.name}")
        return found

    def commit(self, request: Request) -> tuple[Repository, Commit]:
        """The repository of a request and the commit that its revision names.

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
        """Who the token belongs to."""
        user = self._access.user(request)
        if not user:
            raise HubError(401, "Invalid username or password.")
        return JSONResponse({"type": "user", "name": user, "orgs": []})

    async def info(self, request: Request) -> Response:
        """A repository with its files."""
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
        """The branch and the tags."""
        repository = self._access.repository(request)
        branch = {"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": repository.head.oid}
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid}
            for name, oid in repository.tags.items()
        ]
        return JSONResponse({"branches": [branch], "tags": tags, "converts": []})

    async def commits(self, request: Request) -> Response:
        """The history up to a revision, the newest first."""
        repository, newest = self._access.commit(request)
        history = repository.commits[: repository.commits.index(newest) + 1]
        authors = [{"user": self._access.owner}]
        found = [
            {"id": it.oid, "title": it.title, "message": "", "date": it.date, "authors": authors}
            for it in reversed(history)
        ]
        return JSONResponse(found)

    async def tree(self, request: Request) -> Response:
        """Files and folders below a path."""
        _, commit = self._access.commit(request)
        folder = request.path_params.get("path", "").strip("/")
        prefix = f"{folder}/" if folder else ""
        is_recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        found = [*_folders(commit, prefix), *(_entry(*item) for item in _below(commit, prefix))]
        if folder and not found:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound")
        depth = prefix.count("/")
        return JSONResponse([it for it in found if is_recursive or it["path"].count("/") == depth])

    async def paths_info(self, request: Request) -> Response:
        """What lies at each of some paths; those where nothing lies are left out."""
        _, commit = self._access.commit(request)
        body = (await request.body()).decode("utf-8", "replace")
        asked = parse_qs(body).get("paths", [])
        paths = [path.strip("/") for path in asked]
        folders = {it["path"]: it for it in _folders(commit, "")}
        entries = (
            _entry(path, commit.files[path]) if path in commit.files else folders.get(path)
            for path in paths
        )
        return JSONResponse([entry for entry in entries if entry])

    async def resolve(self, request: Request) -> Response:
        """A file's contents, whole or in part."""
        _, commit = self._access.commit(request)
        file = commit.files.get(request.path_params["path"])
        if file is None or not self._access.store.content_path(file.sha256).is_file():
            raise HubError(404, "Entry not found", "EntryNotFound")
        etag = file.sha256 if file.is_lfs else file.git_oid
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"'}
        headers["X-Linked-Size"] = str(file.size)
        return FileResponse(self._access.store.content_path(file.sha256), headers=headers)


def _below(commit: Commit, prefix: str) -> list[tuple[str, StoredFile]]:
    return sorted((path, file) for path, file in commit.files.items() if path.startswith(prefix))


def _folders(commit: Commit, prefix: str) -> list[dict[str, Any]]:
    parents = {
        "/".join(path.split("/")[:n])
        for path in commit.files
        for n in range(1, path.count("/") + 1)
    }
    inside = sorted(path for path in parents if path.startswith(prefix))
    return [{"type": "directory", "path": path, "oid": commit.oid, "size": 0} for path in inside]


def _entry(path: str, file: StoredFile) -> dict[str, Any]:
    pointer = (
        {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 130}} if file.is_lfs else {}
    )
    return {"type": "file", "path": path, "oid": file.git_oid, "size": file.size, **pointer}
