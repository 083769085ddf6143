"""Export a small run: LLaMA-Factory's and verl's rules hold for every row, and no text is lost."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import InputError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.tokens import PieceEncoder
from coa.records.trajectory import Author
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.export import main
from data_cards.formats.tokenised import tokenised_row

datasets = pytest.importorskip("datasets")
ODD, EVEN = {"human", "observation"}, {"gpt", "function_call"}


@pytest.fixture(scope="module")
def exported(
    small_run: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Export a small run, with token ids of a small tokenizer; the run is the current folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("export")
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    model = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<end>").save_pretrained(
        folder / "bytes"
    )
    with pytest.MonkeyPatch.context() as context:
        context.chdir(small_run)
        main(
            [
                f"out={folder / 'out'}",
                f"prompt={root / 'train/prompts/question.txt'}",
                f"tokenizer={folder / 'bytes'}",
            ]
        )
        yield folder


def lines(exported: Path, name: str) -> list[dict[str, Any]]:
    path = exported / "out/llamafactory" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def roles_alternate(turns: list[dict[str, str]]) -> bool:
    """LLaMA-Factory's own rule; it skips every row that breaks it."""
    return all(turn["from"] in (ODD, EVEN)[place % 2] for place, turn in enumerate(turns))


def test_no_text_is_lost_and_no_search_result_is_the_models(exported: Path) -> None:
    rows = {row["id"]: row["conversations"] for row in lines(exported, "coa_train")}
    for row in tables.read_table(local_path(SetName.COA, "train"), GradedTrajectory):
        it = row.trajectory
        turns = rows[it.trajectory_id]
        assert turns[0] == {"from": "human", "value": f"Question: {it.question}"}
        own = "".join(turn["value"] for turn in turns if turn["from"] == "gpt")
        assert own == f"{protocol.THINK_OPEN}\n" + "".join(
            step.text for step in it.steps if step.author is Author.POLICY
        )
        shown = [turn["value"] for turn in turns if turn["from"] == "observation"]
        assert shown == [
            step.text.strip() for step in it.steps if step.author is Author.ENVIRONMENT
        ]


@pytest.mark.parametrize("name", ["cot_a_train", "cot_a_validation"])
def test_every_pair_is_ranked_after_a_human_or_an_observation(exported: Path, name: str) -> None:
    pairs = {
        pair.pair_id: pair
        for pair in tables.read_table(local_path(SetName.COT_A, name[6:]), PreferencePair)
    }
    found = lines(exported, name)
    assert {row["id"] for row in found} == set(pairs)
    for row in found:
        assert roles_alternate(row["conversations"]) and len(row["conversations"]) % 2 == 1
        assert row["chosen"]["from"] == row["rejected"]["from"] == "gpt"
        texts = [row[side]["value"] for side in ("chosen", "rejected")]
        assert texts[0] != texts[1]
        assert (
            sum("search" in text and text.endswith(protocol.close_tag("search")) for text in texts)
            == 1
        )
        assert not any("_result" in text for text in texts)


def test_token_ids_load_as_llama_factory_loads_them_and_train_the_policys_text_alone(
    exported: Path,
) -> None:
    from transformers import AutoTokenizer

    found = datasets.load_from_disk(str(exported / "out/llamafactory/tokenized"))
    encoder = PieceEncoder(AutoTokenizer.from_pretrained(exported / "bytes"))
    rows = [
        row.trajectory
        for name in (SetName.COA, SetName.COT)
        for row in tables.read_table(local_path(name, "train"), GradedTrajectory)
    ]
    assert set(found) == {"train", "validation"}
    for row, it in zip(found["train"], rows, strict=True):
        assert len(row["input_ids"]) == len(row["labels"]) == len(row["attention_mask"])
        assert all(
            label in (-100, token)
            for label, token in zip(row["labels"], row["input_ids"], strict=True)
        )
        learned = encoder.decode([label for label in row["labels"] if label != -100])
        assert (
            learned
            == "".join(step.text for step in it.steps if step.author is Author.POLICY) + "<end>"
        )


