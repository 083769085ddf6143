"""Read typed settings from `params.yaml` and `key=value` arguments; write `params.yaml`.

Each section is a frozen dataclass beside its stage. A key without a dot belongs to the stage's own
section (`mode=cot` is `sample.mode=cot`); a dotted key names its section. Types are checked, and an
unknown key is an error that lists the known ones. Some settings are mappings with keys of the
user's choice, such as `train.rl2.rewards`. There a key may be added (`train.rl2.rewards.f1=0.5`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from enum import EnumType
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from coa.errors import ConfigError, closest, most_similar
from coa.params_text import with_comments
from coa.whole_files import write_file

PARAMS_FILE = Path("params.yaml")
DEFAULT_PROFILE = Path("conf/microworld.yaml")
_NO_PROFILES = (PARAMS_FILE.name, "dvc.yaml")
"""Files that this command writes, so none of them is offered as a profile."""
REPLACE = "_replace_"
"""A profile's mapping that holds `_replace_: true` replaces the whole mapping of the base."""

_COMMAND_LINE = "the command line"
_REFUSED_CHOICE = re.compile("Invalid enum value '([^']*)'")
"""How msgspec tells the value of an enum that it refuses."""

Section = TypeVar("Section")


class Params:
    """The values of one run: `params.yaml`, overridden by the arguments of the command line."""

    def __init__(
        self, values: DictConfig, own_section: str, path: Path, in_file: DictConfig | None = None
    ) -> None:
        self._values = values
        self._in_file = values if in_file is None else in_file
        """The values before those of the command line."""
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
        return cls(_read_yaml(path), own_section, path).override(arguments)

    def override(self, arguments: Sequence[str]) -> "Params":
        """Return these values, overridden by further arguments.

        Raises:
            ConfigError: An argument is not `key=value`, or its key is unknown.
        """
        values = self._values
        for argument in arguments:
            key, equals, _ = argument.partition("=")
            if not equals or not key:
                raise ConfigError(
                    f"cannot read the argument {argument!r}",
                    where=_COMMAND_LINE,
                    expected="key=value",
                    got=argument,
                )
            dotted = argument if "." in key else f"{self._own_section}.{argument}"
            _check_key(values, dotted.partition("=")[0], _COMMAND_LINE)
            values = cast(DictConfig, OmegaConf.merge(values, OmegaConf.from_dotlist([dotted])))
        return Params(values, self._own_section, self._path, self._in_file)

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

    def values(self) -> dict[str, Any]:
        """Return all sections as plain values."""
        return cast(dict[str, Any], OmegaConf.to_container(self._values, resolve=True))

    def dump(self, sections: Iterable[str]) -> str:
        """Return the resolved values of `sections` as YAML, to be written beside an output."""
        chosen = {name: self._values[name] for name in sections}
        return OmegaConf.to_yaml(OmegaConf.create(chosen), resolve=True)


def _convert(values: DictConfig, kind: type[Section], name: str, place: object) -> Section:
    """Return the section `name` of `values`; `place` is where they were written.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type.
    """
    given = OmegaConf.select(values, name)
    if given is None:
        raise ConfigError(
            f"the section {name!r} is missing", where=place, expected=list_names(values)
        )
    where = f"{place}, section {name!r}"
    _check_keys(given, kind, where)
    try:
        return msgspec.convert(OmegaConf.to_container(given, resolve=True), kind)
    except (msgspec.ValidationError, OmegaConfBaseException) as error:
        got = str(error).splitlines()[0]
        choices = _choices(kind, got)
        refused = _REFUSED_CHOICE.match(got)
        raise ConfigError(
            "a setting has a bad value",
            where=where,
            expected=f"one of {list_names(choices)}" if choices else "",
            got=got,
            fix=closest(refused[1], choices) if refused else "",
        ) from error


def _check_keys(given: DictConfig, kind: type[Any], where: str, *, is_entry: bool = False) -> None:
    """Refuse a section that has not exactly the keys of its dataclass, or one within it.

    So no value is hidden in the code. Only the entries of a list or of a mapping of records, and
    records that may be unset, may leave out keys that have a default.
    """
    hints = get_type_hints(kind)
    for key in given:
        if key not in hints:
            raise ConfigError(
                f"unknown key {str(key)!r}",
                where=where,
                expected=f"one of {list_names(hints)}",
                fix=closest(key, hints),
            )
    for key, hint in hints.items():
        if key in given:
            _check_within(given[key], hint, f"{where}, key {key!r}", is_entry=is_entry)
        elif not is_entry:
            fix = f"add it, or write the file again: python -m coa.params {DEFAULT_PROFILE}"
            raise ConfigError(
                f"the key {key!r} is missing", where=where, expected=list_names(hints), fix=fix
            )


