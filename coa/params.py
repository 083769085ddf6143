"""From `params.yaml` and `key=value` arguments to one typed, frozen section; and from a profile to `params.yaml`.

    python -m coa.params conf/tiny.yaml                   # write params.yaml from a profile
    python -m coa.params conf/paper.yaml conf/7b.yaml     # from several: a later one has the last word

Each section is a frozen dataclass beside its stage. A key without a dot means the stage's own section
(`mode=cot` is `sample.mode=cot`); a dotted key names its section. Types are checked, an unknown key is an error that
lists the known ones.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from enum import EnumType
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import msgspec
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from coa.errors import ConfigError, writing_error

PARAMS_FILE = Path("params.yaml")
DEFAULT_PROFILE = Path("conf/microworld.yaml")

Section = TypeVar("Section")


class Params:
    """The values of one run: `params.yaml` with the arguments of the command line laid over it."""

    def __init__(self, values: DictConfig, own_section: str, path: Path) -> None:
        self._values = values
        self._own_section = own_section
        self._path = path

    @classmethod
    def load(
        cls, own_section: str, arguments: Sequence[str] = (), path: Path = PARAMS_FILE
    ) -> "Params":
        """Read `path` and lay `arguments` over it; keys without a dot belong to `own_section`.

        Raises:
            ConfigError: the file is missing or broken, or an argument is not `key=value`.
        """
        values = _read_yaml(path)
        for argument in arguments:
            key, equals, _ = argument.partition("=")
            if not equals or not key:
                raise ConfigError(
                    f"cannot read the argument {argument!r}", expected="key=value", got=argument
                )
            dotted = argument if "." in key else f"{own_section}.{argument}"
            _check_key(values, dotted.partition("=")[0], path)
            values = cast(DictConfig, OmegaConf.merge(values, OmegaConf.from_dotlist([dotted])))
        return cls(values, own_section, path)

    def section(self, kind: type[Section], name: str = "") -> Section:
        """The section `name` (default: the stage's own) as an instance of the dataclass `kind`.

        Raises:
            ConfigError: a key is unknown, a value has the wrong type, or a mandatory key is missing.
        """
        name = name or self._own_section
        where = f"{self._path}, section {name!r}"
        given = OmegaConf.select(self._values, name)
        if given is None:
            raise ConfigError(
                f"the section {name!r} is missing", where=self._path, expected=_names(self._values)
            )
        _check_keys(given, kind, where)
        try:
            return msgspec.convert(OmegaConf.to_container(given, resolve=True), kind)
        except (msgspec.ValidationError, OmegaConfBaseException) as error:
            got = str(error).splitlines()[0]
            raise ConfigError(
                "a setting has a bad value", where=where, expected=_choices(kind, got), got=got
            ) from error

    def dump(self, sections: Iterable[str]) -> str:
        """The resolved values of `sections` as YAML, to be written beside an output."""
        chosen = {name: self._values[name] for name in sections}
        return OmegaConf.to_yaml(OmegaConf.create(chosen), resolve=True)


def _check_keys(given: DictConfig, kind: type[Any], where: str) -> None:
    """A section has exactly the keys of its dataclass, and likewise below: no value is hidden in the code."""
    hints = get_type_hints(kind)
    for key in given:
        if key not in hints:
            raise ConfigError(
                f"unknown key {str(key)!r}", where=where, expected=f"one of {_names(hints)}"
            )
    for key, hint in hints.items():
        if key not in given:
            fix = f"add it, or write the file again: python -m coa.params {DEFAULT_PROFILE}"
            raise ConfigError(
                f"the key {key!r} is missing", where=where, expected=_names(hints), fix=fix
            )
        if is_dataclass(hint) and isinstance(given[key], DictConfig):
            _check_keys(given[key], hint, f"{where}, key {key!r}")  # type: ignore[arg-type]


def _choices(kind: type[Any], message: str) -> str:
    """The values that a setting knows, where msgspec's message (`... - at `$.a.b``) is about an enum."""
    hint: Any = kind
    for name in message.rpartition("$.")[2].rstrip("`").split("."):
        hint = get_type_hints(hint).get(name) if is_dataclass(hint) else None
    return f"one of {_names(hint)}" if isinstance(hint, EnumType) else ""


def _names(names: Iterable[Any]) -> str:
    return ", ".join(sorted(str(name) for name in names))


def _read_yaml(path: Path) -> DictConfig:
    try:
        values = OmegaConf.load(path)
    except FileNotFoundError:
        fix = f"run in the repository's root, or write the file: python -m coa.params {DEFAULT_PROFILE}"
        raise ConfigError(f"{path} is missing", fix=fix) from None
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", got=str(error).replace("\n", " ")) from error
    if not isinstance(values, DictConfig):
        raise ConfigError(f"{path} must hold sections", expected="a mapping of section to settings")
    return values


def _check_key(values: DictConfig, dotted: str, path: Path) -> None:
    """Every part of `dotted` exists in the file: overriding never adds a key."""
    node: Any = values
    for i, part in enumerate(dotted.split(".")):
        if not isinstance(node, Mapping | DictConfig) or part not in node:
            parent = ".".join(dotted.split(".")[:i]) or "the file"
            known = _names(node) if isinstance(node, Mapping | DictConfig) else "no keys below it"
            raise ConfigError(
                f"unknown key {dotted!r}", where=path, expected=f"in {parent}: {known}"
            )
        node = node[part]


def write_profile(profile: Path, out: Path = PARAMS_FILE, base: Path = DEFAULT_PROFILE) -> None:
    """Write `out`: the base profile with `profile` laid over it.

    Raises:
        ConfigError: a file is missing or broken, or the profile has a key that the base does not know.
    """
    write_profiles([profile], out, base)


def write_profiles(
    profiles: Sequence[Path], out: Path = PARAMS_FILE, base: Path = DEFAULT_PROFILE
) -> None:
    """Write `out`: the base profile with `profiles` laid over it, one after the other; every key is then spelled out.

    Raises:
        ConfigError: a file is missing or broken, or a profile has a key that the base does not know.
    """
    values = _read_yaml(base)
    merged = OmegaConf.merge(values, *(_read_profile(profile, values) for profile in profiles))
    names = " ".join(profile.as_posix() for profile in profiles)
    head = f"# Written by `python -m coa.params {names}`; change it freely, or sweep with `dvc exp run -S`.\n"
    try:
        out.write_text(head + OmegaConf.to_yaml(merged), encoding="utf-8")
    except OSError as error:
        raise writing_error(out, error) from error


def _read_profile(profile: Path, base: DictConfig) -> DictConfig:
    overlay = _read_yaml(profile)
    for section, settings in overlay.items():
        for key in settings if isinstance(settings, DictConfig) else ():
            _check_key(base, ".".join(map(str, (section, key))), profile)
        _check_key(base, str(section), profile)
    return overlay


def main(arguments: Sequence[str]) -> str:
    """Write `params.yaml` from the profiles that are named; the summary line is returned."""
    if not arguments:
        profiles = _names(path.as_posix() for path in DEFAULT_PROFILE.parent.glob("*.yaml"))
        raise ConfigError(
            "name a profile", expected=f"python -m coa.params PROFILE..., of {profiles}"
        )
    write_profiles([Path(argument) for argument in arguments])
    return f"{PARAMS_FILE} holds the profile {', then '.join(arguments)}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
