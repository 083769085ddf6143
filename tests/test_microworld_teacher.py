"""Test the scripted teacher of the microworld on the real search engine."""

import itertools
import random
import re
from dataclasses import replace

import pytest

from coa.errors import InputError
from coa.microworld.phrases import read_back
from coa.microworld.plans import PlanKind
from coa.microworld.questions import make_questions, plan_question
from coa.microworld.relations import RELATIONS, read_value
from coa.microworld.teacher import Teacher
from coa.microworld.vocabulary import vocabulary
from coa.microworld.world import Group, WorldSettings, make_world
from coa.policy.teacher.sentences import SEARCH_CLOSE, SEARCH_OPEN, PhraseKind, results
from coa.policy.teacher.settings import TeacherDecision, TeacherEvent
from coa.records import protocol
from coa.records.plain_words import words
from tests.microworld_teacher_support import (
    PERFECT,
    TOKEN,
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
        world, questions, [plan_question(world, q) for q in questions], open_searcher(world)
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


def test_a_proper_query_finds_the_passage_of_nearly_every_fact(setting: Setting) -> None:
    facts = list(setting.world.facts.values())[::7]
    queries = [f"{f.entity} {f.relation} {RELATIONS[f.relation].verb}" for f in facts]
    found = [
        any(
            read_value(text, fact.entity, fact.relation) == fact.value
            for text in setting.search(query)
        )
        for fact, query in zip(facts, queries, strict=True)
    ]
    assert share_of(found) > 0.95


def test_with_search_it_is_right_on_about_three_questions_in_four(coa: list[Rollout]) -> None:
    assert 0.70 < share_of([rollout.is_right for rollout in coa]) < 0.82


def test_without_search_it_is_right_on_about_three_in_ten(cot: list[Rollout]) -> None:
    assert 0.25 < share_of([rollout.is_right for rollout in cot]) < 0.36


def test_it_never_acts_when_the_tool_is_not_offered(cot: list[Rollout]) -> None:
    assert not any(rollout.num_actions for rollout in cot)


def test_its_trajectories_are_short_enough_for_a_small_student(coa: list[Rollout]) -> None:
    lengths = sorted(rollout.num_tokens for rollout in coa if rollout.num_actions)
    assert lengths[len(lengths) // 2] <= 110
    assert lengths[int(0.95 * len(lengths))] <= 175


def test_it_writes_no_word_outside_the_vocabulary(
    setting: Setting, coa: list[Rollout], cot: list[Rollout]
) -> None:
    written = {token for rollout in coa + cot for token in TOKEN.findall(rollout.response)}
    words = {token for token in written if not token.startswith("<") or token == "<"}
    assert words <= set(vocabulary(setting.world))


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


def test_it_hedges_exactly_when_it_does_not_remember(setting: Setting, cot: list[Rollout]) -> None:
    memory = Teacher(setting.world).memory
    said = [
        ((entity, relation) in memory, how)
        for rollout in cot
        for relation, entity, how in re.findall(
            r"I need the (\w+) of ([^.]+)\. (Maybe|I recall) ", rollout.response
        )
    ]
    assert len(said) > 1_200
    assert all(how == ("I recall" if is_remembered else "Maybe") for is_remembered, how in said)


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


def test_it_goes_on_in_the_same_way_with_and_without_a_blank_after_the_cut(
    setting: Setting,
) -> None:
    prompt = prompt_of(setting.questions[0].question, is_offered=True)
    need = setting.plans[0].facts[0]
    context = f"{prompt}I need the {need.relation} of {need.entity}."
    teacher = Teacher(setting.world, settings=PERFECT)
    assert teacher.write(request_for(context)).startswith(" ")
    assert not teacher.write(request_for(context + " ")).startswith(" ")


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


def test_what_a_triggered_search_finds_replaces_what_was_recalled(setting: Setting) -> None:
    teacher = Teacher(setting.world, settings=PERFECT)
    plan = next(p for p in setting.plans if len(p.facts) == 1)
    fact = plan.facts[0]
    wrong = setting.world.invent_value(RELATIONS[fact.relation].value, random.Random(0))
    thought = (
        f"I need the {fact.relation} of {fact.entity}. Maybe {wrong}. So the answer is {wrong}."
    )
    context = f"{prompt_of(plan.question, is_offered=False)}{thought} {SEARCH_OPEN}"
    assert go_on(teacher, context, setting.search, seed=0).endswith(f"\\boxed{{{plan.answer}}}")


def test_after_the_marker_it_writes_nothing_but_the_answer(
    setting: Setting, coa: list[Rollout]
) -> None:
    teacher = Teacher(setting.world)
    for rollout in coa[:60]:
        before = rollout.response.split(protocol.THINK_CLOSE)[0]
        for end in (0, before.find(".") + 1, len(before.rstrip())):
            context = rollout.prompt + before[:end] + protocol.ANSWER_MARKER
            assert re.fullmatch(r"[\w ]+\}", teacher.write(request_for(context)))


def test_a_forced_answer_uses_what_was_found_before(setting: Setting) -> None:
    plan = next(p for p in setting.plans if len(p.facts) == 1)
    fact = plan.facts[0]
    query = f"{fact.entity} {fact.relation} {RELATIONS[fact.relation].verb}"
    observation = protocol.observation_text("search", results(setting.search(query)))
    read = f"I need the {fact.relation} of {fact.entity}. It says {fact.value}."
    prompt = prompt_of(plan.question, is_offered=True)
    teacher = Teacher(setting.world, settings=PERFECT)
    assert teacher.write(request_for(prompt + read + protocol.ANSWER_MARKER)) == f"{plan.answer}}}"
    assert (
        teacher.write(request_for(prompt + observation + protocol.ANSWER_MARKER))
        == f"{plan.answer}}}"
    )


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


def test_it_repeats_a_query_only_where_it_is_set_to(setting: Setting) -> None:
    plan = next(p for p in setting.plans if len(p.facts) == 1)
    for repeats in (0.0, 1.0):
        settings = replace(PERFECT, remembers_known=0.0, repeated_search=repeats)
        teacher = Teacher(setting.world, settings=settings)
        context = go_on(
            teacher, prompt_of(plan.question, is_offered=True), lambda query: [], seed=0
        )
        queries = [
            u.text
            for u in read_back(context.partition(protocol.THINK_OPEN)[2])
            if u.said is PhraseKind.SEARCH
        ]
        same_as_before = [a == b for a, b in itertools.pairwise(queries)]
        assert same_as_before == [bool(repeats)] * 2


def test_slips_are_a_few_percent_in_all(coa: list[Rollout], events: list[TeacherEvent]) -> None:
    slips = {
        TeacherDecision.FORMAT,
        TeacherDecision.REASONING_SLIP,
        TeacherDecision.REPEATED_SEARCH,
        TeacherDecision.COPIED_OBSERVATION,
    }
    slipping = {event.question_id for event in events if event.what in slips}
    assert 0.04 < len(slipping) / len(coa) < 0.13


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


def test_a_search_about_a_guessed_name_asks_for_what_leads_to_the_name(setting: Setting) -> None:
    teacher = Teacher(setting.world, settings=PERFECT)
    chains = [plan for plan in setting.plans if plan.kind is PlanKind.CHAIN]
    for plan in [plan for plan in chains if len(plan.facts) == 2][:20]:
        first, second = plan.facts
        thought = (
            f"I need the {first.relation} of {first.entity}. Maybe Nobody Else. "
            f"I need the {second.relation} of Nobody Else."
        )
        context = f"{prompt_of(plan.question, is_offered=False)}{thought} {SEARCH_OPEN}"
        assert teacher.write(request_for(context)).startswith(f" {first.entity} ")


@pytest.mark.parametrize(
    "context", ["Question: Who is it?\n<think>\n", "no question", "Question: Name it.\n"]
)
def test_a_context_without_a_question_of_its_world_is_an_error(
    setting: Setting, context: str
) -> None:
    with pytest.raises(InputError):
        Teacher(setting.world).write(request_for(context))
