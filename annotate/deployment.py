"""Talk to an Argilla deployment, ours or a team's: a workspace with a data set for each kind.

Address and key come from the environment: `ARGILLA_API_URL`, `ARGILLA_API_KEY`, and
`ARGILLA_HEADERS`, more headers as JSON (a private Space of the Hugging Face Hub wants
`{"Authorization": "Bearer hf_..."}`). Without an address in the environment it is the server of
`coa review serve` on this machine.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from annotate.layouts import LAYOUTS, Form, Layout
from annotate.settings import AnnotateParams
from annotate.state import State
from coa.errors import ConfigError, MissingExtraError, ServiceError
from coa.store.reviews import LAYOUT_VERSION, ReviewKind

if TYPE_CHECKING:
    import argilla

    from annotate.items import Item

URL = "ARGILLA_API_URL"
KEY = "ARGILLA_API_KEY"
HEADERS = "ARGILLA_HEADERS"
ROUNDS = (1, 2)
_TIMEOUT_SECONDS = 120
_RECORDS_AT_ONCE = 100
"""A request then holds some megabytes of HTML."""
_PLURAL = {
    ReviewKind.TRAJECTORY: "trajectories",
    ReviewKind.PAIR: "pairs",
    ReviewKind.DISPUTE: "disputes",
}
_HIDDEN = (
    ("reason", "terms"),
    ("mode", "terms"),
    ("cause", "terms"),
    ("grade", "terms"),
    ("kind", "terms"),
    ("searches", "integer"),
    ("steps_before", "integer"),
    ("f1", "float"),
)
"""Metadata for an owner's filters; a reviewer who saw it would know what the program thinks."""


class Access(NamedTuple):
    """The address, the key and the headers by which a deployment is reached."""

    url: str
    key: str
    headers: Mapping[str, str]


def access(annotate: AnnotateParams) -> Access:
    """Read address, key and headers from the environment, or take the server on this machine.

    Raises:
        ConfigError: there is neither, or one of them is of no use.
    """
    url = os.environ.get(URL, "")
    key = os.environ.get(KEY, "")
    if not url:
        state = State(Path(annotate.serve.state))
        url = state.address()
        if not url:
            fix = f"coa review serve, or set {URL} and {KEY} to a deployment's"
            raise ConfigError("there is no Argilla to talk to", where=state.folder, fix=fix)
        key = state.owner_key()
    if not key:
        raise ConfigError(
            "there is no key for Argilla", where=url, expected=f"{KEY} in the environment"
        )
    try:
        headers = json.loads(os.environ.get(HEADERS, "{}"))
    except ValueError:
        headers = None
    is_object = isinstance(headers, dict)
    if not is_object or not all(isinstance(value, str) for value in headers.values()):
        # What was got is not shown: it may hold a secret.
        raise ConfigError(
            f"{HEADERS} is not a JSON object of texts",
            where="the environment",
            expected='{"Authorization": "Bearer ..."}',
        )
    return Access(url, key, headers)


def data_set_name(prefix: str, kind: ReviewKind, round_: int, layout: int = LAYOUT_VERSION) -> str:
    """Name a data set; pull asks by this name and so knows kind, round and layout."""
    name = f"{prefix}-{_PLURAL[kind]}"
    if layout > 1:
        name += f"-layout{layout}"
    if round_ > 1:
        name += f"-round{round_}"
    return name


