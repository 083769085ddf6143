"""The journal's key: everything that a reply depends on, and nothing else."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa.microworld.factory import MicroworldParams
from coa.policy import Policy, Request
from coa.policy.completions import CompletionsPolicy
from coa.policy.react import as_react
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server_settings import ServerSettings
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy
from coa.spending.journaled import JournaledPolicy, policy_key
from coa.store.journal import CallKind, Journal, request_key
from coa.store.model_files import fingerprint_model

MODEL = "Qwen/Qwen2.5-7B-Instruct"
ASKED = Request("Question: ...\n<think>\n", ("</end_search>",), 64, 0.6, 1.0, 7)
KEY = "f1470fcfd49f15ec5fee93d5671e5b8e"
"""Of `ASKED` to `MODEL`, as journals had it before policies had an identity."""


def served(deployment: str = "", **changes: Any) -> CompletionsPolicy:
    return CompletionsPolicy(ServerSettings(model=MODEL, **changes), deployment=deployment)


def test_keys_of_default_settings_are_those_of_journals_that_exist() -> None:
    assert policy_key(served(), ASKED) == KEY
    assert policy_key(ScriptedPolicy([], MODEL), ASKED) == KEY
    with_ids = replace(ASKED, context_ids=(1, 2, 3))
    assert policy_key(served(), with_ids) == "8d926e4006a2000c8aac02a939560fc4"
    tool_key = request_key(CallKind.TOOL, "search", "corpus-1", "danube")
    assert tool_key == "a0768e7a55c59793ba66bc27e750eda6"


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "http://10.0.0.7:9000/v1"},
        {"api_key_env": "ANOTHER_KEY"},
        {"timeout_seconds": 5.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_run_may_move_to_another_host(changes: Mapping[str, Any]) -> None:
    assert policy_key(served(**changes), ASKED) == KEY


def test_what_is_sent_besides_the_request_is_another_call() -> None:
    keys = [
        policy_key(served(extra_body=body), ASKED)
        for body in ({}, {"top_k": 20}, {"top_k": 40}, {"top_k": 40, "min_p": 0.1})
    ]
    assert len(set(keys)) == 4
    assert policy_key(served(extra_body={"min_p": 0.1, "top_k": 40}), ASKED) == keys[-1]


def test_two_deployments_of_one_model_name_are_two_teachers() -> None:
    def teacher(name: str) -> Any:
        params = TeacherParams(
            policy=PolicyKind.COMPLETIONS, name=name, server=ServerSettings(model=MODEL)
        )
        return open_policy(params, MicroworldParams())

    keys = [policy_key(teacher(name), ASKED) for name in ("", "fp8", "awq")]
    assert keys[0] == KEY
    assert len(set(keys)) == 3


def test_weights_in_a_served_folder_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    settings = ServerSettings(model=str(folder))
    keys = []
    for weights in (b"first", b"trained again"):
        (folder / "model.safetensors").write_bytes(weights)
        keys.append(policy_key(CompletionsPolicy(settings), ASKED))
    assert len(set(keys)) == 2
    assert CompletionsPolicy(settings).identity == {"weights": fingerprint_model(str(folder))}


def test_a_wrapped_policy_keeps_its_identity(tmp_path: Path) -> None:
    policy = served(extra_body={"top_k": 20})
    with Journal(tmp_path / "journal.sqlite") as journal:
        wrapped = [as_react(policy), JournaledPolicy(policy, journal)]
    assert [it.identity for it in wrapped] == [policy.identity] * 2


class Deployed(ScriptedPolicy):
    """A script behind which there are weights."""

    def __init__(self, text: str, weights: str) -> None:
        super().__init__(lambda request: text, "student")
        self._weights = weights

    @property
    def identity(self) -> Mapping[str, object]:
        return {"weights": self._weights}


def test_other_weights_under_the_same_name_are_asked_again(tmp_path: Path) -> None:
    def ask(policy: Policy) -> str:
        with Journal(tmp_path / "journal.sqlite") as journal:
            return asyncio.run(JournaledPolicy(policy, journal).complete(ASKED)).text

    assert [ask(Deployed("one", "a")), ask(Deployed("two", "b"))] == ["one", "two"]
    assert ask(Deployed("three", "a")) == "one"
