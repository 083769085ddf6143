"""Ask a judge for its verdicts on graded rows, through the client and the journal of a teacher.

The section `judge` of params.yaml says who judges; nobody does by default. A reply is asked for
greedily, once for each question, answer and judge: the journal's key holds the whole prompt and all
that the judge's reply depends on, and no address. A judge that is down, or whose reply cannot be
read, makes a row with an outcome of its own. An outage is not recorded, so that the same command
asks again.

What is filled into a prompt cannot leave its place: each text becomes a JSON string on one line,
after everything in it is broken that could act as a tag, an answer's box or a control token.
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from coa.errors import ConfigError, ServiceError
from coa.judging.scripted import join_answers, scripted_judge
from coa.microworld.factory import MicroworldParams
from coa.policy import (
    BatchPolicy,
    Completion,
    Policy,
    Request,
    RequestError,
    UnbatchedPolicy,
    WrappedPolicy,
    control_tokens,
    most_context_tokens,
)
from coa.policy.completions import CompletionsPolicy
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import FAILED_STOPS
from coa.records.verdicts import RIGHT, Judgement, JudgeVerdict, read_verdict
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy, template_of
from coa.rollout.runtime import keep_calls, open_account, share_rates
from coa.settings.params import Params
from coa.shards.files import JUDGED
from coa.shards.stage import ShardRun
from coa.spending.journaled import JournaledPolicy
from coa.spending.ledger import Ledger
from coa.store.journal import request_key
from coa.store.shipped import find_shipped

_SHOWN_CHARS = 300
"""The characters of a reply that cannot be read, or of an error, that a row keeps."""
_ANSWER_WORDS = {
    "CORRECT": JudgeVerdict.CORRECT,
    "INCORRECT": JudgeVerdict.INCORRECT,
    "NOT_ATTEMPTED": JudgeVerdict.NOT_ATTEMPTED,
}
_CRITERION_WORDS = {"MET": JudgeVerdict.CORRECT, "NOT_MET": JudgeVerdict.INCORRECT}


@dataclass(frozen=True, slots=True)
class JudgeParams:
    """Who judges answers beside exact match, and how (docs/evaluation.md)."""

    policy: TeacherParams | None = None
    """The model that judges, as in the section `teacher`; null: nobody judges. It is asked
    greedily, whatever `sampling` says, and `concurrency` answers at once. `scripted_judge` is no
    model: it compares as exact match does. Keys that are left out have the defaults of the code."""
    prompt: str = "coa/judging/prompts/simpleqa.txt"
    """The prompt file for questions with accepted answers; it has the places `{question}`, `{gold}`
    and `{answer}` and asks for CORRECT, INCORRECT or NOT_ATTEMPTED."""
    rubric_prompt: str = "coa/judging/prompts/criterion.txt"
    """The prompt file for one criterion of a rubric; it has the places `{question}`, `{criterion}`
    and `{answer}` and asks for MET or NOT_MET."""
    max_tokens: int = 1024
    """Tokens of a reply; a judge that reasons needs them before its verdict."""
    pass_score: float = 0.5
    """The score from which on an answer is right by a rubric."""
    flips: float = 0.0
    """Of `scripted_judge`: the share of verdicts that it turns around."""


def as_quoted(text: str, control_tokens: Sequence[str] = ()) -> str:
    """Write a text that may be hostile as a JSON string on one line, without invisible signs."""
    harmless = protocol.neutralise(text, control_tokens)
    visible = "".join(sign if sign.isprintable() else " " for sign in harmless)
    return json.dumps(" ".join(visible.split()), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """A prompt file inside the judge's chat template."""

    text: str

    @classmethod
    def load(cls, path: Path, chat_template: str, places: Sequence[str]) -> "JudgePrompt":
        """Read a prompt file, which must have all of `places`.

        Raises:
            ConfigError: the file cannot be read, or it or the template lacks a place.
        """
        try:
            body = find_shipped(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read the judge's prompt {path}", got=error, fix="see coa/judging/prompts/"
            ) from error
        missing = [f"{{{place}}}" for place in places if f"{{{place}}}" not in body]
        if "{prompt}" not in chat_template:
            missing.append("{prompt}, in judge.policy.chat_template")
        if missing:
            raise ConfigError(
                "the judge's prompt lacks a place", where=path, expected=", ".join(missing)
            )
        return cls(chat_template.replace("{prompt}", body))

    def fill(self, texts: Mapping[str, str], control_tokens: Sequence[str] = ()) -> str:
        """Put each text, quoted, into the place of its name."""
        quoted = {name: as_quoted(text, control_tokens) for name, text in texts.items()}
        names = "|".join(map(re.escape, quoted))
        return re.sub(rf"\{{({names})\}}", lambda place: quoted[place[1]], self.text)


