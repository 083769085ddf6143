"""List the formats that an export can have: who makes its rows, how it is loaded, what it loses."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coa.records import protocol
from data_cards.catalogue import HAS_TRAJECTORIES, SetName
from data_cards.formats import agent_logs, sharegpt, trainer_rows
from data_cards.formats.source import Source, Table
from data_cards.formats.tokenised import LEFT_OUT


class ExportFormat(StrEnum):
    """A form of the sets that another project reads."""

    LLAMAFACTORY = "llamafactory"
    """LLaMA-Factory: sharegpt; with a tokenizer also `tokenized_path`."""
    LLAMAFACTORY_CALLS = "llamafactory_calls"
    """LLaMA-Factory: sharegpt with `function_call` and `tools`."""
    TRL_MESSAGES = "trl_messages"
    """TRL's SFTTrainer: `messages` and `tools`."""
    TRL_COMPLETION = "trl_completion"
    """TRL's SFTTrainer: `prompt` and `completion`, a row for each turn."""
    TRL_PREFERENCE = "trl_preference"
    """TRL's DPOTrainer: `prompt`, `chosen`, `rejected`."""
    TRL_TOKENIZED = "trl_tokenized"
    """TRL's SFTTrainer: `input_ids` and `labels`; needs a tokenizer."""
    TRL_PROMPTS = "trl_prompts"
    """TRL's GRPOTrainer: `prompt`, and the gold answers for reward functions."""
    VERL_RL = "verl_rl"
    """verl and Search-R1: questions with gold answers for a rule."""
    VERL_SFT = "verl_sft"
    """verl's SFT trainer: `messages` and `tools`."""
    ATIF = "atif"
    """ATIF 1.8, Harbor's logs of agents."""
    ADP = "adp"
    """neulab's Agent Data Protocol: actions and observations."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an export does for a format."""

    path: str
    """The path of a file below `export.out`, for a set `{name}` and a `{split}`."""
    sets: tuple[SetName, ...]
    """The sets that it can hold."""
    table: Callable[[Source, SetName], Table] | None
    """Makes the rows of a set; None where there is nothing but token ids."""
    loading: str
    """A block of code that loads it, from the folder of the export."""
    loses: str
    """What the format cannot hold."""


_CALLS_LOST = (
    "Verbatim calls: a call is its tool and arguments, and the tags of the rollout are those of "
    f"the chat template. Thoughts stand between `{protocol.THINK_OPEN}` and "
    f"`{protocol.THINK_CLOSE}` in the content, where "
    "templates for models without thinking keep them; a template that drops the content of a "
    "message with a tool call, such as Llama 3.1's, drops them."
)
_CHAT_MASK = (
    "The mask is the chat template's: with `assistant_only_loss` all that the assistant says is "
    "learned, the end of each turn and a marker that the scaffold inserted too."
)

_LOG_MASK = (
    "Verbatim calls, and the mask of characters: a step is the agent's as a whole. Blanks around "
    "thoughts and results are stripped."
)


