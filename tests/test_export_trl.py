"""TRL trains a step on each form that is exported for it, and its loss is the one counted by hand.

The code that is run is that of the export's README.md, with a tiny model in the place of the one
that it names.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.trajectory import Author, StepKind, Trajectory
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.export import main
from tests.export_support import END, Segments, loss_by_hand, save_chat_model

pytest.importorskip("trl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quiet_bars"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),  # TRL's own
]
FORMS = "trl_messages,trl_completion,trl_preference,trl_tokenized,trl_prompts"
MODEL = re.compile(r'"Qwen/[\w.-]+"')
ARGUMENTS = (
    'output_dir="out", use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", '
    'save_strategy="no", max_steps=1, logging_steps=1, learning_rate=0.0, disable_tqdm=True, '
    "per_device_train_batch_size=2, "
)


@pytest.fixture(scope="module")
def exported(
    small_run: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Export a small run for TRL, beside a tiny chat model; the run is the current folder."""
    folder = tmp_path_factory.mktemp("trl")
    save_chat_model(folder / "model", "qwen2_5")
    prompt = root / "train/prompts/question.txt"
    with pytest.MonkeyPatch.context() as context:
        context.chdir(small_run)
        main(
            [
                f"format=[{FORMS}]",
                f"out={folder / 'out'}",
                f"prompt={prompt}",
                f"tokenizer={folder / 'model'}",
            ]
        )
        yield folder


def trained(
    exported: Path, form: str, folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = ""
) -> Any:
    """Run the README's code for a form on two rows and the tiny model; train a step."""
    page = (exported / "out/README.md").read_text(encoding="utf-8")
    code = page.split(f"## {form}\n")[1].split("```python\n")[1].split("```")[0]
    code = MODEL.sub(repr(str(exported / "model")), code)
    code = re.sub(r"(SFTConfig|DPOConfig|GRPOConfig)\(", rf"\1({ARGUMENTS}{more}", code)
    code = code.replace('output_dir="out"', f"output_dir={str(folder)!r}")
    code = re.sub(r"^rows = .*$", r"\g<0>\nrows = rows.select([0, 1])", code, flags=re.MULTILINE)
    monkeypatch.chdir(exported / "out")
    namespace: dict[str, Any] = {}
    exec(compile(code, form, "exec"), namespace)
    trainer = namespace["trainer"]
    trainer.train()
    return trainer


def loss_of(trainer: Any) -> float:
    return float(trainer.state.log_history[0]["loss"])


def trajectories(small_run: Path) -> list[Trajectory]:
    """Read the first two trajectories of the train split."""
    rows = tables.read_table(small_run / local_path(SetName.COA, "train"), GradedTrajectory)
    return [row.trajectory for row in islice(rows, 2)]


def opening(question: str) -> str:
    """Write the prompt up to where the policy's text begins."""
    return f"Question: {question}\n\n<think>\n"


def chat_segments(trajectory: Trajectory, tokenizer: Any, tools: str) -> Segments:
    """Write a trajectory in Qwen2.5's form by hand: what the assistant says is learned."""
    asked = [{"role": "user", "content": f"Question: {trajectory.question}"}]
    head = tokenizer.apply_chat_template(asked, tools=json.loads(tools), tokenize=False)
    segments = [(head, False), ("<|im_start|>assistant", False)]
    thought = ""
    for step in trajectory.steps:
        if step.kind is StepKind.THOUGHT:
            thought = f"\n<think>\n{step.text.strip()}\n</think>"
        elif step.kind is StepKind.ACTION:
            call = f'{{"name": "search", "arguments": {json.dumps({"query": step.argument})}}}'
            said = f"{thought}\n<tool_call>\n{call}\n</tool_call>{END}\n"
            segments.append((said, True))
            thought = ""
        elif step.kind is StepKind.OBSERVATION:
            body = step.text.strip()
            body = body.removeprefix("<search_result>").removesuffix("</search_result>").strip()
            shown = f"<|im_start|>user\n<tool_response>\n{body}\n</tool_response>{END}\n"
            segments += [(shown, False), ("<|im_start|>assistant", False)]
        else:
            answer = step.text.removeprefix("</think>").strip()
            segments.append((f"{thought}\n\n{answer}{END}\n", True))
    return segments


def test_messages_learn_what_the_assistant_says(
    exported: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained(exported, "trl_messages", tmp_path, monkeypatch)
    tokenizer = trainer.processing_class
    tools = trainer.train_dataset[0]["tools"]
    rows = [chat_segments(it, tokenizer, tools) for it in trajectories(small_run)]
    assert any(len(row) > 3 for row in rows)
    assert loss_of(trainer) == pytest.approx(loss_by_hand(trainer.model, tokenizer, rows), rel=1e-4)


def test_completions_learn_a_turn_each(
    exported: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained(exported, "trl_completion", tmp_path, monkeypatch)
    rows: list[Segments] = []
    for trajectory in trajectories(small_run):
        before = opening(trajectory.question)
        own = ""
        for step in trajectory.steps:
            if step.author is Author.POLICY:
                own += step.text
                continue
            rows.append([(before, False), (own + END, True)])
            before += own + step.text
            own = ""
        rows.append([(before, False), (own + END, True)])
    found = loss_by_hand(trainer.model, trainer.processing_class, rows[:2])
    assert loss_of(trainer) == pytest.approx(found, rel=1e-4)


def test_token_ids_learn_the_policys_text_alone(
    exported: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained(exported, "trl_tokenized", tmp_path, monkeypatch)
    rows: list[Segments] = []
    for trajectory in trajectories(small_run):
        segments = [(opening(trajectory.question), False)]
        for step in trajectory.steps:
            segments.append((step.text, step.author is Author.POLICY))
        rows.append([*segments, (END, True)])
    found = loss_by_hand(trainer.model, trainer.processing_class, rows)
    assert loss_of(trainer) == pytest.approx(found, rel=1e-4)


def test_preferences_compare_the_sides_up_to_their_first_search_result(
    exported: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained(exported, "trl_preference", tmp_path, monkeypatch)
    path = small_run / local_path(SetName.COT_A, "train")
    chosen = []
    for pair in islice(tables.read_table(path, PreferencePair), 2):
        before = opening(pair.question) + "".join(step.text for step in pair.prefix)
        own = ""
        for step in pair.chosen:
            if step.kind is StepKind.OBSERVATION:
                break
            own += step.text
        row = [(before, False), (own + END, True)]
        mean = loss_by_hand(trainer.model, trainer.processing_class, [row])
        chosen.append(-mean * len(own.encode()) - mean)
    assert loss_of(trainer) == pytest.approx(math.log(2), rel=1e-4)  # DPO begins at log 2
    logged = trainer.state.log_history[0]["logps/chosen"]
    assert logged == pytest.approx(sum(chosen) / 2, rel=1e-4)


def test_grpo_asks_the_prompts_and_hands_on_the_gold_answers(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = "num_generations=2, max_completion_length=4, "
    trainer = trained(exported, "trl_prompts", tmp_path, monkeypatch, few)
    assert trainer.state.log_history[0]["rewards/is_in/mean"] == 0.0
