"""Test results of held-out questions, their table, and the worth of a world model's predictions."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from omegaconf import OmegaConf

from coa import tables
from coa.errors import ConfigError, InputError
from coa.graded import GradedTrajectory, grade_trajectory
from coa.microworld.names import Category
from coa.microworld.phrases import PhraseKind, boxed, need, say, search
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, GroupSize, WorldSettings, make_world
from coa.model_files import fingerprint_model
from coa.policy import Completion, Finish
from coa.policy.scripted import ScriptedPolicy
from coa.progress import Progress
from coa.protocol import observation, parse
from coa.question import Question
from coa.search import Hit, Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.corpus import corpus_hash
from coa.tools.search import Numbering, ObservationSettings, show
from coa.trajectory import Mode, Sampling, StopReason, Trajectory
from coa.trajectory import Outcome as ToolOutcome
from train import evaluate, fidelity, table
from train.asking import AskingPrompts
from train.evaluate import EvaluateParams, check, choose_held_out
from train.fidelity import FidelityParams, Prediction, Probe, compare, find_probes, request_for
from train.intervals import mean_interval, paired_difference
from train.knowledge import Decision, Knowledge
from train.outcomes import Outcome, Result, Setting, read_result, summarise, write_result
from train.table import TableParams, arrange, by_questions, difference, write_markdown

SMALL = GroupSize(12, 12, 6, 6)
WORLD_SETTINGS = WorldSettings(known=SMALL, train=SMALL, validation=SMALL, test=SMALL)
WORLD = make_world(WORLD_SETTINGS)
KNOWLEDGE = Knowledge(WORLD)
QUESTIONS = make_questions(WORLD, Group.VALIDATION, 60, seed=0)
TABLE = TableParams(rows={"b": "second", "a": "first"}, compares=(("a", "b"),), num_resamples=200)


def fact_of(group: Group) -> tuple[str, str, str]:
    """Entity, relation and value of one fact."""
    fact = WORLD.facts_of(WORLD.entities[group, Category.FILM][0])[0]
    return fact.entity, fact.relation, fact.value


def outcome(question_id: str, exact_match: bool, **changes: object) -> Outcome:
    row = Outcome(
        question_id,
        exact_match,
        exact_match,
        float(exact_match),
        1,
        2,
        False,
        0,
        0,
        1,
        1,
        False,
        StopReason.ANSWERED,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def result(name: str, right: list[bool], **changes: str) -> Result:
    setting = Setting(name, "m", "", "coa", "test", "hash", "p", "bm25/top2", Sampling(), {})
    rows = [outcome(f"q{i:03}", correct) for i, correct in enumerate(right)]
    return summarise(replace(setting, **changes), rows, num_resamples=200, seed=0)  # type: ignore[arg-type]


# Intervals


@settings(max_examples=25)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_a_mean_lies_in_its_interval(values: list[float]) -> None:
    found = mean_interval(values, num_resamples=50, seed=0)
    assert found is not None
    assert found.num == len(values)
    assert min(values) - 1e-3 <= found.low <= found.high <= max(values) + 1e-3


def test_equal_seeds_give_equal_intervals_and_nothing_gives_none() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    first, second = (mean_interval(values, num_resamples=100, seed=3) for _ in range(2))
    assert first == second
    assert mean_interval([], num_resamples=100, seed=0) is None


def test_pairing_finds_a_difference_that_two_intervals_hide() -> None:
    theirs = [float(i % 2) for i in range(400)]
    ours = [1.0 if i % 20 == 0 else value for i, value in enumerate(theirs)]
    found = paired_difference(ours, theirs, num_resamples=500, seed=0)
    assert found is not None
    assert found.value == 0.05
    assert found.excludes_zero
    alone = [mean_interval(values, num_resamples=500, seed=0) for values in (ours, theirs)]
    assert alone[0] is not None and alone[1] is not None
    assert alone[0].low < alone[1].high


# What a rollout knows and searches


def test_the_decision_after_each_need_is_read_back() -> None:
    known, unknown = fact_of(Group.KNOWN), fact_of(Group.VALIDATION)
    text = " ".join(
        [
            need(known[1], known[0]),
            say(PhraseKind.RECALL, known[2]),
            need(unknown[1], unknown[0]),
            search(unknown[0]),
        ]
    )
    found = list(KNOWLEDGE.decisions(parse(text)))
    assert [(one.is_known, one.searched) for one in found] == [(True, False), (False, True)]
    assert isinstance(found[0], Decision)


def test_needs_that_the_world_does_not_know_are_no_decisions() -> None:
    assert not list(KNOWLEDGE.decisions(parse(f"{need('colour', 'Nobody Here')} {search('x')}")))
    assert not list(KNOWLEDGE.decisions(parse("I think about nothing in particular." + boxed("x"))))


def test_a_question_needs_no_search_where_all_its_facts_are_known() -> None:
    told = {question.question_id: KNOWLEDGE.needs_no_search(question) for question in QUESTIONS}
    for question in QUESTIONS:
        is_known = all(WORLD.groups[title] is Group.KNOWN for title in question.gold_titles)
        assert told[question.question_id] is is_known
    assert {True, False} <= set(told.values())
    assert KNOWLEDGE.needs_no_search(Question("q", "Who?", ("x",), "test", source="nq")) is None


# The choice of questions and the policy


def test_the_choice_of_questions_follows_from_seed_and_ids() -> None:
    params = EvaluateParams(num_questions=10)
    chosen = choose_held_out(QUESTIONS, params)
    assert choose_held_out(QUESTIONS[::-1], params) == chosen
    assert len(chosen) == 10
    assert choose_held_out(QUESTIONS, replace(params, seed=1)) != chosen
    assert len(choose_held_out(QUESTIONS, EvaluateParams())) == len(QUESTIONS)


@pytest.mark.parametrize(
    "params",
    [EvaluateParams(split="train"), EvaluateParams(split="tset"), EvaluateParams(num_questions=61)],
)
def test_too_few_questions_or_the_wrong_split_are_named(params: EvaluateParams) -> None:
    with pytest.raises(ConfigError, match="cannot be evaluated on"):
        choose_held_out(QUESTIONS, params)


@pytest.mark.parametrize(
    ("params", "questions", "advice"),
    [
        (
            EvaluateParams(num_questions=61),
            QUESTIONS,
            "set num_questions=60 or fewer; 0 asks all 60",
        ),
        (EvaluateParams(split="train"), QUESTIONS, "set split=validation"),
        (EvaluateParams(split="test", num_questions=5), QUESTIONS, "set split=validation"),
        (EvaluateParams(), [], "bring questions of the split validation or test"),
    ],
)
def test_what_it_advises_for_too_few_questions_can_be_followed(
    params: EvaluateParams, questions: list[Question], advice: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be evaluated on") as caught:
        choose_held_out(questions, params)
    given = caught.value.details["what to do"]
    assert given.startswith(advice)
    settings = dict(re.findall(r"(num_questions|split)=(\w+)", given))
    if settings:
        number = int(settings.get("num_questions", params.num_questions))
        followed = replace(params, num_questions=number, split=settings.get("split", params.split))
        assert choose_held_out(questions, followed)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not a file name"):
        check(EvaluateParams(model="m", name=name))


def test_a_model_is_loaded_here_and_names_its_result() -> None:
    params = check(EvaluateParams(model="data/train/sft2"))
    assert (params.name, params.policy.policy, params.policy.local.model) == (
        "sft2",
        "local",
        "data/train/sft2",
    )


def test_a_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = fingerprint_model(str(tmp_path))
    (tmp_path / "log.jsonl").write_text("more")
    assert fingerprint_model(str(tmp_path)) == before
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert fingerprint_model(str(tmp_path)) != before
    assert fingerprint_model("Qwen/Qwen3-8B") == ""


# Results and the table


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = result("a", [True, False, True])
    path = write_result(written, tmp_path)
    assert read_result(path) == written
    assert read_result(path).rows()[1] == outcome("q001", False)


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"cannot read .*a\.json"):
        read_result(tmp_path / "a.json")


def test_failed_rollouts_are_counted_and_wrong() -> None:
    rows = [outcome("q0", False, stop_reason=StopReason.TOOL_ERROR), outcome("q1", True)]
    found = summarise(result("a", [True]).setting, rows, num_resamples=50, seed=0)
    assert found.num_failed == 1
    assert found.metrics["exact_match"] is not None and found.metrics["exact_match"].value == 0.5
    assert found.search_rate_unknown == 1.0
    assert found.search_rate_known is None


def test_rows_follow_the_titles_and_the_others_come_after() -> None:
    rows = arrange([result(name, [True]) for name in ("a", "zebra", "b")], TABLE.rows)
    assert [row.title for row in rows] == ["second", "first", "zebra"]


def test_seeds_are_one_row_and_a_question_counts_with_its_mean() -> None:
    rows = arrange([result("a-s0", [True, False]), result("a-s1", [True, True])], TABLE.rows)
    assert len(rows) == 1
    assert rows[0].per_question("exact_match") == {"q000": 1.0, "q001": 0.5}


def test_results_over_another_search_stand_in_no_table() -> None:
    with pytest.raises(InputError, match="differ in search"):
        arrange([result("a", [True]), result("b", [True], search="other")], {})


@pytest.mark.parametrize("key", ["split", "questions"])
def test_results_on_other_questions_stand_in_a_part_of_their_own(key: str) -> None:
    groups = by_questions(
        [result("c", [True], **{key: "zzz"}), result("a", [True]), result("b", [True])]
    )
    assert [[found.setting.name for found in group] for group in groups] == [["a", "b"], ["c"]]


def test_a_result_without_a_tool_compares_with_every_search() -> None:
    assert len(arrange([result("a", [True]), result("b", [True], search="")], {})) == 2


def test_the_table_shows_differences_beyond_noise_in_bold() -> None:
    better, worse = [True] * 80 + [False] * 20, [True] * 40 + [False] * 60
    rows = arrange([result("a", better), result("b", worse)], TABLE.rows)
    page = write_markdown(rows, TABLE)
    assert "| first over second | **+40.0 [" in page
    found = difference(rows[1], rows[0], "exact_match", TABLE)
    assert found is not None and found.value == 0.4


def test_a_hostile_name_stays_in_its_cell() -> None:
    page = write_markdown(arrange([result("a", [True])], {"a": "x | <script> `y`\n# z"}), TABLE)
    assert r"| x \| \<script\> \`y\` # z | 1 |" in page
    assert "\n# z" not in page


# World-model fidelity


def test_rollouts_that_never_searched_leave_nothing_to_measure_and_doubts(tmp_path: Path) -> None:
    found = fidelity.report(FidelityParams(model=str(tmp_path)), [])
    assert (found.num_observations, found.all.well_formed) == (0, None)
    assert found.warnings == (
        "well formed: nothing to measure, below 0.95; train sft3 for longer",
        "answer bearing: nothing to measure, below 0.5; harmless where train.rl1.rewards pays "
        "`recalled` and `acted` in place of answers",
    )


def probe(
    real: str = "result 1: The year of Iron Harbor is 1999.", answers: tuple[str, ...] = ("1999",)
) -> Probe:
    rows = [row_of(real)]
    return replace(
        next(find_probes(rows, {"q": Question("q", "When?", ("1999",), "test")}, None)),
        answers=answers,
    )


def row_of(real: str) -> GradedTrajectory:
    steps = (
        *parse("I look. <begin_search> Iron Harbor </end_search>"),
        observation("search", real, ToolOutcome.OK),
    )
    row = Trajectory(
        "q/coa/0",
        "q",
        Mode.COA,
        0,
        "When?",
        "Question: When?\n\n<think>\n",
        steps,
        StopReason.NO_ANSWER,
        "m",
        Sampling(),
        "",
        "",
        0,
        0,
        0,
        1,
        1,
    )
    return grade_trajectory(row, Question("q", "When?", ("1999",), "test"))


def test_a_world_model_is_asked_with_the_text_up_to_the_opening_tag() -> None:
    request = request_for(probe(), ScriptedPolicy([]), 64)
    assert request.context.endswith("<begin_search> Iron Harbor </end_search>\n<search_result>")
    assert request.stop == ("</search_result>",)


@pytest.mark.parametrize(
    ("predicted", "finish", "expected"),
    [
        (
            " result 1: The year of Iron Harbor is 1999. </search_result>",
            Finish.STOP,
            (True, 1.0, True),
        ),
        (
            " result 1: The year of Iron Harbor is 1998. </search_result>",
            Finish.STOP,
            (True, 0.875, False),
        ),
        (" result 1: The year of Iron Harbor is 1999.", Finish.LENGTH, (False, 1.0, True)),
        (" 1999 </search_result>", Finish.STOP, (False, 0.2222, True)),
        (" result 1: <begin_search> 1999 </search_result>", Finish.STOP, (False, None, True)),
        (" </search_result>", Finish.STOP, (False, 0.0, False)),
    ],
)
def test_a_prediction_is_compared_with_the_real_observation(
    predicted: str, finish: Finish, expected: tuple[bool, float | None, bool]
) -> None:
    found = compare(probe(), Completion(predicted, finish, 8))
    assert (found.is_well_formed, found.bears_answer) == (expected[0], expected[2])
    assert expected[1] is None or found.f1 == pytest.approx(expected[1], abs=1e-3)


@pytest.mark.parametrize("numbering", Numbering)
@pytest.mark.parametrize("shows_titles", [True, False])
def test_a_prediction_is_well_formed_where_its_lines_are_numbered_as_the_search_does(
    numbering: Numbering, shows_titles: bool
) -> None:
    hits = [Hit(Passage("p", "Iron Harbor", "It is of 1999."), 1.0)] * 2
    shown = {
        other: "\n".join(
            show(hits, ObservationSettings(numbering=other, shows_titles=shows_titles))
        )
        for other in Numbering
    }

    def is_well_formed(predicted: str) -> bool:
        reply = Completion(f" {predicted} </search_result>", Finish.STOP, 8)
        return compare(probe("No results."), reply, numbering).is_well_formed

    assert is_well_formed(shown[numbering])
    others = [text for other, text in shown.items() if other is not numbering]
    assert [is_well_formed(text) for text in others] == [numbering is Numbering.NONE] * 3
    assert not is_well_formed("")


def test_a_prediction_of_another_tools_reply_need_not_look_like_a_search(tmp_path: Path) -> None:
    steps = (
        *parse("I count. <begin_calculate> 2 * 3 </end_calculate>"),
        observation("calculate", "6", ToolOutcome.OK),
    )
    base = row_of("x")
    row = replace(base, trajectory=replace(base.trajectory, steps=steps))
    (found,) = find_probes([row], {"q": Question("q", "When?", ("6",), "test")}, None)
    reply = Completion(" 7 </calculate_result>", Finish.STOP, 2)
    assert compare(found, reply).is_well_formed


def test_an_observation_without_the_answer_says_nothing_of_it() -> None:
    assert (
        compare(probe(answers=()), Completion(" x </search_result>", Finish.STOP, 2)).bears_answer
        is None
    )


def test_poor_predictions_raise_a_warning_and_good_ones_none() -> None:
    params = FidelityParams(num_resamples=50)
    good, poor = Prediction(True, 1.0, True, None), Prediction(True, 0.2, False, False)
    assert fidelity.report(params, [good] * 10).warnings == ()
    (doubt,) = fidelity.report(params, [poor] * 10).warnings
    assert doubt.startswith(
        "answer bearing: 0 [0, 0], below 0.5; harmless where train.rl1.rewards pays"
    )


def test_a_world_model_that_was_never_measured_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        "not measured: python -m train.fidelity model=data/train/sft3"
        in fidelity.gate("data/train/sft3")[0]
    )


# The commands


@pytest.fixture
def workplace(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small world's questions, its index and params.yaml."""
    monkeypatch.chdir(tmp_path)
    tables.write_table(Path("data/questions.parquet"), Question, QUESTIONS)
    corpus = Path("data/corpus.parquet")
    passages = WORLD.passages()
    tables.write_table(corpus, Passage, passages)
    with Progress("index", None, "passages") as progress:
        build_index(
            iter(passages), Path("data/index"), IndexSettings(), corpus_hash([corpus]), progress
        )
    values = OmegaConf.load(root / "conf/microworld.yaml")
    values.microworld.world = OmegaConf.create(asdict(WORLD_SETTINGS))
    prompts = AskingPrompts("prompt.txt", "prompt.txt", "prompt.txt")
    values.evaluate = to_builtins(EvaluateParams(num_resamples=100, prompts=prompts))
    values.table, values.fidelity = (
        to_builtins(TABLE),
        to_builtins(FidelityParams(num_resamples=50)),
    )
    Path("params.yaml").write_text(OmegaConf.to_yaml(values))
    Path("prompt.txt").write_text((root / "synth/prompts/coa.txt").read_text())
    return tmp_path