class Judge:
    """A judge that is open, with everything it needs to be asked."""

    def __init__(
        self,
        settings: JudgeParams,
        policy: Policy,
        ledger: Ledger | None = None,
        *,
        outlives_outage: bool = True,
    ) -> None:
        """Judge with `policy`; unless it outlives an outage, one ends the run."""
        assert settings.policy is not None
        template = template_of(settings.policy)
        self._prompt = JudgePrompt.load(
            Path(settings.prompt), template, ("question", "gold", "answer")
        )
        self._rubric_prompt = JudgePrompt.load(
            Path(settings.rubric_prompt), template, ("question", "criterion", "answer")
        )
        self._settings = settings
        self._policy = policy
        self._slots = asyncio.Semaphore(settings.policy.concurrency)
        self._outlives_outage = outlives_outage
        self.ledger = ledger
        """What its calls cost; None without an account."""
        self.window = 4 * settings.policy.concurrency
        """Rows in its hands at once."""
        parts = (policy.identity, self._prompt.text, self._rubric_prompt.text, settings.max_tokens)
        decided = request_key(*parts, settings.pass_score)
        self.name = f"{policy.name}@{decided[:8]}"
        """The model, and a hash of all else that its judgements depend on."""

    async def judge(self, row: GradedTrajectory, *, only_rubrics: bool = False) -> GradedTrajectory:
        """Return the row with its judgement; as it is where only rubrics are judged."""
        if only_rubrics and not row.rubric:
            return row
        answer = row.grade.prediction
        if answer is None or row.trajectory.stop_reason in FAILED_STOPS:
            score = 0.0 if row.rubric else None
            return replace(row, judgement=self._made(JudgeVerdict.NOT_ATTEMPTED, score=score))
        if row.rubric:
            return replace(row, judgement=await self._by_rubric(row, answer))
        texts = {
            "question": row.trajectory.question,
            "gold": join_answers(row.gold_answers),
            "answer": answer,
        }
        verdict, detail = await self._ask(self._prompt, texts, _ANSWER_WORDS)
        return replace(row, judgement=self._made(verdict, detail=detail))

    async def _by_rubric(self, row: GradedTrajectory, answer: str) -> Judgement:
        """Ask for each criterion by itself; the score is the weight of those that are met."""
        asked = []
        for criterion in row.rubric:
            texts = {
                "question": row.trajectory.question,
                "criterion": criterion.text,
                "answer": answer,
            }
            asked.append(self._ask(self._rubric_prompt, texts, _CRITERION_WORDS))
        replies = await asyncio.gather(*asked)
        verdicts = tuple(verdict for verdict, _ in replies)
        for verdict, detail in replies:
            if RIGHT[verdict] is None:
                return self._made(verdict, criteria=verdicts, detail=detail)
        met = 0.0
        for criterion, verdict in zip(row.rubric, verdicts, strict=True):
            met += criterion.weight * (verdict is JudgeVerdict.CORRECT)
        score = met / sum(criterion.weight for criterion in row.rubric)
        is_passed = score >= self._settings.pass_score
        overall = JudgeVerdict.CORRECT if is_passed else JudgeVerdict.INCORRECT
        return self._made(overall, score=score, criteria=verdicts)

    def _made(
        self,
        verdict: JudgeVerdict,
        *,
        score: float | None = None,
        criteria: tuple[JudgeVerdict, ...] = (),
        detail: str = "",
    ) -> Judgement:
        return Judgement(verdict, RIGHT[verdict], self.name, score, criteria, detail)

    async def _ask(
        self, prompt: JudgePrompt, texts: Mapping[str, str], words: Mapping[str, JudgeVerdict]
    ) -> tuple[JudgeVerdict, str]:
        """Ask for a verdict; beside a failure stands what happened."""
        request = Request(
            prompt.fill(texts, control_tokens(self._policy)),
            stop=(),
            max_tokens=self._settings.max_tokens,
            temperature=0.0,
            top_p=1.0,
            seed=0,
        )
        async with self._slots:
            try:
                reply = await self._policy.complete(request)
            except (RequestError, ServiceError) as error:
                if isinstance(error, ServiceError) and not self._outlives_outage:
                    raise
                return JudgeVerdict.FAILED, " ".join(str(error).split())[:_SHOWN_CHARS]
        word = read_verdict(reply.text, words)
        if word is None:
            return JudgeVerdict.UNREADABLE, reply.text[:_SHOWN_CHARS]
        return words[word], ""


