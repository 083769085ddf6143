"""How a new student's tokenizer writes a tag after a space: as two tokens, or as one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from coa.policy.local.model import LocalEncoder, load_tokenizer
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.question import Question
from coa.records.tokens import PieceEncoder, Tokenised, tokenise
from coa.records.trajectory import Author, Mode, Outcome, Sampling, Step, StepKind
from coa.rollout.loop import Limits, RolloutContext, Task, start
from coa.student.small import word_tokenizer
from tests.sample_records import make_pair, make_trajectory
from train.encode import Encoder

PROMPT = "Question: who?\n\n<think>\n"
THOUGHT = "I need the mayor of Port Velden. "
CALL = "<begin_search> Port Velden mayor </end_search>"
STEPS = (
    Step(StepKind.THOUGHT, Author.POLICY, THOUGHT),
    Step(StepKind.ACTION, Author.POLICY, CALL, "search", "Port Velden mayor"),
    protocol.observation("search", "result 1: Port Velden elected Jade Nash.", Outcome.OK),
    Step(StepKind.THOUGHT, Author.POLICY, "It says Jade Nash.\n"),
    Step(StepKind.ANSWER, Author.POLICY, "</think>\n\n\\boxed{Jade Nash}"),
)
TEXT = PROMPT + protocol.render(STEPS)


def make_tokenizer(folder: Path, *, joins_space: bool) -> Any:
    """Make the tokenizer of a student, as it is after it was saved and loaded."""
    made = word_tokenizer([TEXT], 512, ("search", "calculate"), joins_space=joins_space)
    made.save_pretrained(folder)
    return load_tokenizer(str(folder))


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_tokenizer(tmp_path_factory.mktemp("joined"), joins_space=True)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_tokenizer(tmp_path_factory.mktemp("apart"), joins_space=False)


def tokens_of(tokenizer: Any, tokens: Tokenised) -> list[str]:
    return [tokenizer.decode([token]) for token in tokens.ids]


def whole_text(tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(TEXT, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", ["joined", "apart"])
def test_pieces_give_the_ids_of_the_whole_text(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    encoder = PieceEncoder(tokenizer)
    tokens = tokenise(PROMPT, STEPS, encoder)
    assert tokens.ids == whole_text(tokenizer)
    assert encoder.decode(tokens.ids) == TEXT


def test_masks_are_exact_with_joined_spaces(joined: Any) -> None:
    encoder = PieceEncoder(joined)
    tokens = tokenise(PROMPT, STEPS, encoder)

    def masked(mask: tuple[bool, ...]) -> str:
        kept = [token for token, is_kept in zip(tokens.ids, mask, strict=True) if is_kept]
        return encoder.decode(kept)

    own = [step.text for step in STEPS if step.author is Author.POLICY]
    assert masked(tokens.loss_mask) == "".join(own)
    shown = STEPS[2].text.removeprefix("\n<search_result>").removesuffix("\n")
    assert masked(tokens.world_mask) == "".join([*own[:2], shown, *own[2:]])


def test_a_space_of_the_shared_prefix_stays_in_it(joined: Any) -> None:
    question = Question("q", "who?", ("Jade Nash",), "train")
    pair = make_pair(make_trajectory(question, STEPS), STEPS[1:], STEPS[3:])
    encoder = Encoder(joined, Prompt(PROMPT.replace("who?", "{question}"), "p"), 512)
    ends_in_space = encoder.pair(replace(pair, prefix=STEPS[:1]))
    assert ends_in_space is not None
    assert joined.decode(ends_in_space["prompt_ids"]).endswith(THOUGHT)
    assert joined.decode(ends_in_space["chosen_ids"]).startswith(CALL)
    before_space = replace(STEPS[0], text=THOUGHT.rstrip())
    space = replace(STEPS[0], text=" ")
    sides = replace(pair, prefix=(before_space,), chosen=(space, *STEPS[1:]))
    example = encoder.pair(sides)
    assert example is not None
    assert joined.decode(example["chosen_ids"][:1]) == " <begin_search>"
    assert example["chosen_mask"][0] == 1


def test_a_rollout_from_a_prefix_has_the_ids_that_training_has(joined: Any) -> None:
    prefix = STEPS[:3]
    task = Task("q/coa/0", "q", Mode.COA, 0, "who?", PROMPT, "hash", ("search",), prefix=prefix)
    encoder = LocalEncoder(joined, name="student")
    state = start(task, RolloutContext(encoder, Sampling(), Limits()))
    assert state.ids == tokenise(PROMPT, prefix, PieceEncoder(joined)).ids
    assert state.context == PROMPT + protocol.render(prefix)


def test_an_inserted_trigger_keeps_the_space_that_it_brings(joined: Any) -> None:
    before = replace(STEPS[0], text=THOUGHT.rstrip())
    tokens = tokenise(
        PROMPT,
        (before, protocol.marker(" <begin_search>", "search")),
        PieceEncoder(joined),
    )
    assert tokens_of(joined, tokens)[-1] == " <begin_search>"
    assert not tokens.loss_mask[-1]
