"""Test the gate: each reason's smallest example, all of them at once, and what is no reason."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

from coa.doctor.recorded_authors import mask_fault
from coa.errors import ConfigError, OutputError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Outcome, Step, StepKind
from coa.store import tables
from coa.store.reviews import Answer as ReviewAnswer
from coa.store.reviews import Review, ReviewKind, ReviewQuestion, trajectory_version, write_reviews
from data_cards import provenance
from data_cards.cards import licences
from data_cards.cards.licences import Source
from data_cards.catalogue import SetName, local_path
from data_cards.formats.published_rows import write_published
from data_cards.provenance import without_user
from data_cards.publishing import gate
from data_cards.publishing.gate import Reason, Refusal
from data_cards.settings import PublishParams

pytest.importorskip("linkify_it")
SETS = (SetName.COT_A, SetName.COA, SetName.COT, SetName.RL)
SCREEN = {"evaluation": "data/questions.parquet", "evaluation_columns": {}}
COA = local_path(SetName.COA, "train")


def rewrite(path: Path, record: type[Any], change: Callable[[Any], Any]) -> Any:
    """Change the first row of a file; returns the row as it was."""
    rows = list(tables.read_table(path, record))
    tables.write_table(path, record, [change(rows[0]), *rows[1:]])
    return rows[0]


def with_steps(
    row: GradedTrajectory, change: Callable[[tuple[Step, ...]], Iterable[Step]]
) -> GradedTrajectory:
    return replace(
        row, trajectory=replace(row.trajectory, steps=tuple(change(row.trajectory.steps)))
    )


def saying(text: str) -> Callable[[GradedTrajectory], GradedTrajectory]:
    """A row whose policy begins with these words."""
    thought = Step(StepKind.THOUGHT, Author.POLICY, text)
    return lambda row: with_steps(row, lambda steps: (thought, *steps))


def test_a_sound_run_has_nothing_against_it_but_its_teacher(linked_run: Path) -> None:
    assert list(gate.evaluation_refusals(SETS, SCREEN)) == []
    assert list(row_refusals(SETS)) == []
    assert list(gate.review_refusals(SETS, 0)) == []


def exclude_first_row(reason: str, detail: str) -> str:
    """Have the screen find the first row of a set, for this reason; the row's id."""
    row = next(tables.read_table(COA, GradedTrajectory)).trajectory
    found = {"row_id": row.trajectory_id, "question_id": row.question_id, "what": "trajectory"}
    pl.DataFrame([{**found, "reason": reason, "detail": detail}]).write_parquet("new")
    Path("new").replace("data/screen/excluded.parquet")
    return row.trajectory_id


def test_a_row_that_the_screen_found_is_refused(linked_run: Path) -> None:
    row_id = exclude_first_row("evaluation_ngram", "shares 'a run'")
    (refusal,) = gate.evaluation_refusals(SETS, SCREEN)
    assert refusal.reason is Reason.EVALUATION_OVERLAP
    assert row_id in refusal.detail


def test_a_near_duplicate_is_no_overlap_with_an_evaluation(linked_run: Path) -> None:
    exclude_first_row("near_duplicate", "similarity 0.9")
    assert list(gate.evaluation_refusals(SETS, SCREEN)) == []


@pytest.mark.parametrize(
    ("where", "edit"),
    [
        ("own questions", "case"),
        ("a folder", "case"),
        ("a file", "a word put in"),
        ("a file", "words swapped"),
        ("a file", "a Cyrillic letter"),
    ],
)
def test_a_question_of_an_evaluation_set_is_found_without_the_screen(
    linked_run: Path, where: str, edit: str
) -> None:
    own = next(tables.read_table(COA, GradedTrajectory)).trajectory.question
    first, *middle, last = own.split()
    asked = {
        "case": own.upper() + "?!",
        "a word put in": " ".join([first, "exactly", *middle, last]),
        "words swapped": " ".join([last, *middle, first]),
        "a Cyrillic letter": own.replace("e", "\u0435", 1),
    }[edit]
    screen = dict(SCREEN)
    if where == "own questions":
        questions = list(tables.read_table(Path("data/questions.parquet"), Question))
        held_out = replace(questions[-1], question_id="held-out", question=asked, split="test")
        tables.write_table(Path("data/questions.parquet"), Question, [*questions, held_out])
    else:
        Path("held").mkdir()
        Path("held/bamboogle.jsonl").write_text(json.dumps({"q": asked}), encoding="utf-8")
        name = "held" if where == "a folder" else "held/bamboogle.jsonl"
        screen = {"evaluation": name, "evaluation_columns": {"question": "q"}}
    (refusal,) = gate.evaluation_refusals([SetName.COA], screen)
    assert refusal.reason is Reason.EVALUATION_OVERLAP
    assert ("test" if where == "own questions" else "bamboogle") in refusal.detail