def _check_within(given: Any, hint: Any, where: str, *, is_entry: bool) -> None:
    """Check a record, or each record in a list or a mapping; any other value is left alone."""
    if NoneType in get_args(hint):
        hint = get_args(hint)[0]
        is_entry = True
    if is_dataclass(hint) and isinstance(given, DictConfig):
        _check_keys(given, hint, where, is_entry=is_entry)  # type: ignore[arg-type]
    elif isinstance(given, ListConfig):
        for number, entry in enumerate(given, start=1):
            _check_within(entry, _entry_hint(hint), f"{where}, entry {number}", is_entry=True)
    elif isinstance(given, DictConfig):
        for name, entry in given.items():
            _check_within(entry, _entry_hint(hint), f"{where}, entry {name!r}", is_entry=True)


def _entry_hint(hint: Any) -> Any:
    """Return the type of the entries of a list or a mapping; None for another type."""
    kind = get_origin(hint)
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Mapping):
        return get_args(hint)[1]
    return get_args(hint)[0] if issubclass(kind, Sequence) else None


def _choices(kind: type[Any], message: str) -> list[str]:
    """List the values of an enum that msgspec's message is about; none for another setting.

    The message names the setting at its end, as in: ... - at `$.a.b`, or `$.a[0].b` in a list.
    """
    path = message.rpartition("$.")[2].rstrip("`")
    hint: Any = kind
    for part in path.split("."):
        name, *entries = part.split("[")
        hint = get_type_hints(hint).get(name) if is_dataclass(hint) else None
        for _ in entries:
            hint = _entry_hint(hint)
    for option in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        if isinstance(option, EnumType):
            values: Iterable[Any] = option
            return [str(value) or '"" (none)' for value in values]
    return []


def list_names(names: Iterable[Any]) -> str:
    """Return names in their order, with commas between them."""
    return ", ".join(sorted(str(name) for name in names))


def _read_yaml(path: Path) -> DictConfig:
    try:
        # DVC's parser: it reads `off` as a text, and DVC writes that without quotes.
        values = OmegaConf.create(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        fix = "run in the repository's root"
        if path.name == PARAMS_FILE.name:
            fix += f", or write the file: python -m coa.params {DEFAULT_PROFILE}"
        raise ConfigError(f"{path} is missing", fix=fix) from None
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", got=str(error).replace("\n", " ")) from error
    if not isinstance(values, DictConfig):
        raise ConfigError(f"{path} must hold sections", expected="a mapping of section to settings")
    return values


def _check_key(values: DictConfig, dotted: str, place: object) -> None:
    """Refuse a key whose section or parent is not in the file, or an unknown key of a section.

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
        known = list_names(node) if is_mapping else "no keys below it"
        similar = closest(part, node if is_mapping else ())
        raise ConfigError(
            f"unknown key {dotted!r}",
            where=place,
            expected=f"in {parent}: {known}",
            fix=_hint(dotted, part, similar, _keys_named(last, values, "")),
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


def write_profile(profile: Path, out: Path = PARAMS_FILE, base: Path = DEFAULT_PROFILE) -> None:
    """Write `out`: the base profile, overridden by `profile`.

    Raises:
        ConfigError: A file is missing or broken, or the profile has a key that is not in the base.
    """
    write_profiles([profile], out, base)


def write_profiles(
    profiles: Sequence[Path], out: Path = PARAMS_FILE, base: Path = DEFAULT_PROFILE
) -> None:
    """Write `out`: the base profile, overridden by `profiles` one after the other.

    The file holds every key.

    Raises:
        ConfigError: A file is missing or broken, or a profile has a key that is not in the base.
    """
    merged = _read_yaml(base)
    for profile in profiles:
        merged = _override(merged, _read_profile(profile, merged))
    names = " ".join(profile.as_posix() for profile in profiles)
    head = (
        f"Written by `python -m coa.params {names}`; "
        "change it freely, or sweep with `dvc exp run -S`."
    )
    values = OmegaConf.to_container(merged)
    write_file(out, with_comments(base, values, head))


def _override(base: DictConfig, overlay: DictConfig) -> DictConfig:
    """Merge key by key; a mapping with `_replace_: true` replaces the whole mapping of the base."""
    for dotted in _replacements(overlay):
        OmegaConf.update(base, dotted, {}, merge=False)
        OmegaConf.select(overlay, dotted).pop(REPLACE)
    return cast(DictConfig, OmegaConf.merge(base, overlay))


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
                _check_key(base, ".".join([str(section), str(key)]), profile)
        _check_key(base, str(section), profile)
    return overlay


def _no_profile(profile: Path) -> ConfigError:
    """Return the error for a profile that is not there, with the names of those that are."""
    known = (
        find_profiles(DEFAULT_PROFILE.parent)
        | find_profiles(Path())
        | find_profiles(profile.parent)
    )
    similar = most_similar(profile.stem, known)
    fix = (
        f"did you mean {known[similar]}?"
        if similar
        else f"name one of {list_names(known.values())}"
    )
    return ConfigError(f"there is no profile {profile}", fix=fix)


def find_profiles(folder: Path) -> dict[str, str]:
    """Return the paths of a folder's profiles by their names."""
    paths = [path for path in folder.glob("*.yaml") if path.name not in _NO_PROFILES]
    return {path.stem: path.as_posix() for path in paths}
