"""The Hub as publishing needs it: what is there, one commit, one tag; its refusals become errors for people.

The address is `HF_ENDPOINT`'s or the Hub's own; the token is `HF_TOKEN`'s or that of `hf auth login`, and no message
ever holds it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from coa.errors import OutputError, ServiceError
from data_cards.publishing.publication import Change, Content, Published

_LOGIN = "hf auth login, or set HF_TOKEN to a token that may write"
_UNCHANGED = "nothing on the Hub has changed"


class Remote(NamedTuple):
    """A repository as it is."""

    head: str
    """The newest commit."""
    files: dict[str, Published]
    tags: dict[str, str]
    """Name to commit."""


class HubRepository:
    """One repository on the Hub."""

    def __init__(self, kind: str, name: str) -> None:
        """`kind` is `dataset` or `model`, `name` `owner/name`."""
        self._api = HfApi(library_name="coa-toolkit")
        self._kind, self._name = kind, name

    @property
    def url(self) -> str:
        """Where people look at it."""
        return f"{self._api.endpoint}/{'datasets/' if self._kind == 'dataset' else ''}{self._name}"

    def look(self, revision: str | None = None) -> Remote | None:
        """What is there; None where there is no such repository, or none that the token may see.

        Args:
            revision: A commit; None: the newest.

        Raises:
            ServiceError: the Hub cannot be reached or refuses the token.
        """
        with self._explained():
            try:
                info = self._api.repo_info(self._name, revision=revision, repo_type=self._kind)
            except RepositoryNotFoundError:
                return None
            head = info.sha or ""
            tree = self._api.list_repo_tree(
                self._name, recursive=True, revision=head, repo_type=self._kind
            )
            refs = self._api.list_repo_refs(self._name, repo_type=self._kind)
            files = {it.path: _published(it) for it in tree if isinstance(it, RepoFile)}
        return Remote(head, files, {tag.name: tag.target_commit for tag in refs.tags})

    def create(self, *, private: bool) -> None:
        """Make the repository, where it is not there yet.

        Raises:
            ServiceError: the Hub cannot be reached, refuses the token, or gives no right to that name.
        """
        with self._explained():
            self._api.create_repo(self._name, repo_type=self._kind, private=private, exist_ok=True)

    def commit(
        self, changed: Sequence[Change], files: Mapping[str, Content], *, parent: str, title: str
    ) -> str:
        """Make all changes in one commit on `parent`; returns its id.

        Raises:
            ServiceError: the upload broke off, or somebody else published meanwhile: nothing has changed.
        """
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        for change in changed:
            if change.mark == "-":
                operations.append(CommitOperationDelete(change.path))
            else:
                operations.append(CommitOperationAdd(change.path, _source(files[change.path])))
        with self._explained():
            made = self._api.create_commit(
                self._name,
                operations,
                commit_message=title,
                repo_type=self._kind,
                parent_commit=parent,
            )
        return made.oid

    def tag(self, name: str, revision: str) -> None:
        """Name a commit.

        Raises:
            ServiceError: the Hub cannot be reached or refuses.
        """
        with self._explained():
            self._api.create_tag(self._name, tag=name, revision=revision, repo_type=self._kind)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from httpx2 import HTTPError

        try:
            yield
        except OfflineModeIsEnabled as error:
            raise ServiceError(
                "the Hub is not asked: offline mode is on", fix="unset HF_HUB_OFFLINE"
            ) from error
        except LocalTokenNotFoundError as error:
            raise ServiceError(
                "there is no token for the Hub", where=self.url, fix=_LOGIN
            ) from error
        except HfHubHTTPError as error:
            raise self._refusal(error) from error
        except HTTPError as error:
            raise ServiceError(
                "the Hub cannot be reached",
                where=self._api.endpoint,
                got=type(error).__name__,
                fix=f"check HF_ENDPOINT and the network, then run the same command again; {_UNCHANGED}",
            ) from error
        except (RuntimeError, ValueError) as error:
            # The client wraps what happens to a large file, and the Hub's verdict on a card, in these.
            if isinstance(error.__cause__, HfHubHTTPError):
                raise self._refusal(error.__cause__) from error
            raise OutputError(
                "the upload broke off", where=self.url, got=error, fix="run it again"
            ) from error

    def _refusal(self, error: HfHubHTTPError) -> ServiceError:
        status, said = error.response.status_code, error.server_message or str(error).split("\n")[0]
        if status == 401:
            return ServiceError("the Hub refuses the token", where=self.url, got=said, fix=_LOGIN)
        if status == 403:
            fix = "publish under a name of your own, or use a token that may write there"
            return ServiceError(
                f"no right to write to {self._name}", where=self.url, got=said, fix=fix
            )
        if status == 412:
            fix = "run the same command again: it looks at what is there now"
            return ServiceError(
                "somebody else published meanwhile", where=self.url, got=said, fix=fix
            )
        fix = f"run the same command again: {_UNCHANGED}, and large files that arrived are not sent twice"
        return ServiceError(
            "the Hub failed or refused", where=self.url, got=f"{status} {said}", fix=fix
        )


def _published(file: RepoFile) -> Published:
    if file.lfs:
        return Published(file.size, file.lfs.sha256, is_large=True)
    return Published(file.size, file.blob_id, is_large=False)


def _source(content: Content) -> str | bytes:
    return str(content) if isinstance(content, Path) else content
