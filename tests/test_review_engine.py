"""Compare the embedded search with a plain program.

Random filters, sorts and queries go over the real server's API. `make test-full` runs it.
"""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from coa.pages import markup

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]
NUM_RECORDS = 150
VOCABULARY = ["ada", "bay", "city", "dune", "elm", "straße", "été", "東京", "x1", "film"]
LABELS = ["keep", "fix", "drop"]
Record = dict[str, Any]


class Owner:
    """Whoever holds the owner's key."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def json(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, f"/api/v1{path}", **more)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


@pytest.fixture(scope="module")
def owner(running_review_server: Any) -> Iterator[Owner]:
    server = running_review_server
    headers = {"X-Argilla-Api-Key": (server.folder / "state/owner.key").read_text()}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
        yield Owner(http)


def make_data_set(owner: Owner, name: str) -> str:
    """A data set with two fields, two questions and two properties."""
    (workspace,) = owner.json("GET", "/me/workspaces")["items"]
    body = {"name": name, "workspace_id": workspace["id"], "allow_extra_metadata": False}
    made = str(owner.json("POST", "/datasets", json=body)["id"])
    for field in ("text", "other"):
        settings = {"type": "text", "use_markdown": True}
        owner.json(
            "POST",
            f"/datasets/{made}/fields",
            json={"name": field, "title": field, "settings": settings},
        )
    options = [{"value": label, "text": label} for label in LABELS]
    questions = {
        "verdict": {"type": "label_selection", "options": options},
        "rating": {"type": "rating", "options": [{"value": value} for value in range(1, 6)]},
    }
    for question, settings in questions.items():
        body = {
            "name": question,
            "title": question,
            "required": question == "verdict",
            "settings": settings,
        }
        owner.json("POST", f"/datasets/{made}/questions", json=body)
    for property_, settings in {"cause": {"type": "terms"}, "size": {"type": "integer"}}.items():
        body = {
            "name": property_,
            "title": property_,
            "settings": settings,
            "visible_for_annotators": True,
        }
        owner.json("POST", f"/datasets/{made}/metadata-properties", json=body)
    owner.json("PUT", f"/datasets/{made}/publish")
    return made


def some_text(dice: random.Random) -> str:
    words = dice.choices(VOCABULARY, k=dice.randrange(1, 9))
    return dice.choice([" ".join, ", ".join, "\n<b>".join])(words).title()


@pytest.fixture(scope="module")
def records(owner: Owner) -> list[Record]:
    """What the server holds, as its database lists it, with what the test has put in."""
    dice = random.Random(7)
    data_set = make_data_set(owner, "random")
    made = []
    for number in range(NUM_RECORDS):
        texts = {"text": some_text(dice), "other": some_text(dice)}
        metadata = (
            {"cause": dice.choice("abc"), "size": dice.randrange(20)} if dice.random() < 0.8 else {}
        )
        record: Record = {
            "external_id": f"r{number}",
            "fields": {name: markup.text_field(text) for name, text in texts.items()},
            "metadata": metadata,
        }
        made.append((record, texts))
    bodies = [record for record, _ in made]
    owner.json("POST", f"/datasets/{data_set}/records/bulk", json={"items": bodies})
    listed = owner.json("GET", f"/datasets/{data_set}/records", params={"limit": 1000})["items"]
    by_id = {it["external_id"]: it for it in listed}
    found = []
    for record, texts in made:
        there = by_id[record["external_id"]]
        response = None
        if dice.random() < 0.6:
            status, values = (
                dice.choice(["submitted", "draft"]),
                {"verdict": {"value": dice.choice(LABELS)}},
            )
            if dice.random() < 0.7:
                values["rating"] = {"value": dice.randrange(1, 6)}
            response = {"status": status, "values": values}
            owner.json("POST", f"/records/{there['id']}/responses", json=response)
        found.append(
            {**there, "texts": texts, "given": record, "response": response, "data_set": data_set}
        )
    return found


def search(owner: Owner, records: list[Record], **body: Any) -> tuple[list[str], int]:
    path = f"/me/datasets/{records[0]['data_set']}/records/search"
    found = owner.json("POST", path, params={"limit": 1000}, json=body)
    return [it["record"]["external_id"] for it in found["items"]], found["total"]


def tokens(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", text.lower())


def has_phrase(text: str, phrase: list[str], *, is_prefix: bool = False) -> bool:
    found, size = tokens(text), len(phrase)
    for start in range(len(found) - size + 1):
        *head, last = found[start : start + size]
        if head == phrase[:-1] and (
            last == phrase[-1] or (is_prefix and last.startswith(phrase[-1]))
        ):
            return True
    return False


Test = Callable[[Record], bool]


def some_query(dice: random.Random) -> tuple[str, str | None, Test]:
    """A query, the field that it is for, and the plain test that says the same."""
    field = dice.choice([None, "text", "other"])

    def within(record: Record, phrase: list[str], *, is_prefix: bool = False) -> bool:
        texts = record["texts"].values() if field is None else [record["texts"][field]]
        return any(has_phrase(text, phrase, is_prefix=is_prefix) for text in texts)

    first, second = dice.choices(VOCABULARY, k=2)
    one, two = tokens(first), tokens(second)
    shapes: list[tuple[str, Test]] = [
        (first.title(), lambda it: within(it, one)),
        (f"{first} {second}", lambda it: within(it, one) and within(it, two)),
        (f'"{first} {second}"', lambda it: within(it, one + two)),
        (f"{first[0]}*", lambda it: within(it, tokens(first[0]), is_prefix=True)),
    ]
    text, test = dice.choice(shapes)
    return text, field, test


def some_filter(dice: random.Random) -> tuple[dict[str, Any], Test]:
    """A filter in Argilla's words, and the plain test that says the same."""
    low, high = sorted(dice.choices(range(20), k=2))
    label, status = dice.choice(LABELS), dice.choice(["pending", "submitted", "draft"])

    def value_of(record: Record, question: str) -> Any:
        return ((record["response"] or {}).get("values", {}).get(question) or {}).get("value")

    def range_(scope: dict[str, str], ge: float, le: float) -> dict[str, Any]:
        return {"type": "range", "scope": scope, "ge": ge, "le": le}

    def terms(scope: dict[str, str], values: list[str]) -> dict[str, Any]:
        return {"type": "terms", "scope": scope, "values": values}

    size, cause = ({"entity": "metadata", "metadata_property": name} for name in ("size", "cause"))
    return dice.choice(
        [
            (
                range_(size, low, high),
                lambda it: low <= it["given"]["metadata"].get("size", -1) <= high,
            ),
            (
                terms(cause, ["a", "c"]),
                lambda it: it["given"]["metadata"].get("cause") in ("a", "c"),
            ),
            (
                terms({"entity": "response", "property": "status"}, [status]),
                lambda it: (it["response"] or {"status": "pending"})["status"] == status,
            ),
            (
                terms({"entity": "response", "question": "verdict"}, [label]),
                lambda it: value_of(it, "verdict") == label,
            ),
            (
                range_({"entity": "response", "question": "rating"}, 2, 4),
                lambda it: 2 <= (value_of(it, "rating") or 0) <= 4,
            ),
        ]
    )


