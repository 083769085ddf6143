"""Serve a scripted teacher or a local model as a server of one's choice, to rehearse a run.

    python -m coa.policy.rehearse personality=deepseek
    python -m coa.policy.rehearse rehearse.faults.share=0.1 rehearse.faults.kinds=[server_error]
    python -m coa.policy.rehearse policy=local teacher.local.model=data/raw/base
    python -m coa.policy.rehearse rehearse.tokenizer=Qwen/Qwen3-8B

It prints the settings with which another terminal runs against it, and serves until control-C. The
rows bear the script's name, so nobody takes them for a model's.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from coa.errors import ConfigError
from coa.factory import PolicyKind, TeacherParams, open_policy
from coa.interruption import Interrupted, run_interruptible
from coa.judging.judge import JudgeParams
from coa.judging.scripted import scripted_judge
from coa.microworld.factory import MicroworldParams
from coa.params import Params
from coa.policy import BatchPolicy, Policy, UnbatchedPolicy
from coa.policy.chat.families import FAMILIES, FamilyName
from coa.policy.local.model import load_tokenizer
from coa.policy.native.template import NativeTemplate
from coa.policy.server.app import serve
from coa.policy.server.chat import PromptForm
from coa.policy.server.faults import Faults, FaultSettings
from coa.policy.server.native import NativeWriter
from coa.policy.server.personalities import Personality


@dataclass(frozen=True, slots=True)
class RehearseParams:
    """Settings of the server to rehearse with."""

    personality: Personality = Personality.VLLM
    """Whose manners chat has."""
    policy: PolicyKind = PolicyKind.MICROWORLD
    """Who writes: a script, `microworld` or `gold`, or a model in this process, `local`.
    `scripted_judge` judges instead, and turns around the share `judge.flips` of its verdicts."""
    tokenizer: str = ""
    """Folder or Hub name of a tokenizer with Qwen's chat template. If set, raw completions by ids
    are answered in Qwen's own format, for `teacher.policy=native`."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8001
    """0 takes any free one."""
    form: PromptForm = field(default_factory=PromptForm)
    """How the beginning of a chat is written for the policy."""
    faults: FaultSettings = field(default_factory=FaultSettings)
    """How it fails, and how slow it is."""


_KINDS = (PolicyKind.MICROWORLD, PolicyKind.GOLD, PolicyKind.LOCAL, PolicyKind.SCRIPTED_JUDGE)


def open_writer(params: Params, kind: PolicyKind) -> Policy:
    """Open the script or the model that writes.

    Raises:
        ConfigError: It is itself behind a server.
    """
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


def in_own_format(policy: Policy, tokenizer: str) -> Policy:
    """Let a policy answer ids in the format of a tokenizer's chat template, where one is named.

    Raises:
        MissingExtraError: transformers is not installed.
        ConfigError: There is no such tokenizer, or it has no template of a known format.
    """
    if not tokenizer:
        return policy
    return NativeWriter(policy, NativeTemplate(load_tokenizer(tokenizer), tokenizer))


async def rehearse(params: Params) -> None:
    """Serve until the task is cancelled."""
    settings = params.section(RehearseParams)
    policy = in_own_format(open_writer(params, settings.policy), settings.tokenizer)
    async with serve(
        policy,
        settings.host,
        settings.port,
        personality=settings.personality,
        faults=Faults(settings.faults),
        form=settings.form,
    ) as base_url:
        if settings.policy is PolicyKind.SCRIPTED_JUDGE:
            lines = tell_judging(base_url, policy.name)
        else:
            lines = tell_sampling(settings, base_url, policy.name)
        print("\n".join(lines), file=sys.stderr, flush=True)
        await asyncio.Event().wait()


def tell_judging(base_url: str, model: str) -> Sequence[str]:
    """Say how another terminal asks the served judge."""
    server = f"judge.policy.server.base_url={base_url} judge.policy.server.model={model}"
    return (
        "serving a judge; in another terminal:",
        f"python -m curate.grade judge.policy.policy=chat {server}",
    )


def tell_sampling(settings: RehearseParams, base_url: str, model: str) -> Sequence[str]:
    """Say how another terminal samples from the served teacher, and how a whole run does."""
    server = f"teacher.server.base_url={base_url} teacher.server.model={model}"
    prompts = "prompts.coa=synth/prompts/chat_coa.txt prompts.cot=synth/prompts/chat_cot.txt"
    family = FAMILIES[FamilyName(settings.personality)]
    lines = [
        f"serving {settings.personality}; in another terminal:",
        "python -m synth.sample teacher.policy=chat "
        f"teacher.chat.family={settings.personality} {server} {prompts}",
        "or, over raw completions:",
        f"python -m synth.sample teacher.policy=completions {server}",
    ]
    if settings.tokenizer:
        named = f"teacher.server.tokenizer={settings.tokenizer}"
        lines.append("or, in the model's own format:")
        lines.append(f"python -m synth.sample teacher.policy=native {server} {named} {prompts}")
    # Where a chat can be gone on with inside a thought, it is asked at another address.
    address = base_url
    if family.prefix_address:
        address = base_url.removesuffix("/v1") + family.prefix_address
    lines.append("or a whole run over chat, with this profile over yours:")
    lines.append(f'teacher: {{server: {{base_url: "{address}", model: {model}, api_key_env: ""}}}}')
    return lines


def main(arguments: Sequence[str]) -> str:
    """Serve until a signal ends it and return the summary line."""
    params = Params.load("rehearse", arguments)
    with contextlib.suppress(Interrupted):
        run_interruptible(rehearse(params))
    return "served the rehearsal"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