def _python(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def _yaml(text: str) -> str:
    return f"```yaml\n{text.strip()}\n```"


FORMATS: Mapping[ExportFormat, Target] = {
    ExportFormat.LLAMAFACTORY: Target(
        "llamafactory/{name}_{split}.jsonl",
        (SetName.COT_A, *HAS_TRAJECTORIES),
        sharegpt.conversations,
        _yaml(
            "dataset_dir: llamafactory\ndataset: coa_train   # or cot_train; cot_a_train for DPO\n"
            "# where export.tokenizer was set, token ids go before the dataset that is named:\n"
            "tokenized_path: llamafactory/tokenized"
        ),
        "The mask at borders: the chat template closes the assistant's turn before each result, "
        "and the opening of the thinking and inserted markers count as the model's text. "
        "`tokenized/` is exact and loses nothing but the names of the rows.",
    ),
    ExportFormat.LLAMAFACTORY_CALLS: Target(
        "llamafactory/{name}_calls_{split}.jsonl",
        HAS_TRAJECTORIES,
        sharegpt.calls,
        _yaml("dataset_dir: llamafactory\ndataset: coa_calls_train   # or cot_calls_train"),
        _CALLS_LOST,
    ),
    ExportFormat.TRL_MESSAGES: Target(
        "trl/messages/{name}_{split}.parquet",
        HAS_TRAJECTORIES,
        trainer_rows.trl_messages,
        _python("""
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("parquet", data_files="trl/messages/coa_train.parquet", split="train")
args = SFTConfig(assistant_only_loss=True, max_length=None)
trainer = SFTTrainer("Qwen/Qwen2.5-0.5B-Instruct", args, train_dataset=rows)
"""),
        f"{_CALLS_LOST} {_CHAT_MASK}",
    ),
    ExportFormat.TRL_COMPLETION: Target(
        "trl/completion/{name}_{split}.parquet",
        HAS_TRAJECTORIES,
        trainer_rows.completions,
        _python("""
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("parquet", data_files="trl/completion/coa_train.parquet", split="train")
args = SFTConfig(max_length=None)
trainer = SFTTrainer("Qwen/Qwen2.5-0.5B", args, train_dataset=rows)
"""),
        "One row is one turn, so the text before it is read again in each row. TRL ends each "
        "completion with the end token, also after a call, where a rollout continues. A token that "
        "spans the border of prompt and completion counts as completion.",
    ),
    ExportFormat.TRL_PREFERENCE: Target(
        "trl/preference/{split}.parquet",
        (SetName.COT_A,),
        trainer_rows.preferences,
        _python("""
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

rows = load_dataset("parquet", data_files="trl/preference/train.parquet", split="train")
args = DPOConfig(max_length=None)
trainer = DPOTrainer("Qwen/Qwen2.5-0.5B", args=args, train_dataset=rows)
"""),
        "Each side ends before its first search result: what follows is not compared. TRL ends "
        "each side with the end token, also after a call.",
    ),
    ExportFormat.TRL_TOKENIZED: Target(
        "trl/tokenized",
        HAS_TRAJECTORIES,
        None,
        _python("""
from datasets import load_from_disk
from trl import SFTConfig, SFTTrainer

rows = load_from_disk("trl/tokenized")["train"]
args = SFTConfig(max_length=None)
trainer = SFTTrainer("Qwen/Qwen2.5-0.5B", args, train_dataset=rows)
"""),
        "The names of the rows. Masks are exact: each piece with one author is encoded by itself.",
    ),
    ExportFormat.TRL_PROMPTS: Target(
        "trl/prompts/{split}.parquet",
        (SetName.RL,),
        trainer_rows.trl_prompts,
        _python("""
from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer


def is_in(completions, gold_answers, **_):
    pairs = zip(completions, gold_answers)
    return [float(any(gold in said[0]["content"] for gold in golds)) for said, golds in pairs]


rows = load_dataset("parquet", data_files="trl/prompts/train.parquet", split="train")
trainer = GRPOTrainer("Qwen/Qwen2.5-0.5B-Instruct", is_in, args=GRPOConfig(), train_dataset=rows)
"""),
        "The search: a trainer that is to search needs `tools` or an environment of its own.",
    ),
    ExportFormat.VERL_RL: Target(
        "verl/{split}.parquet",
        (SetName.RL,),
        trainer_rows.verl_prompts,
        _yaml("data:\n  train_files: verl/train.parquet\n  val_files: verl/validation.parquet"),
        "The types of the questions and their hops.",
    ),
    ExportFormat.VERL_SFT: Target(
        "verl/sft/{name}_{split}.parquet",
        HAS_TRAJECTORIES,
        trainer_rows.verl_messages,
        _yaml(
            "data:\n  train_files: verl/sft/coa_train.parquet\n"
            "  val_files: verl/sft/coa_validation.parquet\n  messages_key: messages\n"
            "  tools_key: tools\n  max_length: 8192"
        ),
        f"{_CALLS_LOST} verl learns each message of the assistant without the template's opening "
        "of the turn. `tools` is left out where tools differ in their parameters, because verl "
        "reads no JSON text there.",
    ),
    ExportFormat.ATIF: Target(
        "atif/{name}/{split}.jsonl",
        HAS_TRAJECTORIES,
        agent_logs.atif,
        _python("""
from pathlib import Path

from harbor.models.trajectories import Trajectory

with Path("atif/coa/train.jsonl").open(encoding="utf-8") as lines:
    rows = [Trajectory.model_validate_json(line) for line in lines]
"""),
        f"{_LOG_MASK} The agent's version is the hash of its prompt.",
    ),
    ExportFormat.ADP: Target(
        "adp/{name}/{split}.jsonl",
        HAS_TRAJECTORIES,
        agent_logs.adp,
        _python("""
from pathlib import Path

from schema.trajectory import Trajectory  # a checkout of neulab/agent-data-protocol

with Path("adp/coa/train.jsonl").open(encoding="utf-8") as lines:
    rows = [Trajectory.model_validate_json(line) for line in lines]
"""),
        f"{_LOG_MASK} The tools that were offered.",
    ),
}
README = "README.md"
HEADING = "# Sets for other trainers"
"""The first line of an export's README.md."""


def own_files() -> str:
    """Make the regular expression for the path of every file that an export may hold."""
    patterns = [
        re.escape(README),
        re.escape(f"llamafactory/{sharegpt.INFO}"),
        rf"(llamafactory|trl)/{re.escape(LEFT_OUT)}",
        r"(llamafactory|trl)/tokenized/dataset_dict\.json",
        r"(llamafactory|trl)/tokenized/{split}/((data|cache)-[\w-]+\.arrow|dataset_info\.json)",
        r"(llamafactory|trl)/tokenized/{split}/state\.json",
    ]
    for target in FORMATS.values():
        path = re.escape(target.path).replace(r"\{", "{").replace(r"\}", "}")
        patterns.append(path.replace("{name}", f"({'|'.join(target.sets)})"))
    return "|".join(patterns).replace("{split}", "(train|validation)")


def readme(formats: Sequence[ExportFormat], splits: Mapping[SetName, Sequence[str]]) -> str:
    """Write the page that says how each format of an export is loaded, and what it loses."""
    written = ", ".join(f"`{name}` ({', '.join(there)})" for name, there in splits.items())
    parts = [
        f"{HEADING}\n\nPaths are relative to this folder. It holds {written}, each "
        "as far as a format takes it; in an example that names another set, put one of these, and "
        "leave out a split that is not there."
    ]
    for name in formats:
        target = FORMATS[name]
        parts.append(f"## {name}\n\n{target.loading}\n\nWhat it loses: {target.loses}")
    return "\n\n".join(parts) + "\n"
