r"""Rewrite trajectories with foreign tags in our own tags, so that a policy can be trained on them.

Only our tags are added. Thoughts, arguments, observations and the answer are the foreign ones,
neutralised.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from coa.foreign.frames import bare_observation, bare_thought, prediction
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.grading import boxed_answer, normalise
from coa.records.trajectory import Author, Outcome, Step, StepKind, Trajectory
from coa.records.unreadable import UnreadableError, UnreadableReason
from coa.tools.model_context import tag_name

_ANSWER_OPEN = f"{protocol.THINK_CLOSE}\n\n\\boxed{{"
"""The text before an answer. It differs from the scaffold's marker, because that would be read as a
forced answer after a line break."""
_BACKSLASH = "\N{FULLWIDTH REVERSE SOLIDUS}"
"""Replaces a backslash in an answer, where TeX would read a command. The grader takes the two signs
for the same."""
_TEX = str.maketrans({"\\": _BACKSLASH, "{": r"\{", "}": r"\}", "$": r"\$"})


def to_own_tags(trajectory: Trajectory, prompt: Prompt | None = None) -> Trajectory:
    r"""Render an ingested trajectory with `coa.records.protocol`.

    Token counts become counts of words. The scaffold's labels and all text after the answer are
    dropped; the answer goes into a box. Without a `prompt` only the question precedes the opening
    of the thinking. One law holds: `parse(render(steps))` gives the steps again, except for
    outcomes and passages.
    """
    if prompt:
        text = prompt.fill(trajectory.question)
        prompt_hash = prompt.prompt_hash
    else:
        harmless = " ".join(protocol.neutralise(trajectory.question).split())
        text = f"{harmless}\n\n{protocol.THINK_OPEN}\n"
        prompt_hash = ""
    steps = tuple(_converted(trajectory.steps))
    return replace(
        trajectory,
        prompt=text,
        steps=steps,
        prompt_hash=prompt_hash,
        num_prompt_tokens=len(text.split()),
        num_policy_tokens=count_words(steps, Author.POLICY),
        num_environment_tokens=count_words(steps, Author.ENVIRONMENT),
    )


def rewrite(trajectory: Trajectory, prompt: Prompt) -> Trajectory:
    """Render an ingested trajectory in our tags, and check that they say the same.

    Raises:
        UnreadableError: read back, the text gives other steps or another answer, or a tag of ours
            is where it could act.
    """
    if any(step.text == protocol.ANSWER_MARKER for step in trajectory.steps):
        raise UnreadableError(UnreadableReason.NOT_REWRITTEN, 0, "the answer was forced")
    own = to_own_tags(trajectory, prompt)
    fault = _fault(own.steps, prediction(trajectory.steps) or "")
    if fault:
        raise UnreadableError(UnreadableReason.NOT_REWRITTEN, 0, fault)
    return own


def _fault(own: tuple[Step, ...], answer: str) -> str:
    """Say what is lost in our tags; empty where nothing is."""
    stray = protocol.stray_tags(own)
    if stray:
        return f"a tag out of place: {stray[0]}"
    read_back = protocol.parse(protocol.render(own))
    for number, (step, read) in enumerate(zip_longest(own, read_back), 1):
        if _essence(step) != _essence(read):
            written = "nothing" if step is None else f"{step.kind} {step.text[:80]!r}"
            return f"step {number} is read back as another one: {written}"
    boxed = boxed_answer(protocol.answer_text(own)) or ""
    if normalise(boxed) != normalise(protocol.neutralise(answer).strip()):
        return f"the answer {answer[:80]!r} is read back as {boxed[:80]!r}"
    return ""


def _essence(step: Step | None) -> tuple[StepKind, Author, str] | None:
    """Return what a text keeps of a step; outcomes and passages are in the record alone."""
    return (step.kind, step.author, step.text) if step else None


def count_words(steps: Iterable[Step], author: Author) -> int:
    """Count the words that `author` wrote, for the token columns where no tokens were recorded."""
    return sum(len(step.text.split()) for step in steps if step.author is author)


def _converted(foreign: tuple[Step, ...]) -> Iterator[Step]:
    """Give the steps in our tags, up to the answer; thoughts that follow each other are one."""
    thoughts: list[str] = []
    for step in foreign:
        if step.kind is StepKind.THOUGHT:
            thoughts.append(bare_thought(step.text))
            continue
        if step.kind is not StepKind.MARKER:
            yield from _thought(thoughts)
            thoughts = []
        if step.kind is StepKind.ACTION:
            yield _action(step)
        elif step.kind is StepKind.OBSERVATION:
            body = bare_observation(step.text, step.tool)
            tool = tag_name(step.tool or "")
            yield protocol.observation(tool, body, step.outcome or Outcome.OK, step.passages)
        elif step.kind is StepKind.ANSWER:
            answer = protocol.neutralise(prediction([step]) or "").strip().translate(_TEX)
            yield replace(step, text=f"{_ANSWER_OPEN}{answer}}}")
            return


def _thought(pieces: Sequence[str]) -> Iterator[Step]:
    """Give the pieces of a thought as one step, with a blank line where two words would meet."""
    thought = ""
    for piece in pieces:
        if thought and piece and not thought[-1].isspace() and not piece[0].isspace():
            thought += "\n\n"
        thought += piece
    if not thought:
        return
    text = protocol.neutralise(thought)
    original = thought if text != thought else None
    yield Step(StepKind.THOUGHT, Author.POLICY, text, transcribed=original)


def _action(step: Step) -> Step:
    tool = tag_name(step.tool or "")
    argument = protocol.neutralise(step.argument or "").strip()
    text = f"{protocol.open_tag(tool)} {argument} {protocol.close_tag(tool)}"
    return replace(step, text=text, tool=tool, argument=argument)
