"""Read typed settings from `params.yaml` and `key=value` arguments; write `params.yaml`.

Each section is a frozen dataclass beside its stage, which holds the defaults. `params.yaml` holds
what was chosen. A key without a dot belongs to the stage's own section (`mode=cot` is
`sample.mode=cot`); a dotted key names its section. Types are checked, and an unknown key is an
error that lists the known ones. Some settings are mappings with keys of the user's choice, such as
`train.rl2.rewards`. There a key may be added (`train.rl2.rewards.f1=0.5`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from enum import EnumType
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, cast, get_args

import msgspec
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from yaml import YAMLError as PyYAMLError

from coa.errors import ConfigError, closest, most_similar
from coa.settings.sections import (
    SECTIONS,
    TRUTH,
    adapt,
    as_list,
    change_of,
    chosen_part,
    default_of,
    entry_hint,
    hints_of,
    kind_of,
    with_defaults,
)
from coa.settings.text import merge_comments, to_text
from coa.store.output_file import signed
from coa.store.shipped import ROOT, find_shipped
from coa.store.whole_files import write_file

PARAMS_FILE = Path("params.yaml")
DEFAULT_PROFILE = Path("conf/microworld.yaml")
_NO_PROFILES = (PARAMS_FILE.name, "dvc.yaml")
"""Files that this command writes, so none of them is offered as a profile."""
REPLACE = "_replace_"
"""A profile's mapping that holds `_replace_: true` replaces the whole mapping of the base."""

_COMMAND_LINE = "the command line"
_REFUSED_CHOICE = re.compile("Invalid enum value '([^']*)'")
"""How msgspec reports the value of an enum that it refuses."""
_ALMOST = 0.8
"""How similar a name is to that of a section that it is taken for a slip, by difflib's measure."""
_SECTION_NAME = re.compile(r"[\w-]+")
_MAX_BYTES = 250_000
"""Of a file of settings; the largest profile has a thirtieth of it."""
_MAX_VALUES = 20_000
_MAX_DEPTH = 20
_MAX_SHOWN = 200
_REFERENCE = re.compile(r"\$\{\s*(\w+)")
"""How a value refers to another one: `${train.prompt}`."""

Section = TypeVar("Section")


