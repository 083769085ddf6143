"""Read what clients send to the Hub of the tests, and refuse everything of another form with a 4xx.

Names, paths, hashes and kinds are strict, because they become names of files: here, and wherever
somebody downloads them.
"""

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from starlette.requests import Request

from tests.hub.store import Sha256
from tests.hub.views import HubError

Body = TypeVar("Body")

_MAX_BODY_BYTES = 256 * 2**20
"""A commit holds all small files; large ones go by LFS."""
_MAX_PATH_CHARS = 1_000
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")

Size = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Title = Annotated[str, msgspec.Meta(max_length=2_000)]


class NewRepository(msgspec.Struct):
    """A repository that a client wants to create."""

    name: str
    type: Literal["model", "dataset"] | None = None
    organization: str | None = None
    visibility: str | None = None
    private: bool | None = None


class Card(msgspec.Struct):
    """A card to look at."""

    content: str


class AskedFile(msgspec.Struct):
    """A file that a client wants to send."""

    path: str


class AskedFiles(msgspec.Struct):
    """The files of a commit, before it is made."""

    files: list[AskedFile]


class AskedObject(msgspec.Struct):
    """The contents of a large file that a client wants to send."""

    oid: Sha256
    size: Size


class AskedObjects(msgspec.Struct):
    """The large files of a commit."""

    objects: list[AskedObject]


class NewTag(msgspec.Struct):
    """A tag to make."""

    tag: str


class Header(msgspec.Struct):
    """The title of a commit, and the commit that it follows."""

    summary: Title
    parent: str | None = msgspec.field(name="parentCommit", default=None)


class SmallFile(msgspec.Struct):
    """A file with its contents, which arrive in Base64."""

    path: str
    content: bytes


class LargeFile(msgspec.Struct):
    """A file whose contents were sent before."""

    path: str
    oid: Sha256
    size: Size


class Deleted(msgspec.Struct):
    """A file or folder to remove."""

    path: str


class HeaderLine(msgspec.Struct, tag_field="key", tag="header"):
    """The first line of a commit."""

    value: Header


class SmallFileLine(msgspec.Struct, tag_field="key", tag="file"):
    """A line that adds a small file."""

    value: SmallFile


class LargeFileLine(msgspec.Struct, tag_field="key", tag="lfsFile"):
    """A line that adds a large file."""

    value: LargeFile


class DeletedFileLine(msgspec.Struct, tag_field="key", tag="deletedFile"):
    """A line that removes a file."""

    value: Deleted


class DeletedFolderLine(msgspec.Struct, tag_field="key", tag="deletedFolder"):
    """A line that removes a folder."""

    value: Deleted


Line = HeaderLine | SmallFileLine | LargeFileLine | DeletedFileLine | DeletedFolderLine


async def read_json(request: Request, kind: type[Body]) -> Body:
    """Read a body of one JSON value.

    Raises:
        HubError: it is too large, or has another form.
    """
    return decode(await read_bytes(request), kind)


async def read_lines(request: Request) -> list[Line]:
    """Read a commit, a line for each thing that it does.

    Raises:
        HubError: it is too large, or a line has another form.
    """
    content = await read_bytes(request)
    found: list[Line] = []
    for line in content.splitlines():
        if line.strip():
            found.append(decode(line, Line))  # type: ignore[arg-type]
    return found


async def read_bytes(request: Request) -> bytes:
    """Read a body as it is.

    Raises:
        HubError: it is too large.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MAX_BODY_BYTES:
            raise HubError(413, "the body is too large")
    return bytes(content)


def decode(content: bytes, kind: type[Body]) -> Body:
    """Decode one JSON value.

    Raises:
        HubError: it has another form.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise HubError(400, f"malformed body: {error}") from error


def check_name(name: str) -> str:
    """Return a repository's name, if the Hub would take it.

    Raises:
        HubError: it is not `owner/name`, or holds something else than the Hub's characters.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise HubError(400, f"bad repository name: {error}") from error
    if name.count("/") != 1:
        raise HubError(400, "bad repository name: expected owner/name")
    return name


def check_path(path: str) -> str:
    """Return a file's path in a repository, if it stays inside wherever it is downloaded to.

    Raises:
        HubError: it is absolute, leads elsewhere, or holds control characters.
    """
    parts = path.split("/")
    is_inside = not {"", ".", "..", ".git"} & set(parts)
    if not is_inside or len(path) > _MAX_PATH_CHARS or _FORBIDDEN.search(path):
        raise HubError(400, f"bad path in the repository: {path[:100]!r}")
    return path


def check_tag(tag: str) -> str:
    """Return a tag's name.

    Raises:
        HubError: it cannot be part of an address, or is a branch's.
    """
    if not _TAG.fullmatch(tag) or ".." in tag or tag == "main":
        raise HubError(400, f"bad tag: {tag[:100]!r}")
    return tag
