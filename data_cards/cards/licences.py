"""The sources of a set to their licences: as lines of the card, and as the Hub's licence field."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from coa.errors import ConfigError
from data_cards.cards.safe_markdown import Markdown, inline

CORPUS = "corpus"
"""The name in `render.licenses` under which the licence of the searched passages stands."""
UNKNOWN = "unknown"
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,60}")
_HUB = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0
    isc lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unlicense
    wtfpl zlib
    """.split()  # noqa: SIM905
)
"""Licences with a name of their own on the Hub (huggingface.co/docs/hub/repositories-licenses); others are `other`."""
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
"""Families whose licence what is made of it must bear."""
_SPDX_TO_HUB = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}


class Source(NamedTuple):
    """Where a part of a set's text comes from."""

    what: str
    name: str
    """As `render.licenses` calls it; empty where the source does not say its name."""


class Licence(NamedTuple):
    """A source with its licence."""

    what: Markdown
    source: Markdown
    licence: Markdown


def licences(sources: Iterable[Source], known: Mapping[str, str]) -> list[Licence]:
    """Every source with its licence; those that `known` does not name are said to be unknown."""
    return [
        Licence(
            Markdown(source.what),
            inline(source.name) if source.name else Markdown("not stated"),
            inline(known[source.name]) if source.name in known else Markdown(f"**{UNKNOWN}**"),
        )
        for source in sources
    ]


def licence_fields(sources: Iterable[Source], known: Mapping[str, str]) -> dict[str, Any]:
    """The Hub's fields for the licence of a set: unknown as soon as one source's licence is unknown.

    Raises:
        ConfigError: a licence is not an SPDX id.
    """
    for name, licence in known.items():
        if not _SPDX.fullmatch(licence):
            raise ConfigError(
                f"the licence of {name!r} is not an SPDX id",
                where="render.licenses",
                expected="an id from spdx.org/licenses, such as CC-BY-SA-4.0",
                got=repr(licence[:80]),
            )
    names = sorted({_hub_name(known.get(source.name, UNKNOWN)) for source in sources})
    if UNKNOWN in names or not names:
        return {"license": UNKNOWN}
    if others := [name for name in names if name not in _HUB]:
        return {"license": "other", "license_name": others[0] if len(names) == 1 else "several"}
    return {"license": names[0] if len(names) == 1 else names}


def _hub_name(licence: str) -> str:
    name = licence.lower().removesuffix("-only").removesuffix("-or-later")
    return _SPDX_TO_HUB.get(name, name)


def conflicts(sources: Iterable[Source], known: Mapping[str, str]) -> list[str]:
    """Why the sources of a set cannot be published together: one sentence each, none where they can.

    No lawyer's judgement: it finds what nobody stated, what forbids derived works, and two licences that each want what
    is made of them under their own terms. Versions of one family are taken to go together.
    """
    found: list[str] = []
    families: dict[str, str] = {}
    for source in dict.fromkeys(sources):
        name = _hub_name(known.get(source.name, UNKNOWN))
        if name not in _HUB:
            found.append(
                f"the licence of {source.name or 'a source'} ({source.what}) is unknown: {name}"
            )
        elif "-nd-" in name:
            found.append(f"{name} of {source.name} ({source.what}) forbids derived works")
        else:
            families |= {family: name for family in _SHARE_ALIKE if _family(name) == family}
            if _family(name) == "cc-by-nc":
                families["cc-by-nc"] = name
    if len(families) > 1 and families.keys() != {"cc-by-nc", "cc-by-nc-sa"}:
        found.append(
            f"{' and '.join(sorted(families.values()))} each want what is made of them under their own terms"
        )
    return found


def _family(name: str) -> str:
    """A licence without its version: cc-by-sa-4.0 is of the family cc-by-sa."""
    return re.sub(r"-[\d.]+[a-z]?$", "", name)
