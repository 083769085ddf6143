"""Test the scripted teacher of the microworld on the real search engine."""

import re
from dataclasses import replace

import pytest

from coa.errors import InputError
from coa.microworld.phrases import read_back
from coa.microworld.plans import make_plan
from coa.microworld.questions import make_questions
from coa.microworld.relations import RELATIONS
from coa.microworld.teacher import Teacher
from coa.microworld.world import Group, WorldSettings, make_world
from coa.policy.teacher.sentences import SEARCH_CLOSE, SEARCH_OPEN, PhraseKind
from coa.policy.teacher.settings import TeacherDecision, TeacherEvent
from coa.records import protocol
from coa.records.plain_words import words
from tests.microworld_teacher_support import (
    PERFECT,
    Rollout,
    Setting,
    go_on,
    open_searcher,
    prompt_of,
    request_for,
    roll_out_all,
    share_of,
)

SENTENCE_END = re.compile(r"(?<=\.)(?=\s)")


@pytest.fixture(scope="module")
def setting() -> Setting:
    world = make_world(WorldSettings())
    questions = make_questions(world, Group.TRAIN, 22_000, seed=1)[:1_200]
    return Setting(
        world,
        questions,
        [make_plan(world, q.question, q.question_id) for q in questions],
        open_searcher(world),
    )


@pytest.fixture(scope="module")
def events() -> list[TeacherEvent]:
    return []


@pytest.fixture(scope="module")
def coa(setting: Setting, events: list[TeacherEvent]) -> list[Rollout]:
    teacher = Teacher(setting.world, setting.plans, on_event=events.append)
    return list(roll_out_all(setting, teacher, is_offered=True))


@pytest.fixture(scope="module")
def cot(setting: Setting) -> list[Rollout]:
    return list(roll_out_all(setting, Teacher(setting.world), is_offered=False))


def test_with_search_it_is_right_on_about_three_questions_in_four(coa: list[Rollout]) -> None:
    assert 0.70 < share_of([rollout.is_right for rollout in coa]) < 0.82


def test_without_search_it_is_right_on_about_three_in_ten(cot: list[Rollout]) -> None:
    assert 0.25 < share_of([rollout.is_right for rollout in cot]) < 0.36


def test_a_call_can_be_replayed_and_another_seed_writes_something_else(setting: Setting) -> None:
    contexts = [
        prompt_of(question.question, is_offered=True) for question in setting.questions[:50]
    ]
    first, again = Teacher(setting.world, setting.plans), Teacher(setting.world)
    assert [first.write(request_for(c)) for c in contexts] == [
        again.write(request_for(c)) for c in contexts
    ]
    assert [first.write(request_for(c)) for c in contexts] != [
        again.write(request_for(c, seed=1)) for c in contexts
    ]


def test_it_goes_on_from_any_sentence_to_an_answer(setting: Setting, coa: list[Rollout]) -> None:
    teacher = Teacher(setting.world, settings=PERFECT)
    for rollout in coa[:80]:
        thought = rollout.response.split(protocol.THINK_CLOSE)[0]
        observed = [
            m.span() for m in re.finditer("<search_result>.*?</search_result>", thought, re.DOTALL)
        ]
        for cut in (m.start() for m in SENTENCE_END.finditer(thought)):
            if any(start < cut < end for start, end in observed):
                continue
            whole = go_on(teacher, rollout.prompt + thought[:cut], setting.search, seed=cut)
            response = whole[len(rollout.prompt) :]
            assert response.startswith(thought[:cut] + " ") or response[cut:].startswith(
                f"\n{protocol.THINK_CLOSE}"
            )
            assert re.search(r"</think>\n\n\\boxed\{[\w ]+\}$", response)
            needs = [u.text for u in read_back(response) if u.said is PhraseKind.NEED]
            assert len(needs) == len(rollout.plan.facts)


@pytest.mark.parametrize(
    "said", ["", "I need the {r} of {e}.", "I need the {r} of {e}. I recall {v}."]
)
def test_after_a_trigger_it_writes_a_query_for_the_hop_in_question(
    setting: Setting, said: str
) -> None:
    teacher = Teacher(setting.world, settings=PERFECT)
    for plan in setting.plans[:40]:
        first = plan.facts[0]
        thought = said.format(r=first.relation, e=first.entity, v=first.value)
        context = f"{prompt_of(plan.question, is_offered=False)}{thought} {SEARCH_OPEN}"
        written = teacher.write(request_for(context))
        assert written.startswith(f" {first.entity} ")
        assert written.count("<") == 1
        assert written.endswith(f" {SEARCH_CLOSE}")


def test_after_the_marker_it_writes_nothing_but_the_answer(
    setting: Setting, coa: list[Rollout]
) -> None:
    teacher = Teacher(setting.world)
    for rollout in coa[:60]:
        before = rollout.response.split(protocol.THINK_CLOSE)[0]
        for end in (0, before.find(".") + 1, len(before.rstrip())):
            context = rollout.prompt + before[:end] + protocol.ANSWER_MARKER
            assert re.fullmatch(r"[\w ]+\}", teacher.write(request_for(context)))


