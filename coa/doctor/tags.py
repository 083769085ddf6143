"""Look how a tokenizer treats the tags of a format, apart from any row."""

from collections.abc import Iterable, Iterator

from coa import protocol
from coa.doctor.findings import Fault, Finding
from coa.doctor.observed import OWN_TAGS, TAGGED
from coa.tokens import SEARCH, PieceEncoder, tools_with_tags
from coa.trajectory import Author, Step, StepKind

_AROUND = (("", ""), (" ", ""), ("", "\n"), ("", "\n\n"), ("\n", "\n"), (".", " "))
"""Texts before and after a tag, as policies and frameworks write them."""


def tools_in(text: str) -> set[str]:
    """Find the tools that a text in this project's own tags calls."""
    return tools_with_tags(protocol.stray_tags([Step(StepKind.THOUGHT, Author.POLICY, text)]))


def tags_of(text_format: str, tools: Iterable[str] = ()) -> tuple[str, ...]:
    """List the tags of a format around calls and observations; none for a format of labels.

    Args:
        text_format: The format.
        tools: What rows in this project's own tags call beside the search.
    """
    if text_format == OWN_TAGS:
        return tuple(sorted(protocol.all_tags({SEARCH, *tools})))
    family = TAGGED.get(text_format)
    if family is None:
        return ()
    return tuple(name for tags in family.tags() for name in tags)


def folded_tags(tags: Iterable[str], encoder: PieceEncoder) -> Iterator[Finding]:
    """Find the tags that the tokenizer does not give back."""
    for tag in tags:
        decoded = encoder.decode(encoder.encode(tag, author=Author.POLICY))
        if decoded != tag:
            yield Finding(Fault.TAG_FOLDED, detail=f"{tag} becomes {decoded}")


def unsearchable_tags(tags: Iterable[str], encoder: PieceEncoder) -> list[str]:
    """List the tags whose tokens change with the text around them.

    A mask that searches the ids for the tokens of such a tag misses it.
    """
    found = []
    for tag in tags:
        alone = encoder.encode(tag, author=Author.POLICY)
        for before, after in _AROUND:
            ids = encoder.encode(f"{before}{tag}{after}", author=Author.POLICY)
            if not _holds(ids, alone):
                found.append(tag)
                break
    return found


def _holds(ids: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """Return whether `part` stands in `ids` as it is."""
    starts = range(len(ids) - len(part) + 1)
    return any(ids[start : start + len(part)] == part for start in starts)
