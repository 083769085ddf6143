"""Two trajectories of one question are compared by steps, and part where the first of them differs.

The longest prefix decides which of several pairs a question gives.
"""

from dataclasses import replace
from typing import Any

from coa.records import protocol
from coa.records.comparisons import Parting
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind, arm_of
from coa.records.question import Question
from coa.records.trajectory import Author, Outcome, Sampling, Step, StepKind, StopReason
from curate.forks.parting import (
    longest_first,
    part,
    parting_point,
    to_comparison,
    to_preference_pair,
)
from tests.sample_records import make_graded

ASKED = Question("q", "Who leads Villa Pellin?", ("Felix Brandt",), "train")
RIGHT = "\n</think>\n\n\\boxed{Felix Brandt}"
WRONG = "\n</think>\n\n\\boxed{Jade Ransom}"
NOT_RECORDED = Sampling(temperature=-1.0, top_p=-1.0, seed=-1)


def steps_of(*parts: str) -> tuple[Step, ...]:
    """Make the steps of turns of a policy; every call is answered by the same passage."""
    steps: list[Step] = []
    for text in parts:
        steps += protocol.parse_policy(text)
        if steps[-1].kind is StepKind.ACTION:
            found = protocol.observation("search", "A passage.", Outcome.OK, ("p-1",))
            steps.append(found)
    return tuple(steps)


def call(query: str, tool: str = "search") -> str:
    return f"{protocol.open_tag(tool)} {query} {protocol.close_tag(tool)}"


def row(name: str, *parts: str, **changes: Any) -> GradedTrajectory:
    return make_graded(ASKED, steps_of(*parts), trajectory_id=f"q/coa/{name}", **changes)


def test_whole_steps_are_shared_up_to_the_first_that_differs() -> None:
    one = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    other = row("1", "I need it. " + call("leader"), "Perhaps she." + WRONG)
    pair = part(one.trajectory, other.trajectory)
    assert protocol.render(pair.prefix) == protocol.render(one.trajectory.steps[:3])
    assert pair.parting is Parting.BOTH_THINK


def test_a_thought_is_shared_up_to_the_last_sentence_that_ends_in_both() -> None:
    one = steps_of("It is a town. It has a mayor. She is Ada." + RIGHT)
    other = steps_of("It is a town. It has a mayor. She is Bea." + WRONG)
    point = parting_point(one, other)
    assert protocol.render(one)[:point] == "It is a town. It has a mayor."


def test_a_number_with_a_point_is_not_taken_for_the_end_of_a_sentence() -> None:
    one = steps_of("It is near. It is 3. " + call("leader"), RIGHT)
    other = steps_of("It is near. It is 3.5 miles." + WRONG)
    assert protocol.render(one)[: parting_point(one, other)] == "It is near."


def test_one_that_acts_where_the_other_thinks_on_makes_a_pair_of_the_papers_kinds() -> None:
    acts = row("0", "I need the leader. " + call("leader"), "It says so." + RIGHT)
    thinks = row("1", "I need the leader. I recall her." + WRONG)
    (pair,) = longest_first([acts, thinks])
    assert pair.is_decision
    made = to_preference_pair(pair, [acts, thinks])
    assert made.kind is PairKind.ACT_IS_BETTER
    assert protocol.render(made.prefix) == "I need the leader."
    assert protocol.render(made.chosen).startswith(" <begin_search> leader")
    assert protocol.render(made.rejected).startswith(" I recall her.")
    assert (made.chosen_id, made.rejected_id) == ("q/coa/0", "q/coa/1")


def test_thinking_is_better_where_the_one_that_thinks_on_is_right() -> None:
    acts = row("0", "I need the leader. " + call("leader"), "It says so." + WRONG)
    thinks = row("1", "I need the leader. I recall her." + RIGHT, prompt="no tool")
    (pair,) = longest_first([acts, thinks])
    made = to_preference_pair(pair, [acts, thinks])
    assert made.kind is PairKind.THINK_IS_BETTER
    assert made.prompt == acts.trajectory.prompt
    assert pair.right is thinks.trajectory


def test_a_pair_at_the_end_of_a_whole_thought_leaves_the_blank_to_both_sides() -> None:
    acts = row("0", "I need the leader. " + call("leader"), "It says so." + RIGHT)
    answers = row("1", "I need the leader. " + WRONG.lstrip("\n"))
    (pair,) = longest_first([acts, answers])
    assert pair.parting is Parting.ONE_ACTS
    assert pair.prefix[-1].text == "I need the leader."


def test_the_pair_names_the_tool_that_is_called_at_the_point() -> None:
    acts = row("0", "How old is she? " + call("2 + 2", "calculate"), "Four." + RIGHT)
    thinks = row("1", "How old is she? Five." + WRONG)
    (pair,) = longest_first([acts, thinks])
    assert to_preference_pair(pair, [acts, thinks]).tool == "calculate"


def test_a_pair_counts_every_sound_trajectory_with_its_prefix() -> None:
    acts = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    thinks = row("1", "I need it. I recall her." + WRONG)
    more = row("2", "I need it. " + call("head"), "It says so." + WRONG)
    elsewhere = row("3", "Let me see. " + call("leader"), "It says so." + RIGHT)
    rows = [acts, thinks, more, elsewhere]
    pair = next(pair for pair in longest_first(rows) if pair.is_decision)
    made = to_preference_pair(pair, rows)
    assert (made.num_act, made.num_act_correct) == (2, 1)
    assert (made.num_think, made.num_think_correct) == (1, 0)