class _OnceDown(WrappedPolicy):
    """A policy that is not asked any more once it is down: each later row would wait as long."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._policy = policy
        self._outage: ServiceError | None = None
        self.most_context_tokens = partial(most_context_tokens, policy)

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context, unless an earlier request found the policy down."""
        if self._outage is not None:
            raise self._outage
        try:
            return await self._policy.complete(request)
        except ServiceError as error:
            self._outage = error
            raise


@asynccontextmanager
async def open_judge(
    params: Params, work: ShardRun | str, *, is_needed: bool = False
) -> AsyncIterator[Judge | None]:
    """Open the judge that the section `judge` describes; None where it names nobody.

    Args:
        params: The settings; the sections judge, costs and microworld are read.
        work: The stage's work or a shard of it, or the name of a file in .journal/.
        is_needed: Refuse settings that name nobody.
    """
    settings = params.section(JudgeParams, "judge")
    if settings.policy is None:
        if is_needed:
            raise no_judge("answers are to be right by the judge's verdict")
        yield None
        return
    async with AsyncExitStack() as stack:
        if isinstance(work, ShardRun):
            settings = replace(settings, policy=share_rates(settings.policy, work.shard.count))
        policy = open_judging_policy(settings, params)
        close = getattr(policy, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        journal, ledger = open_account(work, params, stack, JUDGED)
        await stack.enter_async_context(keep_calls(journal, ledger))
        yield Judge(settings, JournaledPolicy(_OnceDown(policy), journal, ledger), ledger)


def judge_policy(params: Params) -> TeacherParams | None:
    """Return the settings of the judge's policy; None where nobody judges."""
    return params.section(JudgeParams, "judge").policy


def open_judging_policy(settings: JudgeParams, params: Params) -> Policy:
    """Open the policy behind a judge; a script that writes trajectories is refused."""
    assert settings.policy is not None
    kind = settings.policy.policy
    if kind is PolicyKind.SCRIPTED_JUDGE:
        return scripted_judge(settings.flips)
    if kind in (PolicyKind.MICROWORLD, PolicyKind.GOLD):
        raise ConfigError(
            "a script that writes trajectories cannot judge them",
            where="judge.policy.policy",
            expected=f"{PolicyKind.CHAT}, {PolicyKind.COMPLETIONS}, {PolicyKind.LOCAL} or "
            f"{PolicyKind.SCRIPTED_JUDGE}",
            got=str(kind),
        )
    microworld = params.section(MicroworldParams, "microworld")
    policy = open_policy(settings.policy, microworld, "judge.policy")
    if isinstance(policy, CompletionsPolicy):
        policy.require_key()
    return UnbatchedPolicy(policy) if isinstance(policy, BatchPolicy) else policy


def no_judge(why: str) -> ConfigError:
    """Return the error for settings that need a judge and name none."""
    return ConfigError(
        f"nobody judges, and {why}",
        where="judge.policy",
        expected="a model, such as judge.policy.policy=chat judge.policy.server.model=NAME",
        got="null",
        fix="see docs/evaluation.md",
    )


async def judge_all(
    judge: Judge | None, rows: AsyncIterator[GradedTrajectory], *, only_rubrics: bool = False
) -> AsyncGenerator[GradedTrajectory]:
    """Judge a stream of rows, many at once; they keep their order.

    Without a judge, rows with accepted answers stay as they are, and a rubric is a `ConfigError`.
    """
    waiting: deque[asyncio.Task[GradedTrajectory]] = deque()
    try:
        async for row in rows:
            if judge is None and row.rubric:
                raise no_judge(f"the question {row.trajectory.question_id!r} has a rubric")
            if judge is None:
                yield row
                continue
            waiting.append(asyncio.create_task(judge.judge(row, only_rubrics=only_rubrics)))
            if len(waiting) >= judge.window:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
