"""Roll out the scripted teacher of the microworld on a real search engine."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import tantivy

from coa.microworld.plans import Plan
from coa.microworld.teacher import Teacher
from coa.microworld.world import World
from coa.policy import Request
from coa.policy.teacher.sentences import SEARCH_CLOSE, SEARCH_OPEN, results
from coa.policy.teacher.settings import TeacherSettings
from coa.records import protocol
from coa.records.question import Question

PERFECT = TeacherSettings(
    remembers_known=1.0,
    remembers_other=0.0,
    searches_remembered=0.0,
    searches_again=1.0,
    never_searched=0.0,
    bad_query=0.0,
    evidence_ignored=0.0,
    distractor_followed=0.0,
    reasoning_slip=0.0,
    repeated_search=0.0,
    copied_observation=0.0,
    format=0.0,
)
TOKEN = re.compile(r"</?\w+>|\w+|[^\w\s]")
Search = Callable[[str], list[str]]


@dataclass(frozen=True)
class Rollout:
    """One finished rollout of a test."""

    question: Question
    plan: Plan
    prompt: str
    response: str

    @property
    def num_actions(self) -> int:
        return self.response.count(SEARCH_OPEN)

    @property
    def is_right(self) -> bool:
        boxed = re.search(r"\\boxed\{(.*)\}", self.response)
        return boxed is not None and boxed[1] in self.question.gold_answers

    @property
    def num_tokens(self) -> int:
        return len(TOKEN.findall(self.response))


class Setting(NamedTuple):
    """The world, its train questions and the search over its passages."""

    world: World
    questions: list[Question]
    plans: list[Plan]
    search: Search


def open_searcher(world: World) -> Search:
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("title")
    schema.add_text_field("text", stored=True)
    index = tantivy.Index(schema.build())
    writer = index.writer(heap_size=15_000_000, num_threads=1)
    for passage in world.passages():
        writer.add_document(tantivy.Document(title=passage.title, text=passage.text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(query: str) -> list[str]:
        hits = searcher.search(index.parse_query(query, ["title", "text"]), 2).hits
        return [searcher.doc(address)["text"][0] for _, address in hits]

    return search


def prompt_of(question: str, *, is_offered: bool) -> str:
    offer = f"Search like this: {SEARCH_OPEN} query {SEARCH_CLOSE}.\n" if is_offered else ""
    return f"Answer the question.\n{offer}\nQuestion: {question}\n\n{protocol.THINK_OPEN}\n"


def request_for(context: str, seed: int = 0) -> Request:
    return Request(context, (SEARCH_CLOSE,), 1_000, 0.6, 1.0, seed)


def go_on(teacher: Teacher, context: str, search: Search, seed: int) -> str:
    """Roll out from any context to the end."""
    turn = 0
    while True:
        context += teacher.write(request_for(context, seed * 100 + turn))
        if not context.endswith(SEARCH_CLOSE):
            return context
        query = context.rpartition(SEARCH_OPEN)[2].removesuffix(SEARCH_CLOSE).strip()
        context += protocol.observation_text("search", results(search(query)) or "No results.")
        turn += 1
        assert turn < 30


def roll_out_all(
    setting: Setting, teacher: Teacher, *, is_offered: bool, count: int = 1_200
) -> Iterator[Rollout]:
    for i, (question, plan) in enumerate(
        zip(setting.questions[:count], setting.plans, strict=False)
    ):
        prompt = prompt_of(question.question, is_offered=is_offered)
        context = go_on(teacher, prompt, setting.search, seed=i)
        yield Rollout(question, plan, prompt, context[len(prompt) :])


def share_of(claims: list[bool]) -> float:
    return sum(claims) / len(claims)