def test_the_microworlds_teacher_is_evaluated_and_stands_in_the_table(workplace: Path) -> None:
    assert "exact match 0." in evaluate.main(["name=a"])
    assert "60 questions" in evaluate.main(["name=b", "mode=cot"])
    offered, forbidden = (read_result(Path(f"results/evaluate/{name}.json")) for name in "ab")
    assert offered.metrics["exact_match"].value > forbidden.metrics["exact_match"].value  # type: ignore[union-attr]
    assert offered.search_rate_unknown is not None and offered.search_rate_known is not None
    assert offered.search_rate_unknown > offered.search_rate_known
    assert (forbidden.setting.search, offered.setting.search[:8]) == ("", "tantivy:")
    rows = list(tables.read_table(Path("data/evaluate/a.parquet"), GradedTrajectory))
    assert [row.trajectory.question_id for row in rows] == offered.outcomes["question_id"]
    assert "2 systems" in table.main([])
    assert Path("results/table.png").read_bytes().startswith(b"\x89PNG")


def test_an_evaluation_writes_the_same_bytes_again(workplace: Path) -> None:
    path = Path("results/evaluate/a.json")
    evaluate.main(["name=a", "num_questions=20"])
    first = path.read_bytes()
    evaluate.main(["name=a", "num_questions=20"])
    assert path.read_bytes() == first


