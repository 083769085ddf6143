"""Serve a scripted teacher or a local model as vLLM serves one, to rehearse a run.

    coa rehearse latency_seconds=0.5
    coa rehearse policy=local teacher.local.model=data/raw/base

It prints the settings with which another terminal runs against it, and serves until control-C. The
rows bear the script's name, so nobody takes them for a model's.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from coa.errors import ConfigError
from coa.interruption import Interrupted, run_interruptible
from coa.judging.judge import JudgeParams
from coa.judging.scripted import scripted_judge
from coa.microworld.factory import MicroworldParams
from coa.policy import BatchPolicy, Policy, UnbatchedPolicy
from coa.policy.server import PromptForm, serve
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy
from coa.settings.params import Params


@dataclass(frozen=True, slots=True)
class RehearseParams:
    """Settings of the server to rehearse with."""

    policy: PolicyKind = PolicyKind.MICROWORLD
    """Who writes: a script, `microworld` or `gold`, or a model in this process, `local`.
    `scripted_judge` judges instead, and turns around the share `judge.flips` of its verdicts."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8001
    """0 takes any free one."""
    form: PromptForm = field(default_factory=PromptForm)
    """How the beginning of a chat is written for the policy."""
    latency_seconds: float = 0.0
    """The mean time that a reply takes beyond the policy's own."""


_KINDS = (PolicyKind.MICROWORLD, PolicyKind.GOLD, PolicyKind.LOCAL, PolicyKind.SCRIPTED_JUDGE)


def open_writer(params: Params, kind: PolicyKind) -> Policy:
    """Open the script or the model that writes; a policy behind a server is refused."""
    if kind not in _KINDS:
        raise ConfigError(
            "a policy behind a server cannot be served again",
            expected=f"rehearse.policy: one of {', '.join(_KINDS)}",
            got=str(kind),
        )
    if kind is PolicyKind.SCRIPTED_JUDGE:
        return scripted_judge(params.section(JudgeParams, "judge").flips)
    teacher = replace(params.section(TeacherParams, "teacher"), policy=kind)
    policy = open_policy(teacher, params.section(MicroworldParams, "microworld"))
    return UnbatchedPolicy(policy) if isinstance(policy, BatchPolicy) else policy


async def rehearse(params: Params) -> None:
    """Serve until the task is cancelled."""
    settings = params.section(RehearseParams)
    policy = open_writer(params, settings.policy)
    async with serve(
        policy,
        settings.host,
        settings.port,
        form=settings.form,
        latency_seconds=settings.latency_seconds,
    ) as base_url:
        lines = sampling_commands(base_url, policy.name)
        if settings.policy is PolicyKind.SCRIPTED_JUDGE:
            server = f"judge.policy.server.base_url={base_url}"
            lines = (
                "serving a judge; in another terminal:",
                f"coa grade judge.policy.policy=chat {server} "
                f"judge.policy.server.model={policy.name}",
            )
        print("\n".join(lines), file=sys.stderr, flush=True)
        await asyncio.Event().wait()


def sampling_commands(base_url: str, model: str) -> tuple[str, ...]:
    """Say how another terminal samples from the served teacher, and how a whole run does."""
    server = f"teacher.server.base_url={base_url} teacher.server.model={model}"
    prompts = "prompts.coa=synth/prompts/chat_coa.txt prompts.cot=synth/prompts/chat_cot.txt"
    return (
        "serving a teacher; in another terminal:",
        f"coa sample teacher.policy=chat teacher.chat.family=vllm {server} {prompts}",
        "or, over raw completions:",
        f"coa sample teacher.policy=completions {server}",
        "or a whole run over chat, with this profile after yours:",
        'teacher: {policy: chat, chat_template: "{prompt}", chat: {family: vllm}, '
        f'server: {{base_url: "{base_url}", model: {model}, api_key_env: ""}}}}',
        "prompts: {coa: synth/prompts/chat_coa.txt, cot: synth/prompts/chat_cot.txt}",
    )


def main(arguments: Sequence[str]) -> str:
    """Serve until a signal ends it and return the summary line."""
    params = Params.load("rehearse", arguments)
    with contextlib.suppress(Interrupted):
        run_interruptible(rehearse(params))
    return "served the rehearsal"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
