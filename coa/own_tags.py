r"""Trajectories with foreign tags into the same trajectories in ours, fit to be trained on.

Nothing is added but our tags: thoughts, arguments, observations and the answer are the foreign ones, neutralised.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from coa import protocol
from coa.dialects import bare_observation, bare_thought, prediction
from coa.prompts import Prompt
from coa.trajectory import Author, Outcome, Step, StepKind, Trajectory

_ANSWER_OPEN = f"{protocol.THINK_CLOSE}\n\n\\boxed{{"
"""Not the words of the scaffold's marker: after a line break they would read as a forced answer."""
_BACKSLASH = "\N{FULLWIDTH REVERSE SOLIDUS}"
"""Stands for a backslash in an answer, where TeX would read it as a command; the grader takes the two for one."""
_TEX = str.maketrans({"\\": _BACKSLASH, "{": r"\{", "}": r"\}", "$": r"\$"})


def to_own_tags(trajectory: Trajectory, prompt: Prompt | None = None) -> Trajectory:
    r"""Re-render an ingested trajectory with `coa.protocol`; counts become words of the new text.

    The scaffold's labels and the verdict after the answer fall away; the answer goes into a box. Without a `prompt` the
    question alone stands before the opened thinking. Law: `parse(render(steps))` gives the steps again, but for
    outcomes and passages.
    """
    harmless = " ".join(protocol.neutralise(trajectory.question).split())
    text = prompt.fill(trajectory.question) if prompt else f"{harmless}\n\n{protocol.THINK_OPEN}\n"
    steps = tuple(_converted(trajectory.steps))
    return replace(
        trajectory,
        prompt=text,
        steps=steps,
        prompt_hash=prompt.prompt_hash if prompt else "",
        num_prompt_tokens=len(text.split()),
        num_policy_tokens=count_words(steps, Author.POLICY),
        num_environment_tokens=count_words(steps, Author.ENVIRONMENT),
    )


def count_words(steps: Iterable[Step], author: Author) -> int:
    """Words that `author` wrote: what stands in the token columns where nobody recorded the tokens."""
    return sum(len(step.text.split()) for step in steps if step.author is author)


def _converted(foreign: tuple[Step, ...]) -> Iterator[Step]:
    for step in foreign:
        if step.kind is StepKind.THOUGHT:
            thought = bare_thought(step.text).removeprefix(protocol.THINK_OPEN)
            if thought:
                yield replace(step, text=protocol.neutralise(thought))
        elif step.kind is StepKind.ACTION:
            yield _action(step)
        elif step.kind is StepKind.OBSERVATION:
            body = bare_observation(step.text)
            yield protocol.observation(
                step.tool or "", body, step.outcome or Outcome.OK, step.passages
            )
        elif step.kind is StepKind.ANSWER:
            answer = protocol.neutralise(prediction([step]) or "").strip().translate(_TEX)
            yield replace(step, text=f"{_ANSWER_OPEN}{answer}}}")
            return


def _action(step: Step) -> Step:
    tool, argument = step.tool or "", protocol.neutralise(step.argument or "").strip()
    return replace(
        step,
        text=f"{protocol.open_tag(tool)} {argument} {protocol.close_tag(tool)}",
        argument=argument,
    )