def test_a_table_without_results_says_how_to_make_one(workplace: Path) -> None:
    with pytest.raises(ConfigError, match="there is no result") as error:
        table.main([])
    assert "python -m train.evaluate" in str(error.value)


@pytest.mark.slow
def test_a_random_student_is_evaluated_and_its_world_model_is_poor(workplace: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from train.student import StudentSettings, new_student

    torch.set_num_threads(1)
    shape = StudentSettings(
        hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_context=512
    )
    texts = [
        *(passage.text for passage in WORLD.passages()),
        *(question.question for question in QUESTIONS),
    ]
    for part in new_student([*texts, Path("prompt.txt").read_text()], shape, seed=0):
        part.save_pretrained("student")
    Path("short.txt").write_text("Question: {question}")
    small = [
        "model=student",
        "num_questions=4",
        "evaluate.limits.max_context_tokens=48",
        "evaluate.limits.max_answer_tokens=4",
    ]
    assert "exact match 0 " in evaluate.main(
        [*small, "mode=react", "name=react", "evaluate.prompts.react=short.txt"]
    )
    result = read_result(Path("results/evaluate/react.json"))
    assert (result.setting.model, len(result.setting.model_fingerprint)) == ("student+react", 16)
    evaluate.main(["name=a", "num_questions=10"])
    line = fidelity.main(
        [
            "model=student",
            "rollouts=data/evaluate/a.parquet",
            "num_observations=4",
            "max_observation_tokens=6",
        ]
    )
    assert "WARNING before rl1: answer bearing" in line
    assert any("answer bearing" in doubt for doubt in fidelity.gate("student"))
    Path("student/model.safetensors").write_bytes(b"trained again")
    assert "was not measured" in fidelity.gate("student")[0]
