"""Read from params.yaml what cards need: their section, the earlier stages' settings, the prompts.

Addresses of servers and names of keys are left out: they say nothing about the data, and a card is
public.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml

from coa.errors import ConfigError
from coa.policy.chat_templates import own_template
from coa.policy.local.model import load_tokenizer
from coa.policy.prompts import Prompt, PromptParams
from coa.records.sets import AssembleParams
from coa.rollout.factory import TeacherParams
from coa.settings.params import Params
from coa.settings.stages import TrajectorySource
from data_cards.cards.safe_markdown import Markdown, fence
from data_cards.catalogue import SetName
from data_cards.publishing.private_text import find_undetected_keys, fold

SECTIONS = (
    "pipeline",
    "microworld",
    "ingest",
    "questions",
    "index",
    "search",
    "teacher",
    "prompts",
    "rollout",
    "sample",
    "filter",
    "branch",
    "screen",
    "assemble",
)
"""The settings that shape a set, in the order of the stages."""
_OF_TEACHER = frozenset({"microworld", "index", "search", "teacher", "rollout", "sample", "branch"})
"""Those of stages that only runs with a teacher have."""
_PLACE = "{question}"
_PRIVATE = frozenset({"base_url", "url", "api_key_env", "extra_body"})
_HIDDEN = "left out: it looks like a key"
_REPOSITORY = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_MAX_TITLE_CHARS = 100


@dataclass(frozen=True, slots=True)
class RenderParams:
    """What the cards cannot count."""

    title: str
    """What all sets together are called, on one line."""
    repository: str = ""
    """Where the sets are published, as `owner/name`; empty: not yet."""
    languages: tuple[str, ...] = ("en",)
    """Of questions and passages: ISO 639 codes of two or three letters."""
    licenses: dict[str, str] = field(default_factory=dict)
    """SPDX ids by source; the licence of a source that is not named is unknown.

    The key is the name of a source of questions, `corpus` for the passages, a teacher's name, or
    the origin of imported trajectories, whose rows state a licence already.
    """


@dataclass(frozen=True, slots=True)
class PublishParams:
    """What is published where, and on what conditions."""

    repository: str = ""
    """`owner/name` on the Hub; empty: `render.repository`."""
    private: bool = True
    """Whether a new repository is made a private one; an existing one stays what it is."""
    dry_run: bool = False
    """Only say what would be refused and what would change."""
    allow: str = ""
    """Names of the gate's reasons that are waived, joined by commas; the card names them."""
    tag: str = ""
    """The version's name; empty: v1, v2, ... A version that is tagged never changes."""
    phone_region: str = "US"
    """A country whose phone numbers also count without its +code.

    Empty: only international ones count.
    """
    required_reviews: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many rows of each set of pairs and trajectories people must have reviewed."""
    num_traces: Annotated[int, msgspec.Meta(ge=0)] = 20
    """How many trajectories of each set are published as session traces.

    The Hub's viewer shows a trace turn by turn.
    """


def check(params: RenderParams, where: str = "render.repository") -> None:
    """Complain about settings that cannot be shown in a card.

    Raises:
        ConfigError: naming the setting.
    """
    title = params.title
    if not title.isprintable() or not 0 < len(title.strip()) <= _MAX_TITLE_CHARS:
        raise ConfigError(
            "bad title", where="render.title", expected="one line of text", got=repr(title[:200])
        )
    if not _REPOSITORY.fullmatch(params.repository):
        raise ConfigError(
            "bad repository",
            where=where,
            expected="owner/name",
            got=repr(params.repository[:200]),
        )
    for language in params.languages:
        if not _LANGUAGE.fullmatch(language):
            raise ConfigError(
                "bad language",
                where="render.languages",
                expected="a code such as en",
                got=repr(language[:200]),
            )


def shown_settings(params: Params) -> dict[str, Any]:
    """Give the resolved settings of the stages of this run, without what is private."""
    values: dict[str, Any] = {}
    for section in SECTIONS:
        with suppress(KeyError):  # The run has no such stage.
            values |= yaml.safe_load(params.dump([section]))
    if not params.section(AssembleParams, "assemble").makes_pairs:
        values.pop("branch", None)
    if not has_corpus(values):
        values.pop("index", None)
    return public(values)


def settings_of_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the sections of stages that the run does not have.

    A set of imported trajectories must not show a teacher that wrote none of them.
    """
    trajectories = settings.get("pipeline", {}).get("trajectories", [TrajectorySource.SAMPLE])
    hidden = {"pipeline"}
    if TrajectorySource.INGEST not in trajectories:
        hidden.add("ingest")
    if TrajectorySource.SAMPLE not in trajectories:
        hidden |= _OF_TEACHER
    return {name: values for name, values in settings.items() if name not in hidden}


def has_corpus(settings: Mapping[str, Any]) -> bool:
    """Say whether the run has passages of its own."""
    return bool(settings.get("index", {}).get("corpus"))


def public(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out addresses of servers, names of keys and extra fields; hide likely keys."""
    return {key: _public(key, value) for key, value in values.items() if key not in _PRIVATE}


def _public(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return public(value)
    if isinstance(value, list | tuple):
        return [_public(key, item) for item in value]
    if isinstance(value, str) and any(find_undetected_keys(fold(f"{key}: {value}"))):
        return _HIDDEN
    return value


def settings_block(settings: Mapping[str, Any]) -> Markdown:
    """Write settings as a block of YAML."""
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)
    return fence(text.strip(), "yaml")


class ShownPrompt(NamedTuple):
    """A prompt file inside its chat template."""

    prompt_hash: str
    head: str
    """The text before the question."""
    text: str
    """The whole, with `{question}` where the question stands."""


def shown_prompt(name: SetName, settings: Mapping[str, Any]) -> ShownPrompt | None:
    """Find the prompt that the rows of a set begin with.

    Pairs begin with the prompt that offers the tool, as the policy that wrote the forks is asked;
    questions have none.

    Raises:
        ConfigError: the prompt file is missing or has no place for the question, or a setting is
            missing.
    """
    if name is SetName.RL:
        return None
    mode = SetName.COA if name is SetName.COT_A else name
    forks = settings.get("branch", {}) if name is SetName.COT_A else {}
    try:
        prompts = _with_defaults(forks.get("prompts"), PromptParams()) or settings["prompts"]
        teacher = _with_defaults(forks.get("policy"), TeacherParams()) or settings["teacher"]
        path = prompts[mode]
        template = teacher["chat_template"]
        if not template:
            template = own_template(load_tokenizer(teacher["local"]["model"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"the setting {error} is missing",
            where="params.yaml",
            expected=f"prompts.{mode} and teacher.chat_template",
            fix="coa params conf/microworld.yaml",
        ) from error
    prompt = Prompt.load(Path(path), template)
    text = prompt.fill(_PLACE)
    return ShownPrompt(
        prompt_hash=prompt.prompt_hash,
        head=text.partition(_PLACE)[0],
        text=text.rstrip("\n"),
    )


def _with_defaults(given: Mapping[str, Any] | None, defaults: object) -> dict[str, Any] | None:
    """Fill in the settings that a record leaves out; None where the record itself is unset."""
    return {**msgspec.to_builtins(defaults), **given} if given else None