def test_rows_that_were_never_screened_are_refused(linked_run: Path) -> None:
    Path("data/screen/excluded.parquet").unlink()
    (refusal,) = gate.evaluation_refusals(SETS, SCREEN)
    assert "never screened" in refusal.detail


@pytest.mark.parametrize("name", [SetName.COA, SetName.COT, SetName.COT_A])
def test_what_the_policy_wrote_is_searched_in_every_set(linked_run: Path, name: SetName) -> None:
    path = local_path(name, "validation")
    if name is SetName.COT_A:
        mail = Step(StepKind.THOUGHT, Author.POLICY, "a@example.org ")
        row = rewrite(
            path, PreferencePair, lambda pair: replace(pair, rejected=(mail, *pair.rejected))
        ).pair_id
    else:
        row = rewrite(path, GradedTrajectory, saying("a@example.org ")).trajectory.trajectory_id
    (refusal,) = row_refusals(SETS)
    assert refusal.reason is Reason.PRIVATE_TEXT
    assert refusal.detail.startswith(f"{name}: 1 row: {row} e-mail address")
    assert "example" not in refusal.detail


def test_what_a_passage_says_is_not_the_policys(linked_run: Path) -> None:
    def shown(row: GradedTrajectory) -> GradedTrajectory:
        call = protocol.parse_policy(
            f"{protocol.open_tag('search')} mail {protocol.close_tag('search')}"
        )
        found = protocol.observation("search", "Write to jane@example.org", Outcome.OK)
        return with_steps(row, lambda steps: (*call, found, *steps))

    rewrite(COA, GradedTrajectory, shown)
    assert list(row_refusals(SETS)) == []


def turn(author: Author) -> tuple[Step, ...]:
    call = protocol.parse_policy(
        f"A.{protocol.open_tag('search')} b {protocol.close_tag('search')}"
    )
    found = replace(protocol.observation("search", "Some passage.", Outcome.OK), author=author)
    return (*call, found, *protocol.parse_policy("So.\n</think>\n\n\\boxed{c}"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda steps: turn(Author.POLICY), "the mask covers text of the environment"),
        (
            lambda steps: turn(Author.SCAFFOLD),
            "text of the environment, recorded as the scaffold's",
        ),
        (
            lambda steps: (
                [replace(step, author=Author.ENVIRONMENT) for step in steps[:1]] + list(steps[1:])
            ),
            "the mask leaves out text of the policy",
        ),
        (
            lambda steps: [*steps[:-1], replace(steps[-1], author=Author.SCAFFOLD)],
            "the mask leaves out text of the policy",
        ),
    ],
)
def test_an_author_that_is_not_that_of_the_text_is_refused(
    linked_run: Path, change: Callable[[tuple[Step, ...]], Iterable[Step]], says: str
) -> None:
    before = rewrite(COA, GradedTrajectory, lambda row: with_steps(row, change))
    (refusal,) = row_refusals(SETS)
    assert refusal.reason is Reason.LOSS_MASK
    assert says in refusal.detail
    assert before.trajectory.trajectory_id in refusal.detail
    assert mask_fault(before) == ""


def test_steps_that_are_cut_or_empty_change_no_mask() -> None:
    steps = turn(Author.ENVIRONMENT)
    head, *rest = steps
    cut = [
        replace(head, text=head.text[:1]),
        replace(head, text=""),
        replace(head, text=head.text[1:]),
        *rest,
    ]
    assert mask_fault(row_of(cut)) == ""


