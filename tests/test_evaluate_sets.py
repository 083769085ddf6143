"""Test the evaluation of questions of several sets: the choice, the figures, the bar."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import to_builtins
from omegaconf import OmegaConf

from coa.errors import ConfigError
from coa.intervals import mean_interval, mean_over_groups
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, GroupSize, WorldSettings, make_world
from coa.policy import UnbatchedPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.progress import Progress
from coa.records.question import Question
from coa.records.trajectory import Sampling
from coa.rollout import runtime
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.corpus import corpus_hash
from coa.search.settings import EngineKind, RemoteSettings, SearchParams
from coa.store import tables
from coa.student.asking import AskingPrompts
from coa.student.evaluate_settings import EvaluateParams
from coa.student.held_out import choose_held_out
from evaluation import evaluate
from evaluation.benchmarks import questions_hash
from evaluation.outcomes import Setting, summarise
from evaluation.result_files import read_result, write_result
from evaluation.searched import Searched, describe_search
from tests.evaluate_support import outcome
from tests.settings_support import every_setting

SIZES = {"hotpotqa": 30, "nq": 20, "bamboogle": 5}
SETTING = Setting("a", "m", "", "coa", "test", "hash", "p", "bm25/top2", Sampling(), {})


def make_set(source: str, count: int, split: str = "validation") -> list[Question]:
    questions = []
    for i in range(count):
        text = f"Who is number {i} of {source}?"
        questions.append(Question(f"{source}-{i}", text, (f"{i}",), split, source=source))
    return questions


MIXED = [question for source, size in SIZES.items() for question in make_set(source, size)]


# The choice


def test_so_many_questions_of_each_set_are_asked_and_a_smaller_set_whole() -> None:
    chosen = choose_held_out(MIXED, EvaluateParams(num_questions=10))
    assert Counter(question.source for question in chosen) == {
        "hotpotqa": 10,
        "nq": 10,
        "bamboogle": 5,
    }
    assert chosen == sorted(chosen, key=lambda question: question.question_id)
    assert len(choose_held_out(MIXED, EvaluateParams())) == 55


def test_the_choice_in_a_set_does_not_depend_on_the_other_sets() -> None:
    params = EvaluateParams(num_questions=10, seed=4)
    together = choose_held_out(MIXED, params)
    for source in ("hotpotqa", "nq"):
        alone = choose_held_out(make_set(source, SIZES[source]), params)
        assert [question for question in together if question.source == source] == alone
        assert choose_held_out(MIXED, replace(params, sets=(source,))) == alone


def test_of_a_single_set_the_same_questions_are_asked_as_before_there_were_sets() -> None:
    small = GroupSize(12, 12, 6, 6)
    world = make_world(WorldSettings(known=small, train=small, validation=small, test=small))
    questions = make_questions(world, Group.VALIDATION, 60, seed=0)
    hashes = []
    for params in (EvaluateParams(), EvaluateParams(num_questions=10)):
        hashes.append(questions_hash(choose_held_out(questions, params)))
    # Computed by the code that asked all questions of the split.
    assert hashes == ["41aaa9dc538e9eca", "8e9f602656456a08"]


def test_a_set_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(ConfigError, match="no evaluation set 'musique'") as caught:
        choose_held_out(MIXED, EvaluateParams(sets=("nq", "musique")))
    assert caught.value.details["expected"] == (
        "sources of its questions: bamboogle (5 questions), hotpotqa (30 questions), "
        "nq (20 questions)"
    )


@pytest.mark.parametrize("sets", [(), ("bamboogle",)])
def test_a_single_set_with_too_few_questions_is_named_with_its_size(sets: tuple[str, ...]) -> None:
    questions = MIXED if sets else make_set("bamboogle", 5)
    params = EvaluateParams(num_questions=6, sets=sets)
    with pytest.raises(ConfigError, match="cannot be evaluated on") as caught:
        choose_held_out(questions, params)
    details = caught.value.details
    assert (details["expected"], details["got"]) == ("6 questions of bamboogle", "5")
    assert details["what to do"] == "set num_questions=5 or fewer; 0 asks all 5"
    assert len(choose_held_out(questions, replace(params, num_questions=5))) == 5


def test_questions_of_train_are_not_asked_whatever_their_set() -> None:
    questions = [*MIXED, *make_set("hotpotqa", 40, "train")]
    with pytest.raises(ConfigError, match="cannot be evaluated on"):
        choose_held_out(questions, EvaluateParams(split="train", sets=("hotpotqa",)))
    chosen = choose_held_out(questions, EvaluateParams(num_questions=35))
    assert Counter(question.source for question in chosen) == SIZES


# The figures


def test_each_set_has_its_own_figures_and_counts_the_same_in_the_mean() -> None:
    rows = [outcome(f"a{i}", i < 9, source="big") for i in range(12)]
    rows += [outcome(f"b{i}", i < 1, source="small") for i in range(4)]
    found = summarise(SETTING, rows, num_resamples=200, seed=0)
    values = {}
    for name, metrics in found.by_set.items():
        interval = metrics["exact_match"]
        assert interval is not None
        values[name] = (interval.value, interval.num)
    assert values == {"big": (0.75, 12), "small": (0.25, 4)}
    pooled, mean = found.metrics["exact_match"], found.mean_over_sets["exact_match"]
    assert pooled is not None and pooled.value == 0.625
    assert mean is not None and (mean.value, mean.num) == (0.5, 16)
    assert mean.low < 0.5 < mean.high


def test_a_measure_that_does_not_apply_to_one_set_has_no_mean() -> None:
    rows = [
        outcome("a", True, source="microworld", needs_no_search=True),
        outcome("b", True, source="nq", needs_no_search=None),
    ]
    found = summarise(SETTING, rows, num_resamples=50, seed=0)
    assert found.metrics["exact_match_no_search_needed"] is not None
    assert found.by_set["nq"]["exact_match_no_search_needed"] is None
    assert found.mean_over_sets["exact_match_no_search_needed"] is None


def test_of_a_single_set_the_mean_over_sets_is_the_mean_over_questions() -> None:
    rows = [outcome(f"a{i}", i % 3 == 0, source="nq") for i in range(40)]
    found = summarise(SETTING, rows, num_resamples=300, seed=2)
    assert found.by_set == {"nq": found.metrics}
    assert found.mean_over_sets == found.metrics


def test_the_interval_of_a_mean_over_sets_is_as_wide_as_theory_says() -> None:
    groups = [[float(i % 2) for i in range(400)], [float(i % 4 == 0) for i in range(100)]]
    found = mean_over_groups(groups, num_resamples=4000, seed=0)
    assert found is not None and found.value == 0.375
    variance = (0.25 / 400 + 0.1875 / 100) / 4
    width = 2 * 1.96 * variance**0.5
    assert found.high - found.low == pytest.approx(width, rel=0.06)


def test_groups_of_one_value_or_of_equal_values_add_no_width() -> None:
    alone = mean_interval([0.0, 1.0] * 10)
    found = mean_over_groups([[0.0, 1.0] * 10, [1.0], [0.5, 0.5]], num_resamples=200, seed=0)
    assert alone is not None and found is not None
    assert found.value == pytest.approx(2 / 3, abs=1e-3)
    assert found.high - found.low < alone.high - alone.low
    assert mean_over_groups([[1.0], []], num_resamples=200, seed=0) is None
    assert mean_over_groups([], num_resamples=200, seed=0) is None


def test_a_result_that_is_older_than_the_sets_is_still_read(tmp_path: Path) -> None:
    rows = [outcome("a", True, source="nq"), outcome("b", False, source="nq")]
    path = write_result(summarise(SETTING, rows, num_resamples=50, seed=0), tmp_path)
    values = json.loads(path.read_text())
    for key in ("by_set", "mean_over_sets"):
        del values[key]
    del values["outcomes"]["source"]
    for key in ("prompt_file", "searched"):
        del values["setting"][key]
    path.write_text(json.dumps(values))
    found = read_result(path)
    assert (found.by_set, found.setting.searched, found.rows()[0].source) == ({}, None, "")
    assert found.metrics["exact_match"] is not None


# The search that a result names


def test_a_search_behind_a_server_is_named_by_its_address(tmp_path: Path) -> None:
    server = RemoteSettings(url="http://10.0.0.1:9000", name="wiki-18-e5")
    found = describe_search(SearchParams(engine=EngineKind.SERVER, server=server))
    assert found == Searched(EngineKind.SERVER, "http://10.0.0.1:9000", "wiki-18-e5", None, 3)
    found = describe_search(SearchParams(engine=EngineKind.WEB))
    assert (found.engine, found.corpus, found.num_passages) == (EngineKind.WEB, "", None)


# The command


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder with questions of three sets, an index of two passages and params.yaml."""
    monkeypatch.chdir(tmp_path)
    tables.write_table(Path("data/questions.parquet"), Question, MIXED)
    corpus = Path("data/corpus.parquet")
    passages = [Passage("p0", "One", "It is 1."), Passage("p1", "Two", "It is 2.")]
    tables.write_table(corpus, Passage, passages)
    with Progress("index", None, "passages") as progress:
        build_index(
            iter(passages), Path("data/index"), IndexSettings(), corpus_hash([corpus]), progress
        )
    values = every_setting()
    prompts = AskingPrompts("prompt.txt", "prompt.txt", "prompt.txt")
    values.evaluate = to_builtins(EvaluateParams(prompts=prompts))
    values.search.observation.top_k = 2
    Path("params.yaml").write_text(OmegaConf.to_yaml(values))
    Path("prompt.txt").write_text("Question: {question}")
    script = ScriptedPolicy(lambda request: "I know. </think> \\boxed{1}")
    monkeypatch.setattr(runtime, "open_policy", lambda *_: UnbatchedPolicy(script))


