"""Name the licences of a set's sources: as lines of the card, and as the Hub's licence field."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from coa.errors import ConfigError
from data_cards.cards.safe_markdown import Cell, Markdown, stated, table

CORPUS = "corpus"
"""The name in `render.licenses` under which the licence of the searched passages stands."""
UNKNOWN = "unknown"
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,60}")
_HUB = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
    bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0
    cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
    ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1
    lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unlicense
    wtfpl zlib
    """.split()  # noqa: SIM905
)
"""Licences with a name of their own on the Hub; others are `other`.

From huggingface.co/docs/hub/repositories-licenses.
"""
_SHARE_ALIKE = (
    "cc-by-sa",
    "cc-by-nc-sa",
    "gpl",
    "agpl",
    "lgpl",
    "gfdl",
    "odbl",
    "cdla-sharing",
    "osl",
    "eupl",
    "mpl",
    "epl",
)
"""Families of licences under which derived works must be published, too."""
_SPDX_TO_HUB = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}


class Source(NamedTuple):
    """The origin of a part of a set's text."""

    what: str
    name: str
    """As `render.licenses` calls it; empty where the source does not say its name."""
    licence: str = ""
    """What the rows say of it, where `render.licenses` does not name it; empty: nothing."""


def licence_table(sources: Iterable[Source], known: Mapping[str, str]) -> Markdown:
    """List every source with its licence, which is unknown where nobody states it."""
    rows: list[list[Cell]] = []
    for source in sources:
        licence = stated(_licence(source, known), f"**{UNKNOWN}**")
        rows.append([Markdown(source.what), stated(source.name), licence])
    return table(("what", "from", "licence"), rows)


def _licence(source: Source, known: Mapping[str, str]) -> str:
    """Return the licence of a source: the one in `known`, or else its own; empty for neither."""
    return known.get(source.name) or source.licence


def licence_fields(sources: Iterable[Source], known: Mapping[str, str]) -> dict[str, Any]:
    """Make the Hub's fields for the licence of a set.

    It is unknown as soon as one source's licence is unknown.
    """
    for name, licence in known.items():
        _check_spdx(name, licence, "render.licenses")
    names: set[str] = set()
    for source in sources:
        if source.licence:
            _check_spdx(source.name, source.licence, "ingest.files")
        names.add(_hub_name(_licence(source, known) or UNKNOWN))
    if UNKNOWN in names or not names:
        return {"license": UNKNOWN}
    found = sorted(names)
    others = [name for name in found if name not in _HUB]
    if others:
        return {"license": "other", "license_name": others[0] if len(found) == 1 else "several"}
    return {"license": found[0] if len(found) == 1 else found}


def _check_spdx(name: str, licence: str, where: str) -> None:
    if not _SPDX.fullmatch(licence):
        raise ConfigError(
            f"the licence of {name!r} is not an SPDX id",
            where=where,
            expected="an id from spdx.org/licenses, such as CC-BY-SA-4.0",
            got=repr(licence[:80]),
        )


def _hub_name(licence: str) -> str:
    """Name a licence as the Hub does."""
    name = licence.lower().removesuffix("-only").removesuffix("-or-later")
    return _SPDX_TO_HUB.get(name, name)


def conflicts(sources: Iterable[Source], known: Mapping[str, str]) -> list[str]:
    """Say why the sources of a set cannot be published together: one sentence for each reason.

    This is not a lawyer's judgement. It finds what nobody stated, what forbids derived works, and
    two licences that each want what is made of them under their own terms. Versions of one family
    are taken to go together.
    """
    found: list[str] = []
    families: dict[str, str] = {}
    for source in dict.fromkeys(sources):
        name = _hub_name(_licence(source, known) or UNKNOWN)
        if name not in _HUB:
            found.append(
                f"the licence of {source.name or 'a source'} ({source.what}) is unknown: {name}"
            )
        elif "-nd-" in name:
            found.append(f"{name} of {source.name} ({source.what}) forbids derived works")
        else:
            # A licence without its version: cc-by-sa-4.0 is of the family cc-by-sa.
            family = re.sub(r"-[\d.]+[a-z]?$", "", name)
            if family in _SHARE_ALIKE or family == "cc-by-nc":
                families[family] = name
    if len(families) > 1 and families.keys() != {"cc-by-nc", "cc-by-nc-sa"}:
        names = " and ".join(sorted(families.values()))
        found.append(f"{names} each want what is made of them under their own terms")
    return found