def row_of(steps: Iterable[Step]) -> PreferencePair:
    empty: dict[str, Any] = dict.fromkeys(PreferencePair.__slots__, "")
    return PreferencePair(
        **{**empty, "prefix": (), "chosen": tuple(steps), "rejected": tuple(steps)}
    )


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"q": "Apache-2.0", "corpus": "CC-BY-SA-4.0"}, ""),
        ({"q": "MIT", "corpus": "MIT"}, ""),
        ({"q": "CC-BY-SA-3.0", "corpus": "CC-BY-SA-4.0"}, ""),
        ({"q": "CC-BY-NC-4.0", "corpus": "CC-BY-4.0"}, ""),
        ({"q": "CC-BY-NC-4.0", "corpus": "CC-BY-NC-SA-4.0"}, ""),
        ({"q": "Apache-2.0"}, "the licence of corpus (search results) is unknown"),
        ({"q": "Beerware", "corpus": "MIT"}, "the licence of q (questions) is unknown: beerware"),
        ({"q": "CC-BY-NC-ND-4.0", "corpus": "MIT"}, "forbids derived works"),
        ({"q": "CC-BY-SA-4.0", "corpus": "CC-BY-NC-SA-4.0"}, "under their own terms"),
        ({"q": "CC-BY-SA-4.0", "corpus": "CC-BY-NC-4.0"}, "under their own terms"),
        ({"q": "CC-BY-SA-4.0", "corpus": "GPL-3.0-only"}, "under their own terms"),
    ],
)
def test_licences_that_are_unknown_or_cannot_stand_together_are_refused(
    stated: dict[str, str], says: str
) -> None:
    found = licences.conflicts(
        [Source("questions", "q"), Source("search results", "corpus")], stated
    )
    assert (says in found[0]) if says else found == []


def test_too_few_reviews_are_refused_and_a_review_of_another_version_does_not_count(
    linked_run: Path,
) -> None:
    row = next(tables.read_table(COA, GradedTrajectory))
    said = Review(
        row.trajectory.trajectory_id,
        ReviewKind.TRAJECTORY,
        "another",
        1,
        1,
        "ann",
        "2026-01-01T00:00:00Z",
        (ReviewAnswer(ReviewQuestion.VERDICT, ("keep",)),),
    )
    write_reviews([said])
    missing = {refusal.detail for refusal in gate.review_refusals(SETS, 1)}
    assert missing == {f"{name}: 0 rows reviewed of 1 required" for name in ("cot_a", "coa", "cot")}
    write_reviews([replace(said, version=trajectory_version(row))])
    assert {refusal.detail.partition(":")[0] for refusal in gate.review_refusals(SETS, 1)} == {
        "cot_a",
        "cot",
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@host:8/sets?key=x#y", "https://host:8/sets"),
        ("s3://bucket/sets", "s3://bucket/sets"),
        ("/data/sets", "/data/sets"),
        ("ssh://me@host/sets", "ssh://host/sets"),
    ],
)
def test_a_remote_is_recorded_without_user_and_password(url: str, shown: str) -> None:
    assert without_user(url) == shown


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one stage that has run and is committed."""
    folder = tmp_path_factory.mktemp("committed") / "tree"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
            context.setenv(f"{name}_NAME", "test")
            context.setenv(f"{name}_EMAIL", "test@example.org")
        Path("in").write_text("1")
        Path("dvc.yaml").write_text("stages: {render: {cmd: cp in out, deps: [in], outs: [out]}}")
        call("git", "init", "--quiet")
        call(sys.executable, "-m", "dvc", "init", "--quiet")
        call(sys.executable, "-m", "dvc", "repro", "--quiet")
        call("git", "add", "--all")
        call("git", "commit", "--quiet", "-m", "all")
    return folder


@pytest.fixture
def tree(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the committed project the current folder."""
    folder = Path(shutil.copytree(committed, tmp_path / "tree", symlinks=True))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return folder