def test_all_sets_are_asked_and_the_summary_names_each(project: None) -> None:
    line = evaluate.main(["name=a", "num_questions=10"])
    assert "on 25 questions; mean over 3 sets 0." in line
    assert ", bamboogle 0.2 [" in line
    assert "(5 questions, all that it has), hotpotqa 0" in line
    found = read_result(Path("results/evaluate/a.json"))
    assert list(found.by_set) == ["bamboogle", "hotpotqa", "nq"]
    assert Counter(row.source for row in found.rows()) == {
        "bamboogle": 5,
        "hotpotqa": 10,
        "nq": 10,
    }


def test_one_set_alone_can_be_asked_and_the_summary_stays_short(project: None) -> None:
    line = evaluate.main(["name=a", "sets=[bamboogle]"])
    assert "on 5 questions; " in line
    assert "mean over" not in line
    assert list(read_result(Path("results/evaluate/a.json")).by_set) == ["bamboogle"]


def test_a_result_says_in_readable_fields_how_it_came_about(project: None) -> None:
    evaluate.main(["name=a", "sets=[bamboogle]", "evaluate.limits.max_actions=7"])
    setting = read_result(Path("results/evaluate/a.json")).setting
    assert (setting.prompt_file, len(setting.prompt_hash)) == ("prompt.txt", 16)
    assert (setting.limits["max_actions"], setting.sampling.temperature) == (7, 0.6)
    searched = setting.searched
    assert searched is not None and len(searched.corpus) == 16
    assert (searched.engine, searched.place) == ("embedded", "data/index")
    assert (searched.num_passages, searched.top_k) == (2, 2)
    evaluate.main(["name=b", "mode=cot", "sets=[bamboogle]"])
    setting = read_result(Path("results/evaluate/b.json")).setting
    assert (setting.search, setting.searched) == ("", None)
