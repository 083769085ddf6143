"""Test the plans, fingerprints and kept rows of the lab."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import CoaError, ConfigError, InputError
from evaluation.result_files import read_result, write_result
from lab import missing, rules, subset
from lab.chains import TRAININGS, chain_of
from lab.experiments import EXPERIMENTS, find_experiment
from lab.kept import pack, pack_outcomes, read_row, unpack
from lab.plan import LabParams, Plan, check_chain, plan_rows
from lab.row import check_result
from tests.evaluate_support import result
from tests.lab_support import keep_row, outcomes, write_params


@pytest.fixture
def folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_params(root)
    return tmp_path


def plan_of(experiment: str, row: str, **changes: int | str) -> Plan:
    (plan,) = plan_rows(replace(LabParams(experiment=experiment, row=row), **changes))  # type: ignore[arg-type]
    return plan


def test_every_row_names_a_chain_that_begins_with_pre_training() -> None:
    for experiment in EXPERIMENTS:
        for row in experiment.rows:
            assert chain_of(row.training)[0].name == "pretrain", row.name


def test_every_comparison_names_two_rows_of_its_experiment() -> None:
    for experiment in EXPERIMENTS:
        names = {row.name for row in experiment.rows}
        assert len(names) == len(experiment.rows)
        for pair in experiment.compares:
            assert names.issuperset(pair), experiment.name


def test_every_training_is_part_of_a_row() -> None:
    rows = [row for experiment in EXPERIMENTS for row in experiment.rows]
    used = {training.name for row in rows for training in chain_of(row.training)}
    assert {training.name for training in TRAININGS} == used


def test_rows_with_one_result_were_asked_alike(folder: Path) -> None:
    asked: dict[str, object] = {}
    for plan in plan_rows(LabParams()):
        setting = (plan.row.training, plan.row.mode, plan.row.settings, plan.asked)
        assert asked.setdefault(plan.result, setting) == setting


def test_what_can_change_a_result_changes_the_fingerprint(folder: Path, root: Path) -> None:
    seen = {plan_of("alpha", "sft2").fingerprint}
    for change in (
        "train.sft1.alpha=0.5",
        "assemble.num_cot_a=7",
        "microworld.world.seed=5",
        "search.observation.top_k=5",
        "evaluate.policy.sampling.temperature=0.3",
    ):
        write_params(root, change)
        found = plan_of("alpha", "sft2").fingerprint
        assert found not in seen, change
        seen.add(found)


def test_a_measured_simulator_is_told_by_all_its_settings(folder: Path, root: Path) -> None:
    recorded = plan_of("fidelity", "recorded").fingerprint
    policy = plan_of("fidelity", "sft3").fingerprint
    write_params(root, "simulator.recorded.min_share=0.3")
    assert plan_of("fidelity", "recorded").fingerprint != recorded
    assert plan_of("fidelity", "sft3").fingerprint == policy


def test_paths_and_pace_leave_the_fingerprint_of_a_chain_as_it_is(folder: Path, root: Path) -> None:
    before = plan_of("alpha", "sft2").fingerprint
    write_params(
        root,
        "evaluate.policy.local.batch_size=3",
        "evaluate.policy.concurrency=2",
        "search.index=/another/machine/index",
        "train.sft1.init=/another/machine/model",
        "train.launch=accelerate launch -m",
        "train.rl2.arguments.learning_rate=1",
        "table.seed=4",
    )
    assert plan_of("alpha", "sft2").fingerprint == before


def test_all_rows_of_an_experiment_have_fingerprints_of_their_own(folder: Path) -> None:
    plans = [*plan_rows(LabParams()), *plan_rows(LabParams(seed=1))]
    own = {(plan.experiment.name, plan.fingerprint) for plan in plans}
    assert len(own) == len(plans)
    asked = {(plan.split, plan.num_questions) for plan in plans}
    assert len({plan.common for plan in plans}) == len(asked)


def test_a_kept_row_is_missing_no_more_until_its_settings_change(
    folder: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_row("alpha", "alpha_0", [True, False] * 6)
    assert missing.main(["experiment=alpha"]) == "5 of 6 rows are missing"
    assert "lab/alpha/sft1-s0.json: not there; make lab" in capsys.readouterr().out
    write_params(root, "train.sft1.likelihood_weight=0.4")
    assert missing.main(["experiment=alpha"]) == "6 of 6 rows are missing"
    assert "alpha_0-s0.json: made with other settings" in capsys.readouterr().out


def test_a_kept_row_has_no_rule_and_the_others_have(folder: Path) -> None:
    keep_row("alpha", "alpha_0", [True, False] * 6)
    assert rules.main(["experiment=alpha"]).endswith("5 of 6 rows are to be made")
    text = rules.OUT.read_text()
    assert "row=alpha_0 " not in text
    assert "row=alpha_0_sft2 " in text
    assert text.count("$(eval $(call chain,alpha_0,sft1,pretrain,") == 1


def test_what_two_experiments_share_is_made_once(folder: Path) -> None:
    plans = [plan for name in ("alpha", "masking") for plan in plan_rows(LabParams(name))]
    assert plan_rows(LabParams(experiment="alpha,masking")) == plans
    rules.main(["experiment=alpha,masking"])
    evaluated = [
        line.partition(":")[0]
        for line in rules.OUT.read_text().splitlines()
        if line.startswith("results/evaluate/")
    ]
    assert len(evaluated) == len(set(evaluated)) < len(plans)


def test_a_kept_row_is_small_and_holds_every_question(folder: Path) -> None:
    right = [number % 5 < 2 for number in range(600)]
    keep_row("alpha", "sft1", right)
    path = Path("lab/alpha/sft1-s0.json")
    assert path.stat().st_size < 12_000
    kept = read_row(path)
    found = kept.questions_of("all")
    assert [bool(found[place]["exact_match"]) for place in range(600)] == right
    popular = kept.metrics["popular"]["exact_match"]
    assert popular is not None
    assert popular.num == len(kept.questions_of("popular")) == 200


@given(st.lists(st.none() | st.integers(0, 254), max_size=50))
def test_a_column_comes_back_as_it_was_packed(values: list[int | None]) -> None:
    assert unpack(pack(values), len(values)) == values


def test_more_than_a_byte_holds_is_kept_as_the_largest_number() -> None:
    assert unpack(pack([300]), 1) == [254]


@pytest.mark.parametrize("text", ["no base64!", "AAAA", pack([1, 2])])
def test_a_broken_column_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        unpack(text, 3)


def test_the_order_of_the_outcomes_changes_no_column() -> None:
    rows = outcomes([True, False, True])
    assert pack_outcomes(rows[::-1]) == pack_outcomes(rows)


def test_an_unknown_experiment_or_row_is_an_error_that_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown experiment 'alpa'"):
        find_experiment("alpa")
    assert plan_rows(LabParams(experiment="alpha", row="nobody")) == []


def test_a_result_of_other_questions_is_refused(folder: Path) -> None:
    found = result("lab_sft1-s0", [True] * 5, split="validation")
    check_result(plan_of("alpha", "sft1", num_questions=5), found)
    with pytest.raises(InputError, match="asked otherwise"):
        check_result(plan_of("alpha", "sft1", num_questions=6), found)
    with pytest.raises(InputError, match="asked otherwise"):
        check_result(plan_of("alpha", "sft1", num_questions=5, split="test"), found)


def test_an_experiment_says_what_it_asks_where_the_command_does_not(folder: Path) -> None:
    asked = plan_of("price", "sft3").asked
    assert asked == {"split": "validation", "num_questions": 600}
    assert plan_of("price", "sft3", num_questions=2000, split="test").asked == {
        "split": "test",
        "num_questions": 2000,
    }


def test_a_model_that_is_missing_or_was_trained_otherwise_is_refused(
    folder: Path, root: Path
) -> None:
    plan = plan_of("sft_stages", "sft2_only")
    with pytest.raises(InputError, match="no finished model"):
        check_chain(plan)
    for training in plan.chain:
        path = Path(f"data/train/{training.name}-s0/params.yaml")
        path.parent.mkdir(parents=True)
        write_params(root, *training.settings)
        Path("params.yaml").rename(path)
    write_params(root)
    check_chain(plan)
    write_params(root, "train.sft2.arguments.max_steps=3")
    with pytest.raises(CoaError, match="other settings") as caught:
        check_chain(plan_of("sft_stages", "sft2_only"))
    assert "own.arguments.max_steps: 3" in str(caught.value)


def test_a_wide_choice_takes_one_row_of_each_question_first() -> None:
    from tests.train_support import trajectory

    rows = [trajectory(number) for number in (1, 1, 1, 2, 3)]
    wide = subset.choose(rows, 3, is_wide=True, seed=0)
    assert sorted(subset.question_of(row) for row in wide) == ["q1", "q2", "q3"]
    narrow = subset.choose(rows, 3, is_wide=False, seed=0)
    assert [subset.question_of(row) for row in narrow] == ["q1", "q1", "q1"]


def test_a_written_result_is_read_back_for_a_row(folder: Path) -> None:
    path = write_result(result("lab_sft1-s0", [True, False], split="validation"))
    assert read_result(path).num_questions == 2