class Deployment:
    """A workspace in which reviews are made; its connections are closed at the end of the block."""

    def __init__(self, annotate: AnnotateParams) -> None:
        """Connect.

        Raises:
            ConfigError: address or key are missing.
            MissingExtraError: Argilla's client is not installed.
            ServiceError: the deployment cannot be reached, refuses the key or lacks the workspace.
        """
        self._annotate = annotate
        url, key, headers = access(annotate)
        try:
            import argilla
            import httpx
        except ImportError:
            raise MissingExtraError("argilla", "review") from None
        try:
            self._client = argilla.Argilla(
                url, key, timeout=_TIMEOUT_SECONDS, headers=dict(headers)
            )
        except (argilla._exceptions.ArgillaError, httpx.HTTPError, ValueError) as error:
            fix = f"start it (coa review serve), or see to {URL}, {KEY} and {HEADERS}"
            raise ServiceError(
                "cannot talk to Argilla", where=url, got=_first_line(error), fix=fix
            ) from error
        self._workspace = self._client.workspaces(annotate.workspace)
        if self._workspace is None:
            fix = "make it in Argilla, or name another: annotate.workspace"
            raise ServiceError(
                f"Argilla has no workspace {annotate.workspace!r}", where=url, fix=fix
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.http_client.close()

    def request(self, method: str, path: str, **more: Any) -> Any:
        """Send a request, and return the JSON that the deployment answers.

        Raises:
            ServiceError: it refuses or does not answer.
        """
        import httpx

        try:
            answer = self._client.http_client.request(method, path, **more)
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPStatusError as error:
            raise _refused(method, path, error.response.text[:500]) from error
        except (httpx.HTTPError, ValueError) as error:
            raise _refused(method, path, _first_line(error)) from error

    def data_set(
        self, kind: ReviewKind, round_: int, layout: int = LAYOUT_VERSION
    ) -> "argilla.Dataset | None":
        """Return the data set of a kind and round; None where nothing was pushed."""
        import warnings

        name = data_set_name(self._annotate.prefix, kind, round_, layout)
        with warnings.catch_warnings():
            # The client warns of data sets that do not exist yet.
            warnings.simplefilter("ignore", UserWarning)
            return self._client.datasets(name, workspace=self._workspace)

    def open_data_set(self, kind: ReviewKind) -> "tuple[argilla.Dataset, bool]":
        """Return the data set of a kind for the round to be pushed, and make it if need be.

        Returns:
            The data set, and whether it was made.

        Raises:
            ConfigError: it is there with another number of reviewers for each item, or with the
                fields of an earlier version of this project.
        """
        import argilla

        push = self._annotate.push
        overlap = push.reviewers_per_item
        found = self.data_set(kind, push.round)
        if found is not None:
            had = found.distribution.min_submitted
            if had != overlap:
                raise ConfigError(
                    f"the data set {found.name!r} was made for other numbers of reviewers",
                    where="annotate.push.reviewers_per_item",
                    expected=had,
                    got=overlap,
                    fix="keep that number, or begin new data sets: annotate.prefix",
                )
            names = [field.name for field in found.settings.fields]
            wanted = [name for name, _ in LAYOUTS[kind].fields]
            if sorted(names) != sorted(wanted):
                raise ConfigError(
                    f"the data set {found.name!r} has the fields of an earlier version",
                    where="annotate.prefix",
                    expected=", ".join(wanted),
                    got=", ".join(names),
                    fix="pull its reviews, which stay, and begin new data sets: annotate.prefix",
                )
            return found, False
        name = data_set_name(self._annotate.prefix, kind, push.round)
        fields_and_questions = settings(LAYOUTS[kind], overlap)
        made = argilla.Dataset(name, self._workspace, fields_and_questions, self._client)
        return made.create(), True

    def remove_empty(self, data_set: "argilla.Dataset") -> None:
        """Delete a data set that this push made, if it has no record."""
        if not self._num_records(data_set):
            self.request("DELETE", f"/api/v1/datasets/{data_set.id}")

    def upsert(self, data_set: "argilla.Dataset", items: Iterable["Item"]) -> tuple[int, int]:
        """Add items, or bring those that are there up to date; responses stay.

        Returns:
            The number of items that were added, and of those brought up to date.
        """
        num_before = self._num_records(data_set)
        num_sent = 0
        remaining = iter(items)
        while batch := list(islice(remaining, _RECORDS_AT_ONCE)):
            records = []
            for item in batch:
                record = {"external_id": item.record_id, "fields": dict(item.fields)}
                records.append({**record, "metadata": dict(item.metadata)})
            path = f"/api/v1/datasets/{data_set.id}/records/bulk"
            self.request("PUT", path, json={"items": records})
            num_sent += len(batch)
        num_added = self._num_records(data_set) - num_before
        return num_added, num_sent - num_added

    def _num_records(self, data_set: "argilla.Dataset") -> int:
        return int(self.request("GET", f"/api/v1/datasets/{data_set.id}/progress")["total"])

    def records(self, data_set: "argilla.Dataset") -> Iterator[dict[str, Any]]:
        """Yield all records with their responses, as the deployment's database has them."""
        path = f"/api/v1/datasets/{data_set.id}/records"
        for page in count():
            asked = {
                "include": "responses",
                "limit": _RECORDS_AT_ONCE,
                "offset": page * _RECORDS_AT_ONCE,
            }
            items = self.request("GET", path, params=asked)["items"]
            yield from items
            if len(items) < _RECORDS_AT_ONCE:
                return

    def names(self) -> dict[str, str]:
        """Return the names of all accounts by their id."""
        users = self.request("GET", "/api/v1/users")["items"]
        return {user["id"]: user["username"] for user in users}


def _refused(method: str, path: str, said: str) -> ServiceError:
    return ServiceError("Argilla refuses a request", where=f"{method} {path}", got=said)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    return first[:300]


def settings(layout: Layout, reviewers_per_item: int) -> "argilla.Settings":
    """Translate a layout into the settings of an Argilla data set."""
    import argilla

    fields = [
        argilla.TextField(name, title=title, use_markdown=True) for name, title in layout.fields
    ]
    properties = {
        "terms": argilla.TermsMetadataProperty,
        "integer": argilla.IntegerMetadataProperty,
        "float": argilla.FloatMetadataProperty,
    }
    metadata = [properties[kind](name, visible_for_annotators=False) for name, kind in _HIDDEN]
    questions: list[Any] = []
    for question in layout.questions:
        shared: dict[str, Any] = {
            "name": question.name,
            "title": question.title,
            "required": question.is_required,
        }
        labels = {str(value): text for value, text in question.labels}
        if question.form is Form.LABEL:
            questions.append(argilla.LabelQuestion(labels=labels, **shared))
        elif question.form is Form.LABELS:
            questions.append(argilla.MultiLabelQuestion(labels=labels, **shared))
        elif question.form is Form.RATING:
            questions.append(argilla.RatingQuestion(values=[1, 2, 3, 4, 5], **shared))
        else:
            questions.append(argilla.TextQuestion(**shared))
    return argilla.Settings(
        guidelines=layout.guidelines,
        fields=fields,
        questions=questions,
        metadata=metadata,
        distribution=argilla.TaskDistribution(min_submitted=reviewers_per_item),
        allow_extra_metadata=False,
    )
