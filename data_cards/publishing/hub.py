"""Talk to the Hugging Face Hub: look at a repository, make one commit, set one tag.

The Hub's refusals become errors for people. The address is that of `HF_ENDPOINT` or else the
Hub's own. The token is that of `HF_TOKEN` or of `hf auth login`; no message ever holds it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from coa.errors import OutputError, ServiceError
from data_cards.publishing.checked_copy import Content, Hashes

_LOGIN = "hf auth login, or set HF_TOKEN to a token that may write"
_UNCHANGED = "nothing on the Hub has changed"
_KIND = "dataset"


class Change(NamedTuple):
    """A file that differs from what is published."""

    path: str
    mark: str
    """`+` new, `~` other contents, `-` gone."""
    before: int
    """Bytes on the Hub; 0 where the file is new."""
    after: int
    """Bytes here; 0 where the file is gone."""

    def __str__(self) -> str:
        size = f"{self.after:,}" if self.mark == "+" else f"{self.before:,} -> {self.after:,}"
        return f"{self.mark} {self.path} ({size} bytes)"


_HUBS_OWN = frozenset({".gitattributes"})
"""Files that the Hub puts into every repository."""


def changes(files: Mapping[str, Hashes], published: Mapping[str, RepoFile]) -> list[Change]:
    """Return what a commit of files with these hashes would change, sorted by path."""
    found = []
    for path, hashes in files.items():
        there = published.get(path)
        if there is None:
            found.append(Change(path, "+", 0, hashes.size))
            continue
        # The Hub knows a large file by its SHA-256, and others by git's SHA-1.
        is_same = hashes.git_oid == there.blob_id
        if there.lfs:
            is_same = hashes.sha256 == there.lfs.sha256
        if not is_same:
            found.append(Change(path, "~", there.size, hashes.size))
    for path in published.keys() - files.keys() - _HUBS_OWN:
        found.append(Change(path, "-", published[path].size, 0))
    return sorted(found)


class Remote(NamedTuple):
    """A repository as it is on the Hub now."""

    head: str = ""
    """The newest commit."""
    files: Mapping[str, RepoFile] = {}
    tags: Mapping[str, str] = {}
    """The commit of each tag, by the tag's name."""


class HubRepository:
    """One repository on the Hub."""

    def __init__(self, name: str) -> None:
        """Name a repository, `owner/name`; nothing is asked yet."""
        self._api = HfApi(library_name="coa-toolkit")
        self._name = name
        self._done: list[str] = []
        """What this run has changed on the Hub, in words."""
        self._is_sending = False
        """Whether a change is asked for: an answer that fails may come after it was made."""

    @property
    def url(self) -> str:
        """Make the address at which people look at the repository."""
        return f"{self._api.endpoint}/datasets/{self._name}"

    def look(self, revision: str | None = None) -> Remote | None:
        """Return the repository's state.

        It is None where there is no such repository, or none that the token may see.
        """
        with self._explained():
            try:
                info = self._api.repo_info(self._name, revision=revision, repo_type=_KIND)
            except RepositoryNotFoundError:
                return None
            head = info.sha or ""
            tree = self._api.list_repo_tree(
                self._name, recursive=True, revision=head, repo_type=_KIND
            )
            refs = self._api.list_repo_refs(self._name, repo_type=_KIND)
            files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        return Remote(head, files, tags)

    def writable_owners(self) -> list[str] | None:
        """List the names under which the token may publish: its account's and organisations'.

        It is None where there is no token.
        """
        if not get_token():
            return None
        with self._explained():
            account = self._api.whoami()
        joined = account.get("orgs", [])
        writable = [one["name"] for one in joined if one.get("roleInOrg") != "read"]
        return [account["name"], *writable]

    def create(self, *, private: bool) -> None:
        """Create the repository, unless it exists."""
        with self._explained(is_change=True):
            self._api.create_repo(self._name, repo_type=_KIND, private=private, exist_ok=True)
        self._done.append("the repository is there")

    def commit(
        self, changed: Sequence[Change], files: Mapping[str, Content], *, parent: str, title: str
    ) -> str:
        """Make all changes in one commit on `parent`, and return its id."""
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        for change in changed:
            if change.mark == "-":
                operations.append(CommitOperationDelete(change.path))
            else:
                content = files[change.path]
                source = str(content) if isinstance(content, Path) else content
                operations.append(CommitOperationAdd(change.path, source))
        with self._explained(is_change=True):
            made = self._api.create_commit(
                self._name,
                operations,
                commit_message=title,
                repo_type=_KIND,
                parent_commit=parent,
            )
        self._done.append(f"the commit {made.oid} is there with all files, without a tag")
        return made.oid

    def tag(self, name: str, revision: str) -> None:
        """Give a commit a name."""
        with self._explained(is_change=True):
            self._api.create_tag(self._name, tag=name, revision=revision, repo_type=_KIND)

    def _state(self) -> str:
        """Say what is on the Hub when a step has failed."""
        found = ", ".join(self._done)
        if self._is_sending:
            unknown = "whether the last step was made is not known, and the next run looks"
            return f"{found}; {unknown}" if found else unknown
        return found or _UNCHANGED

    @contextmanager
    def _explained(self, *, is_change: bool = False) -> Iterator[None]:
        """Turn the errors of the Hub's client into errors for people."""
        self._is_sending = is_change
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
            fix = "check HF_ENDPOINT and the network, then run the same command again"
            raise ServiceError(
                "the Hub cannot be reached",
                where=self._api.endpoint,
                got=type(error).__name__,
                fix=f"{fix}: {self._state()}",
            ) from error
        except (RuntimeError, ValueError) as error:
            # The client wraps two things in these: what happens to a large file, and the Hub's
            # verdict on a card.
            if isinstance(error.__cause__, HfHubHTTPError):
                raise self._refusal(error.__cause__) from error
            fix = f"run the same command again: {self._state()}"
            raise OutputError("the upload broke off", where=self.url, got=error, fix=fix) from error

    def _refusal(self, error: HfHubHTTPError) -> ServiceError:
        """Say in words for people what the Hub refused."""
        status = error.response.status_code
        if status < 500:
            self._is_sending = False  # it was refused
        said = error.server_message or str(error).split("\n")[0]
        if status == 401:
            what = "the Hub refuses the token"
            fix = _LOGIN
        elif status == 403:
            what = f"no right to write to {self._name}"
            fix = "publish under a name of your own, or use a token that may write there"
        elif status == 412:
            what = "somebody else published meanwhile"
            fix = "run the same command again: it looks at what is there now"
        else:
            what = "the Hub failed or refused"
            said = f"{status} {said}"
            wait = error.response.headers.get("retry-after", "")
            when = f"wait {wait} s, then " if wait.isdecimal() else ""
            fix = (
                f"{when}run the same command again: {self._state()}; what arrived is not sent twice"
            )
        return ServiceError(what, where=self.url, got=said, fix=fix)