def test_a_perfect_teacher_answers_everything_and_makes_no_mistake(setting: Setting) -> None:
    events: list[TeacherEvent] = []
    teacher = Teacher(setting.world, setting.plans, PERFECT, events.append)
    rollouts = list(roll_out_all(setting, teacher, is_offered=True, count=200))
    assert share_of([rollout.is_right for rollout in rollouts]) > 0.98
    mistakes = {
        TeacherDecision.EVIDENCE_IGNORED,
        TeacherDecision.DISTRACTOR_FOLLOWED,
        TeacherDecision.BAD_QUERY,
        TeacherDecision.REPEATED_SEARCH,
        TeacherDecision.COPIED_OBSERVATION,
        TeacherDecision.REASONING_SLIP,
        TeacherDecision.FORMAT,
    }
    assert not {event.what for event in events} & mistakes


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        ({"bad_query": 1.0}, TeacherDecision.BAD_QUERY),
        ({"evidence_ignored": 1.0}, TeacherDecision.EVIDENCE_IGNORED),
        ({"copied_observation": 1.0}, TeacherDecision.COPIED_OBSERVATION),
        ({"format": 1.0}, TeacherDecision.FORMAT),
        ({"reasoning_slip": 1.0}, TeacherDecision.REASONING_SLIP),
        ({"needless_search": 1.0}, TeacherDecision.NEEDLESS_SEARCH),
        ({"remembers_known": 0.0, "never_searched": 1.0}, TeacherDecision.GUESSED),
        (
            {"remembers_known": 0.0, "never_searched": 1.0, "false_recall": 1.0},
            TeacherDecision.FALSE_RECALL,
        ),
        ({"remembers_other": 1.0}, TeacherDecision.RECALLED),
    ],
)
def test_each_setting_brings_about_its_own_decision(
    setting: Setting, change: dict[str, float], decision: TeacherDecision
) -> None:
    events: list[TeacherEvent] = []
    teacher = Teacher(setting.world, setting.plans, replace(PERFECT, **change), events.append)  # type: ignore[arg-type]
    rollouts = list(roll_out_all(setting, teacher, is_offered=True, count=40))
    assert any(event.what is decision for event in events)
    is_broken = decision is TeacherDecision.FORMAT
    assert all(("\\boxed" in r.response) is not is_broken for r in rollouts)
    unclosed = [protocol.THINK_CLOSE not in r.response for r in rollouts]
    assert any(unclosed) is is_broken and not all(unclosed)


def test_events_tell_the_truth_about_the_texts(
    coa: list[Rollout], events: list[TeacherEvent]
) -> None:
    by_question: dict[str, list[TeacherDecision]] = {}
    for event in events:
        by_question.setdefault(event.question_id, []).append(event.what)
    for rollout in coa:
        what = by_question[rollout.question.question_id]
        assert what.count(TeacherDecision.SEARCHED) == rollout.num_actions
        assert what.count(TeacherDecision.RECALLED) == rollout.response.count("I recall ")
        assert what.count(TeacherDecision.GUESSED) == rollout.response.count("Maybe ")
        assert what.count(TeacherDecision.NOT_FOUND) == rollout.response.count("Not found.")
        read = (
            what.count(TeacherDecision.READ)
            + what.count(TeacherDecision.EVIDENCE_IGNORED)
            + what.count(TeacherDecision.DISTRACTOR_FOLLOWED)
        )
        assert read == rollout.response.count("It says ")
        assert (TeacherDecision.FORMAT in what) is ("\\boxed" not in rollout.response)


def test_a_query_holds_no_name_that_neither_the_question_nor_a_result_has_shown(
    coa: list[Rollout],
) -> None:
    language = {word for each in RELATIONS.values() for word in (each.name, each.verb)}
    num_queries = 0
    for rollout in coa:
        shown = set(words(rollout.question.question)) | language
        for utterance in read_back(rollout.response):
            if utterance.said is PhraseKind.OBSERVATION:
                shown |= set(words(utterance.text))
            elif utterance.said is PhraseKind.SEARCH:
                num_queries += 1
                assert set(words(utterance.text)) <= shown
    assert num_queries > len(coa)


@pytest.mark.parametrize(
    "context", ["Question: Who is it?\n<think>\n", "no question", "Question: Name it.\n"]
)
def test_a_context_without_a_question_of_its_world_is_an_error(
    setting: Setting, context: str
) -> None:
    with pytest.raises(InputError):
        Teacher(setting.world).write(request_for(context))


def test_it_never_acts_when_the_tool_is_not_offered(cot: list[Rollout]) -> None:
    assert not any(rollout.num_actions for rollout in cot)


def test_it_gives_up_after_so_many_searches_for_one_fact(setting: Setting) -> None:
    events: list[TeacherEvent] = []
    settings = replace(PERFECT, remembers_known=0.0, max_searches=3)
    teacher = Teacher(setting.world, setting.plans, settings, events.append)
    plan = next(p for p in setting.plans if len(p.facts) == 1)
    context = go_on(teacher, prompt_of(plan.question, is_offered=True), lambda query: [], seed=0)
    assert context.count("Not found.") == 3
    assert [event.what for event in events if event.what is TeacherDecision.GAVE_UP] == [
        TeacherDecision.GAVE_UP
    ]
    assert "Maybe " in context


def test_what_it_remembers_is_fixed_and_mostly_the_known_facts(setting: Setting) -> None:
    teacher = Teacher(setting.world)
    known = [
        key in teacher.memory
        for key, fact in setting.world.facts.items()
        if setting.world.is_known(fact)
    ]
    other = [
        key in teacher.memory
        for key, fact in setting.world.facts.items()
        if not setting.world.is_known(fact)
    ]
    assert teacher.memory == Teacher(setting.world).memory
    assert 0.88 < share_of(known) < 0.96
    assert 0.02 < share_of(other) < 0.06