class Params:
    """The values of one run: `params.yaml`, overridden by the arguments of the command line."""

    def __init__(
        self,
        values: DictConfig,
        own_section: str,
        path: Path,
        in_file: DictConfig | None = None,
        given: frozenset[str] = frozenset(),
    ) -> None:
        self._values = values
        """What was chosen: the rest follows from the defaults of the sections."""
        self._in_file = values if in_file is None else in_file
        """The values before those of the command line."""
        self._given = given
        """The dotted keys of the command line."""
        self._own_section = own_section
        self._path = path

    @classmethod
    def load(
        cls, own_section: str, arguments: Sequence[str] = (), path: Path = PARAMS_FILE
    ) -> "Params":
        """Read `path` and override it by `arguments`; keys without a dot belong to `own_section`.

        Raises:
            ConfigError: The file is missing or broken, or an argument is not `key=value`.
        """
        values = _read_yaml(path)
        _check_sections(values, path)
        return cls(values, own_section, path).override(arguments)

    @classmethod
    def of(cls, values: Mapping[str, Any], path: Path, own_section: str = "pipeline") -> "Params":
        """Return settings that are in no file yet; messages call them `path`."""
        return cls(OmegaConf.create(dict(values)), own_section, path)

    @property
    def path(self) -> Path:
        """The file that holds the settings."""
        return self._path

    def override(self, arguments: Sequence[str]) -> "Params":
        """Return these values, overridden by further arguments.

        Raises:
            ConfigError: An argument is not `key=value`, or its key is unknown.
        """
        values = self._values
        given_keys = set(self._given)
        for argument in arguments:
            key, equals, text = argument.partition("=")
            if not equals or not key:
                raise ConfigError(
                    f"cannot read the argument {argument!r}",
                    where=_COMMAND_LINE,
                    expected="key=value",
                    got=argument,
                )
            dotted = key if "." in key else f"{self._own_section}.{key}"
            value = _read_value(key, text)
            check_plain(value, Path(key))
            with _explained(f"{argument[:_MAX_SHOWN]!r} over {self._path}"):
                given = OmegaConf.create()
                filled = _filled(values, [dotted.partition(".")[0]])
                _check_key(filled, dotted, _COMMAND_LINE, values)
                if isinstance(OmegaConf.select(filled, dotted), ListConfig):
                    value = as_list(value)
                OmegaConf.update(given, dotted, value)
                values = _chosen(_merged(values, given), _merged(filled, given))
            given_keys.add(dotted)
        return Params(values, self._own_section, self._path, self._in_file, frozenset(given_keys))

    def section(self, kind: type[Section], name: str = "") -> Section:
        """Return the section `name` (by default the stage's own) as a `kind`, a dataclass.

        Raises:
            ConfigError: A key is unknown or missing, or a value has the wrong type.
        """
        name = name or self._own_section
        try:
            return _convert(self._values, kind, name, self._path)
        except ConfigError:
            if not self._is_sound_in_file(kind, name):
                raise
        return _convert(self._values, kind, name, _COMMAND_LINE)

    def _is_sound_in_file(self, kind: type[Any], name: str) -> bool:
        """Return whether a section is good without the arguments of the command line."""
        try:
            _convert(self._in_file, kind, name, self._path)
        except ConfigError:
            return False
        return True

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """The values that the file and the command line give, without defaults; to be read."""
        return cast(dict[str, Any], OmegaConf.to_container(self._values))

    def chooses(self, dotted: str) -> bool:
        """Return whether the file or the command line gives a section or a setting."""
        return chosen_value(self.chosen, dotted) is not MISSING

    def is_given(self, key: str) -> bool:
        """Return whether the command line names a setting of the stage's own section."""
        return f"{self._own_section}.{key}" in self._given

    def is_overridden(self, key: str) -> bool:
        """Return whether the command line changes a setting of the stage's own section."""
        section = self._own_section
        in_file = Params(self._in_file, section, self._path).values([section])
        return bool(self.values([section])[section].get(key) != in_file[section].get(key))

    def values(self, sections: Iterable[str] = ()) -> dict[str, Any]:
        """Return sections as plain values, with their defaults: all, where none is named.

        Raises:
            KeyError: There is no section of a name.
            ConfigError: A value refers to one that is not there.
        """
        others = [str(key) for key in self._values if key not in SECTIONS]
        names = list(sections) or [*SECTIONS, *others]
        found = {}
        with _explained(self._path):
            filled = _filled(self._values, names)
        for name in names:
            found[name] = adapt(_plain(filled, name, self._path), kind_of(name))
        return found

    def dump(self, sections: Iterable[str]) -> str:
        """Return the resolved values of `sections` as YAML, to be written beside an output.

        Raises:
            KeyError: There is no section of a name.
        """
        return OmegaConf.to_yaml(OmegaConf.create(self.values(sections)))


def chosen_value(chosen: Any, dotted: str) -> Any:
    """Return the value of a section or a setting; `MISSING` where it was not chosen."""
    for part in dotted.split("."):
        if not isinstance(chosen, dict) or part not in chosen:
            return MISSING
        chosen = chosen[part]
    return chosen


def _filled(values: DictConfig, names: Iterable[str]) -> DictConfig:
    """Return sections with all their defaults, and those that they refer to.

    A section that is not ours stays as it is.
    """
    filled: dict[str, Any] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        kind = kind_of(name)
        if name in filled or (kind is None and name not in values):
            continue
        given = values.get(name)
        given = OmegaConf.to_container(given) if isinstance(given, DictConfig) else given
        if kind is not None and isinstance(given, dict | None):
            filled[name] = with_defaults(kind, given or {})
        else:
            filled[name] = given
        waiting.extend(_REFERENCE.findall(str(given)))
    return OmegaConf.create(filled)


