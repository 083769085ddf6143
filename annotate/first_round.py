"""Show what the first round said, and what was measured at the points of pairs.

The first round sees neither, so that its verdicts come from the texts alone. The second round and
the page of agreement show both.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from annotate.layouts import is_chosen_left
from coa.records.pairs import PairKind, PreferencePair
from coa.records.worth import show_worth
from coa.store import tables
from coa.store.files import PAIRS
from coa.store.reviews import DECISIVE, Preference, Review, ReviewKind, pair_version

_BOTH_SIDES: Mapping[str, str] = {Preference.TIE: "no difference", Preference.BOTH_BAD: "both bad"}


class ReviewedPair(NamedTuple):
    """A pair with the verdicts of the first round."""

    pair_id: str
    tool: str
    said: tuple[tuple[str, int], ...]
    """Each verdict in plain words, with how many gave it."""
    worth: str
    """The worth of acting with its interval; empty where it was not measured."""
    num_as_measured: int
    """Reviews that prefer the chosen side."""
    num_against: int
    """Reviews that prefer the rejected side."""


def first_verdicts(
    reviews: Iterable[Review], kind: ReviewKind
) -> Mapping[tuple[str, str], Counter[str]]:
    """Count the verdicts of the first round on a kind, by the id and the version of the item."""
    found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for review in reviews:
        if review.kind is kind and review.round == 1:
            found[review.item_id, review.version][review.value(DECISIVE[kind])] += 1
    return found


def show_verdicts(said: Counter[str], names: Mapping[str, str]) -> Sequence[str]:
    """Write a line with the verdicts of the first round; no line where there are none."""
    if not said:
        return ()
    verdicts = [f"{verdict}: {count}" for verdict, count in _in_words(said, names)]
    return (f"The first round said: {', '.join(verdicts)}.",)


def reviewed_pairs(reviews: Iterable[Review]) -> Iterator[ReviewedPair]:
    """Yield the pairs that the first round reviewed, as far as their texts are still the same."""
    verdicts = first_verdicts(reviews, ReviewKind.PAIR)
    ids = {pair_id for pair_id, _ in verdicts}
    if not ids or not PAIRS.exists():
        return
    for pair in tables.read_table(PAIRS, PreferencePair):
        if pair.pair_id not in ids:
            continue
        said = verdicts.get((pair.pair_id, pair_version(pair)))
        if not said:
            continue
        is_acting_chosen = pair.kind is PairKind.ACT_IS_BETTER
        names: dict[str, str] = {
            Preference.CHOSEN: "acting" if is_acting_chosen else "thinking on",
            Preference.REJECTED: "thinking on" if is_acting_chosen else "acting",
        }
        yield ReviewedPair(
            pair_id=pair.pair_id,
            tool=pair.tool,
            said=_in_words(said, names),
            worth=show_worth(pair.worth) if pair.worth else "",
            num_as_measured=said[Preference.CHOSEN],
            num_against=said[Preference.REJECTED],
        )


def notes_of_second_round(pair: PreferencePair, said: Counter[str]) -> Sequence[str]:
    """Say what was measured at a pair's point, and what the first round said of its sides."""
    chosen, rejected = ("A", "B") if is_chosen_left(pair.pair_id) else ("B", "A")
    names: dict[str, str] = {Preference.CHOSEN: chosen, Preference.REJECTED: rejected}
    is_chosen_acting = pair.kind is PairKind.ACT_IS_BETTER
    acting, thinking = (chosen, rejected) if is_chosen_acting else (rejected, chosen)
    counts = (
        f"{pair.num_act_correct} of {pair.num_act} continuations right that call {pair.tool} "
        f"there, as {acting} does, and {pair.num_think_correct} of {pair.num_think} that do not, "
        f"as {thinking}"
    )
    measured = f"Measured: {counts}."
    if pair.worth is not None:
        worth = f"calling is worth {show_worth(pair.worth)}"
        if pair.worth.confidence:
            worth += f" ({pair.worth.confidence:.0%} interval)"
        measured = f"Measured: {worth}; {counts}."
    return (measured, *show_verdicts(said, names))


def _in_words(said: Counter[str], names: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Name each verdict, the most frequent first."""
    every_name = {**names, **_BOTH_SIDES}
    found: list[tuple[str, int]] = []
    for verdict, count in sorted(said.items(), key=lambda item: (-item[1], item[0])):
        found.append((every_name.get(verdict, verdict), count))
    return tuple(found)