def test_a_committed_tree_with_a_fresh_lock_has_nothing_against_it(tree: Path) -> None:
    Path("notes.md").write_text("of no account")
    assert gate.tree_refusals("render", tree) == []


def test_code_that_is_not_committed_is_refused(tree: Path) -> None:
    Path("coa").mkdir()
    Path("coa/new.py").write_text("")
    assert gate.tree_refusals("render", tree) == [Refusal(Reason.UNCOMMITTED_CODE, "coa/new.py")]


def test_code_of_the_users_and_of_the_tool_that_is_not_committed_is_refused(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tool = tmp_path_factory.mktemp("tool")
    (tool / "coa/records").mkdir(parents=True)
    (tool / "coa/records/grading.py").write_text("")
    call("git", "-C", str(tool), "init", "--quiet")
    call("git", "-C", str(tool), "add", ".")
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    call("git", "-C", str(tool), *author, "commit", "--quiet", "-m", "all")
    (tool / "coa/records/grading.py").write_text("# changed\n")
    Path("my_parts.py").write_text("")
    assert gate.tree_refusals("render", tool) == [
        Refusal(Reason.UNCOMMITTED_CODE, "my_parts.py, coa/records/grading.py of the tool")
    ]
    (tool / "coa/records/grading.py").write_text("")
    Path("my_parts.py").unlink()
    assert gate.tree_refusals("render", tool) == []
    assert len(provenance.code_state(tool).tool) == 40


def test_the_lock_that_a_run_has_written_is_no_uncommitted_code(tree: Path) -> None:
    Path("in").write_text("2")
    call(sys.executable, "-m", "dvc", "repro", "--quiet")
    assert "dvc.lock" in call("git", "status", "--porcelain")
    assert gate.tree_refusals("render", tree) == []


def test_a_lock_that_belongs_to_another_input_is_refused(tree: Path) -> None:
    Path("in").write_text("2")
    assert gate.tree_refusals("render", tree) == [
        Refusal(Reason.STALE_LOCK, "render: dvc repro render")
    ]


def test_a_folder_without_git_and_dvc_is_refused_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert [refusal.reason for refusal in gate.tree_refusals("render", tmp_path)] == [
        Reason.UNCOMMITTED_CODE,
        Reason.STALE_LOCK,
    ]


def test_all_reasons_are_named_at_once_and_waived_only_by_name() -> None:
    refusals = [
        Refusal(Reason.LICENCE, "one"),
        Refusal(Reason.LOSS_MASK, "two"),
        Refusal(Reason.LICENCE, "three"),
    ]
    with pytest.raises(OutputError) as caught:
        gate.enforce(refusals, frozenset({Reason.SCRIPTED_TEACHER}))
    assert all(
        word in str(caught.value)
        for word in ("one", "two", "three", "allow=scripted_teacher,licence,loss_mask")
    )
    with pytest.raises(OutputError, match="publishing is refused") as caught:
        gate.enforce(refusals, gate.read_allowed("licence"))
    assert "one" not in str(caught.value)
    gate.enforce(refusals, gate.read_allowed("licence, loss_mask, scripted_teacher"))


def test_an_unknown_reason_cannot_be_waived() -> None:
    with pytest.raises(ConfigError, match="unknown reason 'everything'"):
        gate.read_allowed("licence,everything")


def call(*command: str) -> str:
    """Run a command, and return what it prints."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CEILING_DIRECTORIES": str(Path.cwd().parent),
    }
    done = subprocess.run(command, check=True, capture_output=True, env=environment, text=True)
    return done.stdout


def row_refusals(names: Iterable[SetName]) -> list[Refusal]:
    """Write the sets of the current folder as they are published, and check their rows."""
    with TemporaryDirectory() as folder:
        published = Path(folder)
        write_published(names, published)
        return list(gate.row_refusals(names, "US", published))


def test_where_no_set_was_built_there_is_nothing_to_publish(linked_run: Path) -> None:
    found = gate.check_sets([], [], {"screen": SCREEN}, PublishParams(), {}, linked_run)
    assert Reason.NO_SET in {refusal.reason for refusal in found}
