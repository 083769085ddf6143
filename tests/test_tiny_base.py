"""A chain on another maker's kind of model: its tokenizer cuts the protocol's tags into pieces."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from train.base import read_window

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
    ),
]

from coa.errors import ConfigError, InputError  # noqa: E402
from coa.policy.chat_templates import own_template  # noqa: E402
from coa.policy.local.model import load_tokenizer  # noqa: E402
from coa.policy.prompts import Prompt  # noqa: E402
from coa.records import protocol  # noqa: E402
from coa.records.graded import GradedTrajectory  # noqa: E402
from coa.records.pairs import PreferencePair  # noqa: E402
from coa.records.question import Question  # noqa: E402
from coa.records.tokens import PieceEncoder  # noqa: E402
from coa.records.trajectory import Author, Outcome, Step  # noqa: E402
from coa.search import Passage  # noqa: E402
from coa.store import tables  # noqa: E402
from coa.student.settings import TrainParams  # noqa: E402
from coa.student.small import END  # noqa: E402
from scripts import tiny_base  # noqa: E402
from tests.sample_records import make_graded, make_pair  # noqa: E402
from train.encode import Encoder  # noqa: E402
from train.run import main  # noqa: E402

TEXTS = (
    "Kiki's Delivery Service is a 1989 film by Miyazaki Hayao; it was shown in Zürich.",
    "Ångström (born 1814) was a physicist, “one of the founders” of spectroscopy.",
    "The river Łyna → Pregolya flows through Olsztyn; 東京 is far away from there.",
)
THOUGHT = "I need the director – naïve as it is. "
SHOWN = "result 1: Kiki's Delivery Service is a film by Miyazaki Hayao (宮崎 駿)."
STEPS = (
    *protocol.parse_policy(f"{THOUGHT}<begin_search> Kiki's director </end_search>"),
    protocol.observation("search", SHOWN, Outcome.OK),
    *protocol.parse_policy("It says Miyazaki.\n</think>\n\n\\boxed{Miyazaki}"),
)
SET, PAIRS = "data/assemble/coa", "data/assemble/cot_a"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, made by the command."""
    folder = tmp_path_factory.mktemp("base")
    passages = [Passage(f"p{i}", f"Page {i}", TEXTS[i % 3] + f" No. {i}") for i in range(300)]
    tables.write_table(folder / "corpus.parquet", Passage, passages)
    said = tiny_base.main(
        [f"corpus={folder / 'corpus.parquet'}", f"out={folder / 'model'}", "window=256"]
    )
    assert "random weights" in said
    return folder / "model"


def trajectory(i: int) -> GradedTrajectory:
    asked = Question(f"q{i}", f"Who directed film {i}?", ("Miyazaki",), "train", "bridge", 1)
    return make_graded(asked, STEPS)


def pair(i: int) -> PreferencePair:
    wrong = protocol.parse_policy("Maybe Ångström.\n</think>\n\n\\boxed{Ångström}")
    parent = trajectory(i).trajectory
    return make_pair(parent, STEPS[1:], wrong, point=11, prefix=STEPS[:1])


@pytest.fixture
def project(base: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose chain starts from the tiny model, with the model's own chat template."""
    monkeypatch.chdir(tmp_path)
    params: dict[str, Any] = msgspec.to_builtins(TrainParams())
    few = {"per_device_train_batch_size": 2, "max_steps": 2, "use_cpu": True, "logging_steps": 1}
    params |= {"prompt": str(root / "train/prompts/question.txt"), "max_context_tokens": 256}
    params |= {"chat_template": ""}
    params["pretrain"] |= {"base": str(base)}
    params["sft1"] |= {"arguments": few}
    for stage in ("sft2", "sft3", "rft"):
        params[stage] |= {"trajectories": [SET], "arguments": few}
    (tmp_path / "params.yaml").write_text(json.dumps({"train": params}))
    for split, count in (("train", 8), ("validation", 2)):
        rows = [trajectory(i) for i in range(count)]
        tables.write_table(Path(SET, f"{split}.parquet"), GradedTrajectory, rows)
        pairs = [pair(i) for i in range(count)]
        tables.write_table(Path(PAIRS, f"{split}.parquet"), PreferencePair, pairs)
    return tmp_path


def encoder_of(base: Path, root: Path) -> Encoder:
    tokenizer = load_tokenizer(str(base))
    prompt = Prompt.load(root / "train/prompts/question.txt", own_template(tokenizer))
    return Encoder(tokenizer, prompt.for_policy(PieceEncoder(tokenizer)), 256)


def trained_text(base: Path, example: Any) -> str:
    trained = [token for token in example["labels"] if token >= 0]
    return PieceEncoder(load_tokenizer(str(base))).decode(trained)


def written_by_policy(steps: tuple[Step, ...]) -> str:
    return "".join(step.text for step in steps if step.author is Author.POLICY)


def test_what_is_trained_is_what_the_policy_wrote_though_tags_are_cut(
    base: Path, root: Path
) -> None:
    encoder = encoder_of(base, root)
    own = encoder.trajectory(trajectory(0), trains_world=False)
    world = encoder.trajectory(trajectory(0), trains_world=True)
    assert own is not None and world is not None
    assert trained_text(base, own) == written_by_policy(STEPS) + END
    assert SHOWN in trained_text(base, world)
    assert SHOWN not in trained_text(base, own)
    assert encoder.rows.counts == {"kept": 2}


def test_the_sides_of_a_pair_follow_the_same_ids(base: Path, root: Path) -> None:
    encoder = encoder_of(base, root)
    example = encoder.pair(pair(0))
    assert example is not None
    decoder = PieceEncoder(load_tokenizer(str(base)))
    assert decoder.decode(example["prompt_ids"]).endswith(STEPS[0].text)
    assert decoder.decode(example["chosen_ids"]) == protocol.render(STEPS[1:]) + END
    assert decoder.decode(example["rejected_ids"]).startswith("Maybe Ångström.")


@pytest.mark.long
def test_a_chain_runs_on_it_with_its_own_chat_template(project: Path, base: Path) -> None:
    assert str(base) in main(["stage=pretrain"])
    for stage in ("sft1", "sft2", "sft3"):
        assert "2 steps on 10 rows" in main([f"stage={stage}"])
    assert (project / "data/train/sft3/model.safetensors").is_file()


def test_a_base_that_reads_less_than_rows_may_have_is_refused_before_it_is_copied(
    project: Path,
) -> None:
    with pytest.raises(ConfigError, match="context is too short") as refused:
        main(["stage=pretrain", "train.max_context_tokens=257"])
    assert refused.value.details["what to do"].startswith("set train.max_context_tokens=256")
    assert not (project / "data/train/pretrain").exists()


def test_rft_refuses_an_empty_set_of_the_students_and_trains_without_it(project: Path) -> None:
    main(["stage=pretrain"])
    start = ["stage=rft", "train.rft.init=data/train/pretrain"]
    students = "data/student/assemble/coa"
    for split in ("train", "validation"):
        tables.write_table(Path(students, f"{split}.parquet"), GradedTrajectory, [])
    with pytest.raises(InputError, match="has no row") as empty:
        main([*start, f"train.rft.trajectories=[{SET},{students}]"])
    assert f"take {students} out of train.rft.trajectories" in empty.value.details["what to do"]
    assert "2 steps on 10 rows" in main(start)


def test_what_is_read_of_its_files_is_what_the_libraries_read(base: Path) -> None:
    assert read_window(base) == 256