class Forgetful(PieceEncoder):
    """Decodes less than there is.

    A tokenizer with a lossy decoder would do so after the text itself was checked.
    """

    def decode(self, ids: Any) -> str:
        text = super().decode(ids)
        return text if protocol.THINK_OPEN in text else text[1:]


def test_a_label_that_is_not_the_policys_text_is_an_error(exported: Path) -> None:
    from transformers import AutoTokenizer

    row = next(tables.read_table(local_path(SetName.COA, "train"), GradedTrajectory))
    prompt = f"Question: ?\n{protocol.THINK_OPEN}\n"
    tokenizer = AutoTokenizer.from_pretrained(exported / "bytes")
    assert tokenised_row(row.trajectory, prompt, PieceEncoder(tokenizer), None)["labels"]
    with pytest.raises(InputError, match="the labels are not the policy's text"):
        tokenised_row(row.trajectory, prompt, Forgetful(tokenizer), None)


def export_tokens(exported: Path, root: Path, out: Path, *settings: str) -> str:
    prompt = f"prompt={root / 'train/prompts/question.txt'}"
    return main([f"out={out}", prompt, f"tokenizer={exported / 'bytes'}", *settings])


def test_rows_that_are_too_long_are_left_out_counted_and_named(
    exported: Path, root: Path, tmp_path: Path
) -> None:
    summary = export_tokens(exported, root, tmp_path / "out", "max_tokens=400")
    count = int(summary.rpartition(" llamafactory/tokenized/train")[0].rpartition(" ")[2])
    assert 0 < count < 26
    file = tmp_path / "out/llamafactory/tokenized_left_out.jsonl"
    left_out = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert f"{len(left_out)} left out as too_long ({file.name})" in summary
    ids = {
        row.trajectory.trajectory_id
        for name in (SetName.COA, SetName.COT)
        for row in tables.read_table(local_path(name, "train"), GradedTrajectory)
    }
    named = {row["row_id"] for row in left_out if row["split"] == "train"}
    assert named <= ids
    assert len(named) + count == len(ids)
    assert all(int(row["detail"].removesuffix(" tokens")) > 400 for row in left_out)


def test_a_row_whose_text_the_tokenizer_changes_is_left_out_and_named(
    small_run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that folds to NFC, as Qwen's does, and one passage with other text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    model = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    model.normalizer = normalizers.NFC()
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    folding = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<end>")
    folding.save_pretrained(tmp_path / "bytes")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_run / "data/assemble", "data/assemble")
    shutil.copy2(small_run / "params.yaml", tmp_path)
    path = local_path(SetName.COA, "train")
    first, *rest = tables.read_table(path, GradedTrajectory)
    steps = tuple(
        replace(step, text=step.text.replace(". ", ". Cafe\u0301. ", 1))
        for step in first.trajectory.steps
    )
    odd = replace(first, trajectory=replace(first.trajectory, steps=steps))
    tables.write_table(path, GradedTrajectory, [odd, *rest])
    export_tokens(tmp_path, root, tmp_path / "out", "max_tokens=100000")
    lines = Path("out/llamafactory/tokenized_left_out.jsonl").read_text(encoding="utf-8")
    (left_out,) = map(json.loads, lines.splitlines())
    assert left_out["row_id"] == first.trajectory.trajectory_id
    assert left_out["reason"] == "text_changed"


def test_an_export_is_replaced_whole_and_one_that_fails_leaves_the_older(
    exported: Path, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_tokens(exported, root, out, "max_tokens=400")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError):
        export_tokens(exported, root, out, "max_tokens=10")
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert before == after
    main([f"out={out}", f"prompt={root / 'train/prompts/question.txt'}"])
    assert not (out / "llamafactory/tokenized").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
