"""Write settings as YAML with the comments of profiles, in the form that DVC reads and writes."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import SingleQuotedScalarString

from coa.settings.sections import TRUTH

_LINE = 80
_KEY = re.compile(r"( *)([\w-]+):( |$)")
_BEHIND = re.compile(r"\s(#.*)")
"""A comment behind a value; one with brackets or quotes may be a part of the value."""
_NO_COMMENT = re.compile(r"""^.*["'{}\[\]]""")
"""What ends with a bracket or a quote."""


def merge_comments(profile: Path) -> dict[str, list[str]]:
    """Return the comments of a profile by the dotted name of the setting beside them.

    They are the lines directly above it, and the comment behind its value. A comment within a list
    belongs to the list. What a blank line parts from the first setting is about the whole file.
    """
    found: dict[str, list[str]] = {}
    path: list[str] = []
    above: list[str] = []
    for line in profile.read_text(encoding="utf-8-sig").splitlines():
        key = _KEY.match(line)
        if key is not None:
            path = [*path[: len(key[1]) // 2], key[2]]
        behind = _BEHIND.search(_NO_COMMENT.sub("", line))
        if line.lstrip().startswith("#"):
            above.append(line.strip())
            continue
        comments = above + ([behind[1].strip()] if behind else [])
        if comments and line.strip() and path:
            found.setdefault(".".join(path), []).extend(comments)
        above = []
    return found


def to_text(values: dict[str, Any], comments: dict[str, list[str]]) -> str:
    """Return settings as YAML: each below its comments, sections parted by a line."""
    yaml = YAML()  # Its defaults are DVC's: `dvc exp run -S` changes a value and nothing else.
    stream = StringIO()
    yaml.dump(_to_nodes(values, "", comments), stream)
    lines: list[str] = []
    path: list[str] = []
    for line in stream.getvalue().splitlines():
        key = _KEY.match(line)
        if key is not None:
            path = [*path[: len(key[1]) // 2], key[2]]
            if not key[1]:
                lines.append("")
            lines += [key[1] + comment for comment in comments.get(".".join(path), ())]
        lines.append(line)
    return "\n".join(lines) + "\n"


def _to_nodes(value: Any, name: str, comments: dict[str, list[str]]) -> Any:
    """Return values for the YAML writer: what fits on a line is written on one, in brackets.

    Not so a section, nor what has a comment within. DVC's reader refuses a text with a colon
    without quotes within brackets, and DVC writes no quotes: so what holds such a text, as an
    address, is given a line for each key. `off` is quoted, because readers of YAML 1.1, such as
    PyYAML, take it for a truth value.
    """
    if isinstance(value, str) and value.lower() in TRUTH:
        return SingleQuotedScalarString(value)
    node: CommentedBase
    if isinstance(value, dict):
        node = CommentedMap()
        for key, item in value.items():
            node[key] = _to_nodes(item, f"{name}.{key}" if name else str(key), comments)
        has_comments = any(commented.startswith(f"{name}.") for commented in comments)
        is_spread = name.count(".") == 0 or has_comments
    elif isinstance(value, list):
        node = CommentedSeq(_to_nodes(item, f"{name}[]", comments) for item in value)
        is_spread = False
    else:
        return value
    if not value or not (is_spread or _is_deep(value) or len(repr(value)) > _LINE):
        node.fa.set_flow_style()
    return node


def _is_deep(value: Any) -> bool:
    """Return whether a value holds a text with a colon, or a mapping below its first level."""
    items = [*value, *value.values()] if isinstance(value, dict) else value
    for item in items:
        if isinstance(item, str) and ":" in item:
            return True
        if isinstance(item, dict) and item:
            return True
        if isinstance(item, list) and _is_deep(item):
            return True
    return False