def _chosen(chosen: DictConfig, filled: DictConfig) -> DictConfig:
    """Return of sections with their defaults what was chosen; of others all that was chosen.

    A mapping with keys of the user's choice is whole: what was added, and what is there by default.
    """
    found = cast(dict[str, Any], OmegaConf.to_container(chosen))
    values = cast(dict[str, Any], OmegaConf.to_container(filled))
    for name in values.keys() & found.keys():
        if isinstance(found[name], dict):
            found[name] = chosen_part(kind_of(name), values[name], found[name])
    return OmegaConf.create(found)


def _plain(values: DictConfig, name: str, place: object) -> Any:
    """Return a section as plain values, in which references are resolved."""
    section = OmegaConf.select(values, name)
    if section is None:
        if name in values:
            return None
        raise KeyError(name)
    try:
        return OmegaConf.to_container(section, resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        got = str(error).splitlines()[0]
        where = f"{place}, section {name!r}"
        raise ConfigError("a setting has a bad value", where=where, got=got) from error


def _read_value(key: str, text: str) -> Any:
    """Read the value of an argument as YAML; nothing after the sign is an empty text."""
    if not text or text.lower() in TRUTH:
        return text  # `off` may be a text: that is the setting's to say.
    try:
        read = OmegaConf.from_dotlist([f"value={text}"])
    except (PyYAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise ConfigError(
            f"cannot read the value of {key}",
            where=_COMMAND_LINE,
            expected="YAML in one argument of the shell, such as 'sets=[coa, cot]'",
            got=f"{text}: {problem}",
            fix=f"put the whole argument in quotes: '{key}=...'",
        ) from error
    return cast(dict[str, Any], OmegaConf.to_container(read))["value"]


def _convert(values: DictConfig, kind: type[Section], name: str, place: object) -> Section:
    """Return the section `name` of `values`; `place` is where they were written."""
    with _explained(f"{place}, section {name!r}"):
        return _convert_filled(_filled(values, [name.partition(".")[0]]), kind, name, place)


def _convert_filled(values: DictConfig, kind: type[Section], name: str, place: object) -> Section:
    """Return a section of values to which the defaults were added."""
    where = f"{place}, section {name!r}"
    given = OmegaConf.select(values, name)
    if name not in SECTIONS and (given is None or isinstance(given, DictConfig)):
        own = {} if given is None else cast(dict[str, Any], OmegaConf.to_container(given))
        OmegaConf.update(values, name, with_defaults(kind, own), merge=False)
        given = OmegaConf.select(values, name)
    if not isinstance(given, DictConfig):
        raise ConfigError("a setting has a bad value", where=where, expected="settings", got=given)
    _check_keys(given, kind, where)
    try:
        return msgspec.convert(adapt(_plain(values, name, place), kind), kind)
    except msgspec.ValidationError as error:
        got = str(error).splitlines()[0]
        choices = _choices(kind, got)
        refused = _REFUSED_CHOICE.match(got)
        fix = f"write a value of that kind there, on the command line or in {PARAMS_FILE}"
        raise ConfigError(
            "a setting has a bad value",
            where=where,
            expected=f"one of {list_names(choices)}" if choices else "",
            got=_with_value(got, given),
            fix=_meant(refused[1], choices) if refused else fix,
        ) from error


def _with_value(message: str, given: DictConfig) -> str:
    """Add the refused value to msgspec's message, which names its place: `$.a.b`."""
    path = message.rpartition("$.")[2].rstrip("`")
    value = OmegaConf.select(given, path) if path != message else None
    return message if value is None else f"{message}: {value!r}"[:_MAX_SHOWN]


def _check_sections(values: DictConfig, path: Path) -> None:
    """Refuse a section that is not ours where its name is almost that of one of ours.

    Others may be there for stages of the user's own.
    """
    for name in map(str, values):
        similar = get_close_matches(name, SECTIONS, n=1, cutoff=_ALMOST)
        if name not in SECTIONS and similar:
            raise ConfigError(
                f"unknown section {name!r}", where=path, fix=f"did you mean {similar[0]}?"
            )


def _check_keys(given: DictConfig, kind: type[Any], where: str) -> None:
    """Refuse a key that a section, or a record within it, does not know, or that it must have."""
    hints = hints_of(kind)
    for key in given:
        if key not in hints:
            raise ConfigError(
                f"unknown key {str(key)!r}",
                where=where,
                expected=f"one of {list_names(hints)}",
                fix=change_of(kind, str(key)) or closest(key, hints),
            )
    for field in fields(kind):
        name = field.name
        if name in given:
            _check_within(given[name], hints[name], f"{where}, key {name!r}")
        elif default_of(field) is MISSING:
            raise ConfigError(
                f"the key {name!r} is missing",
                where=where,
                expected=list_names(hints),
                fix=f"add it to {PARAMS_FILE}",
            )


def _check_within(given: Any, hint: Any, where: str) -> None:
    """Check a record, or each record in a list or a mapping; any other value passes."""
    if NoneType in get_args(hint):
        hint = get_args(hint)[0]
    if is_dataclass(hint) and isinstance(given, DictConfig):
        _check_keys(given, hint, where)  # type: ignore[arg-type]
    elif isinstance(given, ListConfig):
        for number, entry in enumerate(given, start=1):
            _check_within(entry, entry_hint(hint), f"{where}, entry {number}")
    elif isinstance(given, DictConfig):
        for name, entry in given.items():
            _check_within(entry, entry_hint(hint), f"{where}, entry {name!r}")


def _meant(value: str, choices: Sequence[str]) -> str:
    """Ask whether one of the choices was meant that hold the value, or that it is known by."""
    known = [choice for choice in _KNOWN_BY.get(value.lower(), ()) if choice in choices]
    found = known or [choice for choice in choices if value and value.lower() in choice]
    return f"did you mean {' or '.join(found)}?" if found else closest(value, choices)


_SERVERS = ("vllm", "sglang", "llama.cpp", "ollama", "tgi", "together", "fireworks")
_VENDORS = ("openai", "anthropic", "claude", "gpt", "gemini", "deepseek", "mistral", "openrouter")
_KNOWN_BY = {
    **dict.fromkeys(_SERVERS, ("completions", "native", "chat")),
    **dict.fromkeys(_VENDORS, ("chat",)),
    **dict.fromkeys(("hf", "transformers", "huggingface"), ("local",)),
    **dict.fromkeys(("scripted", "script"), ("microworld", "gold", "scripted_judge")),
}
"""Names of programs and makers that people write in place of ours."""


def _choices(kind: type[Any], message: str) -> list[str]:
    """List the values of an enum that msgspec's message is about; none for another setting.

    The message names the setting at its end, as in: ... - at `$.a.b`, or `$.a[0].b` in a list.
    """
    path = message.rpartition("$.")[2].rstrip("`")
    hint: Any = kind
    for part in path.split("."):
        name, *entries = part.split("[")
        hint = hints_of(hint).get(name) if is_dataclass(hint) else None
        for _ in entries:
            hint = entry_hint(hint)
    for option in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        if isinstance(option, EnumType):
            values: Iterable[Any] = option
            return [str(value) or '"" (none)' for value in values]
    return []


def list_names(names: Iterable[Any]) -> str:
    """Return names in their order, with commas between them."""
    return ", ".join(sorted(str(name) for name in names))


def _read_yaml(path: Path) -> DictConfig:
    """Read the settings of a file."""
    broken = f"cannot read {path}"
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(broken, expected="a file", got="a folder or a device")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(broken, expected=f"at most {_MAX_BYTES:,} bytes of settings")
        # DVC's parser: it reads `off` as a text, and DVC writes that without quotes.
        values = YAML(typ="safe").load(content.decode("utf-8-sig"))
    except FileNotFoundError:
        fix = "check the path"
        if path.name == PARAMS_FILE.name:
            fix = "run in the folder of your project; `coa params PROFILE` writes the file, "
            fix += "`coa init FOLDER` makes a project"
        raise ConfigError(f"{path} is missing", fix=fix) from None
    except RecursionError as error:
        raise ConfigError(broken, got="values that are nested too deeply") from error
    except (YAMLError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        # The parser has no one class for what it cannot make a value of.
        raise ConfigError(broken, got=str(error).replace("\n", " ")[:_MAX_SHOWN]) from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"{type(values).__name__} {values!r}"[:_MAX_SHOWN]
        fix = "name the settings that differ, such as `sample: {seed: 1}`"
        if path.name == PARAMS_FILE.name:
            fix = f"write the file: python -m coa.params {DEFAULT_PROFILE} overwrite=true"
        raise ConfigError(
            f"{path} must hold sections",
            expected="a mapping of section to settings",
            got=found,
            fix=fix,
        )
    check_plain(values, path)
    for name, section in values.items():
        if name in SECTIONS and not isinstance(section, dict | None):
            where = f"{path}, section {name!r}"
            got = f"{section}"[:_MAX_SHOWN]
            raise ConfigError("a section must hold settings", where=where, got=got)
        if not _SECTION_NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot name a section", where=path, expected="letters, digits, _ and -"
            )
    with _explained(path):
        return OmegaConf.create(values)


def check_plain(values: Any, path: Path) -> None:
    """Refuse values of a file that settings cannot hold; it takes time for what is there, once.

    Raises:
        ConfigError: A key is no text, a value is no text, number, truth value, list or mapping, or
            values are nested too deeply, hold themselves, or multiply by anchors.
    """
    waiting: list[tuple[Any, tuple[str, ...]]] = [(values, ())]
    num_seen = 0
    while waiting:
        value, place = waiting.pop()
        num_seen += 1
        fault = ""
        inner: list[tuple[Any, str]] = []
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str) or not 0 < len(key) <= _MAX_SHOWN:
                    fault = f"the key {str(key)[:_MAX_SHOWN]!r}; a key is a text in one line"
                inner.append((item, str(key)))
        elif isinstance(value, list):
            inner = [(item, str(number)) for number, item in enumerate(value)]
        elif isinstance(value, str):
            fault = _fault_of_text(value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            fault = "a number of more than 64 bits"
        elif not isinstance(value, bool | int | float | None):
            kind = type(value).__name__
            fault = f"a value of the kind {kind}; a date, and what is meant as a text, needs quotes"
        if len(place) > _MAX_DEPTH:
            fault = "values that are nested too deeply, or that hold themselves"
        if num_seen > _MAX_VALUES:
            fault = f"more than {_MAX_VALUES:,} values; anchors multiply them"
        if fault:
            where = f"{path}, {'.'.join(place[:_MAX_DEPTH])}" if place else path
            raise ConfigError(f"{path} holds what no setting can be", where=where, got=fault)
        waiting.extend((item, (*place, key)) for item, key in inner)


def _fault_of_text(text: str) -> str:
    """Say why a text cannot be a setting; empty where it can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair, which no file can hold"
    if text == "???":
        return "`???`, which stands for a missing value; put one there, or leave the key out"
    return ""


@contextmanager
def _explained(place: object) -> Iterator[None]:
    """Turn errors of OmegaConf, such as a reference to nothing, into one that names the file."""
    try:
        yield
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(
            "the settings do not fit together",
            where=place,
            expected="values of the kind that their settings have; ${section.key} refers to "
            "another one, and \\${ is the text itself",
            got=str(error).partition("\n")[0][:_MAX_SHOWN],
        ) from error


def _check_key(values: DictConfig, dotted: str, place: object, in_file: DictConfig) -> None:
    """Refuse a key whose section or parent is unknown, or an unknown key of a section.

    A deeper key may be new, because some mappings are open and some records unset. `section`
    refuses it in the others.
    """
    *parents, last = dotted.split(".")
    node: Any = values
    for i, part in enumerate([*parents, last]):
        is_mapping = isinstance(node, Mapping | DictConfig)
        if is_mapping and part in node:
            node = node.get(part)
            continue
        if i >= 2 and (is_mapping or node is None):
            return
        parent = ".".join(parents[:i]) or "the file"
        names = node if is_mapping else ()
        if i == 0:
            parent = "the settings"
            names = {*SECTIONS, *in_file}
        known = list_names(names) if is_mapping else "no keys below it"
        similar = closest(part, names)
        if i == 0:
            similar = closest(part, get_close_matches(part, names, cutoff=_ALMOST))
        change = change_of(kind_of(parents[0]), part) if i == 1 else ""
        every = _filled(in_file, [*SECTIONS, *map(str, in_file)])
        raise ConfigError(
            f"unknown key {dotted!r}",
            where=place,
            expected=f"in {parent}: {known}",
            fix=change or _hint(dotted, part, similar, _keys_named(last, every, "")),
        )


def _hint(dotted: str, unknown: str, similar: str, elsewhere: Sequence[str]) -> str:
    """Say where a key of this name is, or which name the unknown part resembles.

    A section that is misspelt is answered with the right one, not with all keys of the last name;
    but where only the beginning was left out, `server.model` does not mean the section `serve`.
    """
    longer = [name for name in elsewhere if name.endswith(f".{dotted}")]
    is_last = dotted.rpartition(".")[2] == unknown
    if similar and not longer and not is_last:
        return similar
    found = ", ".join(longer or elsewhere)
    return f"a key of this name is there as {found}" if found else similar


def _keys_named(name: str, values: Mapping[Any, Any], parent: str) -> list[str]:
    """Return the dotted keys below `values` whose last part is `name`."""
    found: list[str] = []
    for key, value in values.items():
        dotted = f"{parent}{key}"
        if key == name:
            found.append(dotted)
        if isinstance(value, Mapping):
            found.extend(_keys_named(name, value, f"{dotted}."))
    return found


class Merged(NamedTuple):
    """What profiles choose that are laid one over the other."""

    values: dict[str, Any]
    comments: dict[str, list[str]]
    """The comments above and behind a setting, by its dotted name."""

    @property
    def text(self) -> str:
        """Return them as YAML."""
        return to_text(self.values, self.comments)


def write_profile(profile: Path, out: Path = PARAMS_FILE, base: Path = DEFAULT_PROFILE) -> None:
    """Write `out`: the base profile, overridden by `profile`.

    Raises:
        ConfigError: A file is missing or broken, or a setting is unknown or has a bad value.
    """
    write_profiles([profile], out, base)


def write_profiles(
    profiles: Sequence[Path], out: Path = PARAMS_FILE, base: Path = DEFAULT_PROFILE
) -> None:
    """Write `out`: the base profile, overridden by `profiles` one after the other.

    Raises:
        ConfigError: A file is missing or broken, or a setting is unknown or has a bad value.
    """
    write_merged(merge_profiles(profiles, base), profiles, out)


def write_merged(merged: Merged, profiles: Sequence[Path], out: Path = PARAMS_FILE) -> None:
    """Write what profiles choose, with their comments and a head that names them."""
    names = " ".join(profile.as_posix() for profile in profiles)
    write_file(out, signed(f"# {_HEAD}{names}`{_HEAD_END}", merged.text))


_HEAD = "Written by `coa params "
_WRITTEN = re.compile("# Written by `(?:coa params|python -m coa.params) ([^`]*)`")
"""The head of a file that was written from profiles, also by an earlier version."""
_HEAD_END = (
    "; change it freely, or sweep with `dvc exp run -S`. What follows was written with the hash "
)


def read_chosen(path: Path) -> dict[str, Any]:
    """Return what a profile itself says, as plain values.

    Raises:
        ConfigError: The file is missing or broken.
    """
    plain = _without_marks(_read_yaml(find_shipped(path)))
    return cast(dict[str, Any], OmegaConf.to_container(plain))


def read_profiles(path: Path) -> list[Path]:
    """Return the profiles that a file names in its head; none where it was not written so."""
    head = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    written = _WRITTEN.match(head)
    return [Path(name) for name in written[1].split()] if written else []


def merge_profiles(profiles: Sequence[Path], base: Path = DEFAULT_PROFILE) -> Merged:
    """Return what the base profile and `profiles` choose, each overriding those before it.

    A mapping with keys of the user's choice is whole: what a profile adds, and what was there.

    Raises:
        ConfigError: A file is missing or broken, or a setting is unknown or has a bad value; the
            error names the file.
    """
    base = find_shipped(base)
    chosen = _read_yaml(base)
    filled = _filled(chosen, [*SECTIONS, *map(str, chosen)])
    comments = merge_comments(base)
    _check_values(filled, chosen, base)
    for profile in map(find_shipped, profiles):
        with _explained(profile):
            overlay = _read_profile(profile, filled)
            comments |= merge_comments(profile)
            chosen = _merged(chosen, _without_marks(overlay))
            filled = _override(filled, overlay)
            _check_values(filled, overlay, profile)
    values = cast(dict[str, Any], OmegaConf.to_container(_chosen(chosen, filled)))
    return Merged(values, comments)


def _check_values(values: DictConfig, chosen: DictConfig, profile: Path) -> None:
    """Refuse a value that was chosen and that its section cannot hold."""
    for name in map(str, chosen):
        kind = kind_of(name)
        if kind is not None:
            _convert(values, kind, name, profile)


def _without_marks(overlay: DictConfig) -> DictConfig:
    """Return a profile without the marks that a mapping replaces another one."""
    plain = deepcopy(overlay)
    for dotted in _replacements(plain):
        OmegaConf.select(plain, dotted).pop(REPLACE)
    return plain


def _merged(base: DictConfig, overlay: DictConfig) -> DictConfig:
    return cast(DictConfig, OmegaConf.merge(base, overlay))


def _override(base: DictConfig, overlay: DictConfig) -> DictConfig:
    """Merge key by key; a mapping with `_replace_: true` replaces the whole mapping of the base."""
    base = deepcopy(base)
    for dotted in _replacements(overlay):
        OmegaConf.update(base, dotted, {}, merge=False)
        OmegaConf.select(overlay, dotted).pop(REPLACE)
    return _merged(base, overlay)


def _replacements(overlay: DictConfig, path: tuple[str, ...] = ()) -> list[str]:
    """Find the mappings that replace another one; return their dotted keys."""
    found: list[str] = []
    for key, value in overlay.items():
        if not isinstance(value, DictConfig):
            continue
        if value.get(REPLACE) is True:
            found.append(".".join((*path, str(key))))
        else:
            found.extend(_replacements(value, (*path, str(key))))
    return found


def _read_profile(profile: Path, base: DictConfig) -> DictConfig:
    """Read a profile, and refuse a section or a setting that is not in the base."""
    if not profile.exists():
        raise _no_profile(profile)
    overlay = _read_yaml(profile)
    for section, settings in overlay.items():
        if isinstance(settings, DictConfig):
            for key in settings:
                _check_key(base, ".".join([str(section), str(key)]), profile, base)
        _check_key(base, str(section), profile, base)
    return overlay


def _no_profile(profile: Path) -> ConfigError:
    """Return the error for a profile that is not there, with the names of those that are."""
    known = shipped_profiles()
    for folder in (DEFAULT_PROFILE.parent, Path(), profile.parent):
        known |= find_profiles(folder)
    similar = most_similar(profile.stem, known)
    fix = (
        f"did you mean {known[similar]}?"
        if similar
        else f"name one of {list_names(known.values())}"
    )
    return ConfigError(f"there is no profile {profile}", fix=fix)


def shipped_profiles() -> dict[str, str]:
    """Return the names under which the shipped profiles are given, by their stems."""
    folder = DEFAULT_PROFILE.parent
    return {name: (folder / f"{name}.yaml").as_posix() for name in find_profiles(ROOT / folder)}


def find_profiles(folder: Path) -> dict[str, str]:
    """Return the paths of a folder's profiles by their names."""
    paths = [path for path in folder.glob("*.yaml") if path.name not in _NO_PROFILES]
    return {path.stem: path.as_posix() for path in paths}