def test_any_search_finds_what_a_plain_program_finds(owner: Owner, records: list[Record]) -> None:
    dice = random.Random(11)
    sizes = []
    for _ in range(150):
        body: dict[str, Any] = {}
        tests: list[Test] = []
        if dice.random() < 0.7:
            text, field, test = some_query(dice)
            body["query"] = {"text": {"q": text, **({"field": field} if field else {})}}
            tests.append(test)
        chosen = [some_filter(dice) for _ in range(dice.randrange(3))]
        if chosen:
            body["filters"] = {"type": "and", "and": [filter_ for filter_, _ in chosen]}
            tests += [test for _, test in chosen]
        expected = {it["external_id"] for it in records if all(test(it) for test in tests)}
        found, total = search(owner, records, **body)
        assert set(found) == expected, body
        assert (len(found), total) == (len(expected), len(expected)), body
        sizes.append(len(expected))
    assert (
        sum(0 < size < NUM_RECORDS for size in sizes) > 90
    )  # the dice asked questions that could be got wrong


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_sorting_follows_the_values_and_leaves_records_without_one_for_last(
    owner: Owner, records: list[Record], order: str
) -> None:
    def of_metadata(record: Record) -> Any:
        return record["given"]["metadata"].get("size")

    def of_response(record: Record) -> Any:
        return ((record["response"] or {}).get("values", {}).get("rating") or {}).get("value")

    scopes: list[tuple[dict[str, str], Callable[[Record], Any]]] = [
        ({"entity": "metadata", "metadata_property": "size"}, of_metadata),
        ({"entity": "response", "question": "rating"}, of_response),
    ]
    by_id = {it["external_id"]: it for it in records}
    for scope, value in scopes:
        found, _ = search(owner, records, sort=[{"scope": scope, "order": order}])
        values = [value(by_id[name]) for name in found]
        there = [it for it in values if it is not None]
        assert there == sorted(there, reverse=order == "desc")
        assert values == there + [None] * (len(values) - len(there))


def test_the_best_match_comes_first_and_pages_join_without_gap(
    owner: Owner, records: list[Record]
) -> None:
    body = {"query": {"text": {"q": "f*"}}}
    whole, total = search(owner, records, **body)
    path = f"/me/datasets/{records[0]['data_set']}/records/search"
    pages = [
        owner.json("POST", path, params={"limit": 7, "offset": offset}, json=body)
        for offset in range(0, total, 7)
    ]
    assert [it["record"]["external_id"] for page in pages for it in page["items"]] == whole
    scores = [it["query_score"] for page in pages for it in page["items"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "text",
    [
        '"',
        "(((",
        "a" * 5000,
        "AND OR NOT NEAR",
        "x:y ^2 {a} [b] \\",
        "%_*'; DROP TABLE records; --",
        "-",
        "*",
    ],
)
def test_no_search_text_is_an_error(owner: Owner, records: list[Record], text: str) -> None:
    found, total = search(owner, records, query={"text": {"q": text}})
    assert len(found) == total <= len(records)


def test_a_changed_record_is_found_by_its_new_words_alone_and_a_deleted_one_by_none(
    owner: Owner,
) -> None:
    data_set = make_data_set(owner, "changing")
    here = [{"data_set": data_set}]

    def found(word: str) -> list[str]:
        return search(owner, here, query={"text": {"q": word}})[0]

    def put(text: str) -> None:
        item = {
            "external_id": "r",
            "fields": {"text": markup.text_field(text), "other": "plain < text"},
        }
        owner.json("PUT", f"/datasets/{data_set}/records/bulk", json={"items": [item]})

    put("old words")
    assert found("old") == found("text") == ["r"]
    put("new words")
    assert (found("old"), found("new")) == ([], ["r"])
    assert found("div") == found("style") == []
    (record,) = owner.json("GET", f"/datasets/{data_set}/records")["items"]
    owner.json("DELETE", f"/datasets/{data_set}/records", params={"ids": record["id"]})
    assert found("new") == []
