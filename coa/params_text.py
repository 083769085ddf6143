"""Write settings as YAML with a profile's comments, in the form that DVC reads and writes."""

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase
from ruamel.yaml.scalarstring import SingleQuotedScalarString

_LINE = 80
_TRUTH_IN_YAML_1_1 = ("on", "off", "yes", "no", "y", "n")


def with_comments(base: Path, values: Any, head: str) -> str:
    """Return the values as YAML, with the comments and the order of the base profile."""
    yaml = YAML()  # Its defaults are DVC's: `dvc exp run -S` changes a value and nothing else.
    document = yaml.load(base.read_text(encoding="utf-8"))
    _fill(document, values)
    _quote_off(document)
    _spread(document)
    document.yaml_set_start_comment(head)
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _fill(document: Any, values: Any) -> None:
    """Set the values of a document; an unchanged value keeps its spelling and its comments."""
    for key in list(document):
        if key not in values:
            del document[key]
    if list(document) != [key for key in values if key in document]:
        document.clear()  # a mapping that was replaced has its own order, such as `table.rows`
    for key, value in values.items():
        is_mapping = isinstance(value, dict) and isinstance(document.get(key), dict)
        if is_mapping and value:
            _fill(document[key], value)
        elif key not in document or document[key] != value:
            document[key] = value


def _quote_off(node: Any) -> None:
    """Quote `off`, which readers of YAML 1.1, such as PyYAML, take for a truth value."""
    items = node.items() if isinstance(node, dict) else ()
    for key, value in items:
        if isinstance(value, str) and value.lower() in _TRUTH_IN_YAML_1_1:
            node[key] = SingleQuotedScalarString(value)
        else:
            _quote_off(value)


def _spread(node: Any) -> bool:
    """Give each mapping with a colon in a text, such as an address, a line for each key.

    DVC's reader refuses such a text without quotes within braces, and DVC writes none. Mappings
    that fit on no line are spread, too.

    Returns:
        Whether `node` is or holds a text with a colon.
    """
    if isinstance(node, str):
        return ":" in node
    items = [*node, *node.values()] if isinstance(node, dict) else node
    if not isinstance(items, list):
        return False
    found = [_spread(item) for item in items]
    is_long = isinstance(node, dict) and len(repr(node)) > _LINE
    if (any(found) or is_long) and isinstance(node, CommentedBase):
        node.fa.set_block_style()
    return any(found)