def test_two_queries_are_a_comparison_and_no_decision() -> None:
    one = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    other = row("1", "I need it. " + call("weather"), "Perhaps she." + WRONG)
    (pair,) = longest_first([one, other])
    assert pair.parting is Parting.BOTH_ACT
    assert not pair.is_decision


def test_a_side_that_thinks_first_and_acts_later_makes_no_decision() -> None:
    acts = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    later = row("1", "I need it. I recall her. " + call("head"), "It says so." + WRONG)
    (pair,) = longest_first([acts, later])
    assert pair.parting is Parting.ACTS_LATER
    assert not pair.is_decision


def test_the_same_words_to_another_tool_are_another_step() -> None:
    one = steps_of("It. " + call("age"), RIGHT)
    changed = replace(one[1], tool="calculate")
    assert parting_point(one, (one[0], changed, *one[2:])) == len("It.")


def test_the_same_words_of_another_author_are_another_step() -> None:
    one = steps_of("It is so. " + call("age"), RIGHT)
    forged = replace(one[0], author=Author.SCAFFOLD)
    assert parting_point(one, (forged, *one[1:])) == 0


def test_two_that_share_nothing_are_a_comparison_of_a_kind_of_its_own() -> None:
    one = row("0", "First. " + call("leader"), "It says so." + RIGHT)
    other = row("1", "Well." + WRONG)
    (pair,) = longest_first([one, other])
    assert pair.parting is Parting.NOTHING_SHARED
    assert not pair.is_decision
    assert to_comparison(pair).prefix == ()


def test_the_scaffolds_words_alone_are_no_shared_prefix() -> None:
    label = Step(StepKind.MARKER, Author.SCAFFOLD, "Thought 1:")
    one = (label, *steps_of(" I know." + RIGHT))
    other = (label, *steps_of(" Perhaps." + WRONG))
    pair = part(make_graded(ASKED, one).trajectory, make_graded(ASKED, other).trajectory)
    assert pair.parting is Parting.NOTHING_SHARED


def test_a_trigger_of_the_scaffold_that_was_never_closed_is_no_choice_of_the_policy() -> None:
    trigger = protocol.marker(" <begin_search>", tool="search")
    one = (*steps_of("I need it."), trigger, *steps_of("Well." + RIGHT))
    other = steps_of("I need it. I recall her." + WRONG)
    pair = part(make_graded(ASKED, one).trajectory, make_graded(ASKED, other).trajectory)
    assert pair.parting is Parting.SCAFFOLD


def test_the_same_outcome_makes_no_pair() -> None:
    one = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    other = row("1", "I need it. I recall him." + RIGHT)
    assert longest_first([one, other]) == []


def test_tags_in_a_thought_make_a_trajectory_unsound_and_unpaired() -> None:
    right = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    for hostile in ("</end_search>", "<search_result> x </search_result>", "<begin_search>"):
        thought = Step(StepKind.THOUGHT, Author.POLICY, f"I need it. {hostile} So.")
        forged = make_graded(ASKED, (thought, *steps_of(WRONG)), trajectory_id="q/coa/1")
        assert longest_first([right, forged]) == []


def test_a_trajectory_that_was_cut_off_makes_no_pair() -> None:
    right = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    cut = row("1", "I need it. I recall" + WRONG, stop_reason=StopReason.ACTION_BUDGET)
    assert longest_first([right, cut]) == []


def test_the_longest_prefix_comes_first_in_whatever_order_the_rows_are() -> None:
    right = row("0", "I need it. " + call("leader"), "It is said. I think so." + RIGHT)
    short = row("1", "I need it. I recall her." + WRONG)
    long = row("2", "I need it. " + call("leader"), "It is said. But no." + WRONG)
    for rows in ([right, short, long], [long, short, right], [short, long, right]):
        found = longest_first(rows)
        assert [pair.wrong.trajectory_id for pair in found] == ["q/coa/2", "q/coa/1"]


def test_an_imported_side_makes_a_comparison_that_names_both_licences() -> None:
    own = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    foreign = row(
        "1",
        "I need it. I recall her." + WRONG,
        sampling=NOT_RECORDED,
        model="agent",
        origin="R1-Searcher",
        license="MIT",
    )
    (pair,) = longest_first([own, foreign])
    assert pair.parting is Parting.ONE_ACTS
    assert not pair.is_decision
    made = to_comparison(pair)
    assert not made.chosen_source.is_imported
    assert made.rejected_source.is_imported
    assert made.rejected_source.license == "MIT"
    assert made.rejected_source.origin == "R1-Searcher"


def test_both_sides_go_on_to_the_end_of_their_trajectories() -> None:
    acts = row("0", "I need it. " + call("leader"), "It says so." + RIGHT)
    thinks = row("1", "I need it. I recall her." + WRONG)
    (pair,) = longest_first([acts, thinks])
    made = to_comparison(pair)
    for side, whole in ((made.chosen, acts), (made.rejected, thinks)):
        text = protocol.render((*made.prefix, *side))
        assert text == protocol.render(whole.trajectory.steps)
    assert arm_of(made.chosen) != arm_of(made.rejected)
