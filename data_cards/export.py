"""Write the sets for other trainers: the same rows, in LLaMA-Factory's formats and in verl's.

    python -m data_cards.export
    python -m data_cards.export tokenizer=Qwen/Qwen2.5-7B-Instruct

Writes below data/export/:

llamafactory/dataset_info.json    names the files below to LLaMA-Factory (`dataset_dir`)
llamafactory/{set}_{split}.jsonl  `coa`, `cot`: sharegpt; `cot_a`: sharegpt with `ranking`
llamafactory/tokenized/           `coa` and `cot` for `tokenized_path`, where a tokenizer is named:
                                  the labels train the policy's text alone
llamafactory/tokenized_left_out.jsonl  the rows that it does not hold, each with the reason
verl/{split}.parquet              `rl`: questions with their gold answers for a rule

Only sets that were built are written, or those of them that `sets` names.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from coa import tables
from coa.errors import InputError
from coa.output_folder import OwnFolder, replace_folder
from coa.params import Params
from coa.prompts import Prompt
from coa.question import Question
from coa.sets import AssembleParams
from data_cards.catalogue import SPLITS, SetName, built_sets, local_path
from data_cards.formats.parquet_rows import write_rows
from data_cards.formats.sharegpt import asked, write_llamafactory
from data_cards.formats.tokenised import write_tokenised

OWN_FOLDER = OwnFolder(
    "python -m data_cards.export",
    "llamafactory/dataset_info.json",
    r"llamafactory/(dataset_info\.json|(cot_a|coa|cot)_(train|validation)\.jsonl)"
    r"|llamafactory/(tokenized/dataset_dict\.json|tokenized_left_out\.jsonl)"
    r"|llamafactory/tokenized/(train|validation)"
    r"/((data|cache)-[\w-]+\.arrow|dataset_info\.json|state\.json)"
    r"|verl/(train|validation)\.parquet",
)
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_GROUND_TRUTH = pa.struct([("target", pa.list_(pa.string()))])
_REWARD_MODEL = pa.struct([("style", pa.string()), ("ground_truth", _GROUND_TRUTH)])
_EXTRA_INFO = pa.struct(
    [("split", pa.string()), ("index", pa.int64()), ("question_id", pa.string())]
)
_VERL = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(_MESSAGE)),
        ("ability", pa.string()),
        ("reward_model", _REWARD_MODEL),
        ("extra_info", _EXTRA_INFO),
    ]
)


@dataclass(frozen=True, slots=True)
class ExportParams:
    """What other trainers are given."""

    sets: tuple[SetName, ...] = ()
    """The sets to write; empty: all that were built."""
    out: str = "data/export"
    """The folder to write: a new one, or one that this command made, which is replaced."""
    prompt: str = "train/prompts/question.txt"
    """The prompt that the model is asked with; the teacher's longer prompt is not learned."""
    tokenizer: str = ""
    """A folder or a name on the Hub, for `tokenized_path`; empty: none is written."""
    chat_template: str = "{prompt}\n\n"
    """The text around `{prompt}` in `tokenized_path`, up to where the model's own text begins.

    Elsewhere the trainer's own template holds.
    """
    max_tokens: int = 8192
    """Longer rows are left out of `tokenized_path`, and named in tokenized_left_out.jsonl."""


def verl_row(question: Question, prompt: str, split: str, index: int) -> dict[str, Any]:
    """Make verl's row of a question for rule-based rewards, with gold answers as in Search-R1."""
    return {
        "data_source": question.source or "unknown",
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": list(question.gold_answers)}},
        "extra_info": {"split": split, "index": index, "question_id": question.question_id},
    }


def write_verl(folder: Path, prompt: Prompt) -> dict[str, int]:
    """Write the questions of the RL set and return the number of rows by file.

    Raises:
        InputError: the set is missing or broken.
    """
    counts = {}
    for split in SPLITS:
        rows = _verl_rows(split, prompt)
        counts[f"verl/{split}"] = write_rows(folder / f"{split}.parquet", _VERL, rows)
    return counts


def _verl_rows(split: str, prompt: Prompt) -> Iterator[dict[str, Any]]:
    questions = tables.read_table(local_path(SetName.RL, split), Question)
    for index, question in enumerate(questions):
        yield verl_row(question, asked(prompt, question.question), split, index)


def main(arguments: Sequence[str]) -> str:
    """Export the sets and return the summary line."""
    settings = Params.load("export", arguments)
    params = settings.section(ExportParams)
    names = chosen_sets(params, built_sets(settings.section(AssembleParams, "assemble")))
    out = Path(params.out)
    with replace_folder(out, OWN_FOLDER) as folder:
        counts = write_all(folder, names, params)
    sizes = [f"{count:,} {name}" for name, count in counts.items()]
    return f"{out}: {', '.join(sizes)}"


def chosen_sets(params: ExportParams, built: Sequence[SetName]) -> list[SetName]:
    """Choose the sets to write, in their order.

    Raises:
        InputError: no set was built, or one that is asked for was not.
    """
    wanted = params.sets or built
    missing = [name for name in wanted if name not in built]
    if missing or not built:
        raise InputError(
            f"the set '{missing[0]}' was not built" if missing else "no set was built",
            where="export.sets",
            expected=f"of the sets of this run: {', '.join(built) or 'none'}",
            fix="see section `assemble` and the last line of python -m curate.assemble",
        )
    return [name for name in built if name in wanted]


def write_all(folder: Path, names: Sequence[SetName], params: ExportParams) -> dict[str, int]:
    """Write every format into an empty folder and return the number of rows by file.

    Raises:
        InputError: a set is missing or broken, or no row fits.
        ConfigError: the prompt or the tokenizer cannot be used.
    """
    plain = Prompt.load(Path(params.prompt), "{prompt}")
    trainer = folder / "llamafactory"
    trainer.mkdir()
    counts = write_llamafactory(trainer, names, plain)
    if SetName.RL in names:
        counts |= write_verl(folder / "verl", plain)
    if params.tokenizer:
        from coa.policy.local import load_tokenizer

        prompt = Prompt.load(Path(params.prompt), params.chat_template)
        tokenizer = load_tokenizer(params.tokenizer)
        counts |= write_tokenised(trainer, names, tokenizer, prompt, params.max_tokens)
    return counts


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
