"""Cards, published rows and lineage say what calling a tool was worth at the points of pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from coa.records.pairs import PairKind, PreferencePair
from coa.records.worth import ArmSample, Worth, estimate_worth, show_worth
from coa.rollout.forks import ArmChoice, PointChoice
from coa.store import tables
from data_cards import lineage
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.formats.published_rows import flat_fault, read_published, write_published
from data_cards.render import main
from tests.card_support import card, cells
from tests.lineage_support import rows, sections

ACTING = estimate_worth(ArmSample(8, 7, 16), ArmSample(8, 2, 0), price=0.05, confidence=0.9)
THINKING = estimate_worth(ArmSample(8, 1, 8), ArmSample(8, 7, 0), price=0.05, confidence=0.9)
HOSTILE = "<script>alert(1)</script> | a | \u202e"


def measured(pair: PreferencePair) -> PreferencePair:
    """The same pair with both sides forked and what calling was worth."""
    worth = ACTING if pair.kind is PairKind.ACT_IS_BETTER else THINKING
    arms = ("act", "think") if pair.kind is PairKind.ACT_IS_BETTER else ("think", "act")
    return replace(
        pair,
        chosen_id=f"{pair.pair_id}/{arms[0]}/0",
        rejected_id=f"{pair.pair_id}/{arms[1]}/1",
        num_act=worth.act.num,
        num_act_correct=worth.act.num_correct,
        num_think=worth.think.num,
        num_think_correct=worth.think.num_correct,
        worth=worth,
    )


def write_pairs(split: str, pairs: list[PreferencePair]) -> None:
    path = local_path(SetName.COT_A, split)
    path.unlink()
    tables.write_table(path, PreferencePair, pairs)


def measure_all(**changes: Any) -> None:
    """Give every pair but the first train pair a measured worth."""
    for split in SPLITS:
        found = list(tables.read_table(local_path(SetName.COT_A, split), PreferencePair))
        changed = [replace(measured(pair), **changes) for pair in found]
        if split == "train":
            changed[0] = found[0]
        write_pairs(split, changed)


def test_the_card_says_that_both_arms_were_continued(
    card_run: Path,
) -> None:
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    own = {"points": str(PointChoice.BLAME), "arms": str(ArmChoice.BOTH)}
    Path("params.yaml").write_text(yaml.safe_dump({**settings, "branch": own}), encoding="utf-8")
    main([])
    text = card("cot_a").text
    assert "Continuations of both sides were made there." in text
    assert "neither need be the trajectory that was forked" in text
    assert "arms: both" in text


def test_files_without_the_new_columns_make_the_old_card(card_run: Path) -> None:
    main([])
    before = card("cot_a").text
    for split in SPLITS:
        path = local_path(SetName.COT_A, split)
        pq.write_table(pq.read_table(path).drop_columns(["tool", "worth"]), path)
    main([])
    assert cells(card("cot_a").text, "By kind of pair:") == cells(before, "By kind of pair:")


def test_published_pairs_have_the_tool_and_the_worth_as_columns(card_run: Path) -> None:
    measure_all()
    folder = card_run / "published"
    write_published([SetName.COT_A], folder)
    first, second, *_ = read_published(SetName.COT_A, "train", folder)
    assert (first.flat["tool"], first.flat["worth"], first.flat["worth_low"]) == (
        "search",
        None,
        None,
    )
    found = [second.flat[name] for name in ("worth", "worth_low", "worth_high")]
    assert found == [ACTING.value, ACTING.low, ACTING.high]
    assert flat_fault(second) == ""
    other = second._replace(flat={**second.flat, "worth_low": 0.9})
    assert flat_fault(other) == "the column worth_low differs from the pair"


def traced(worth: Worth | None) -> dict[str, list[tuple[str, str]]]:
    """The lineage of a pair whose sides are both called forks."""
    pair: PreferencePair = rows(SetName.COT_A, PreferencePair)[0]
    changed = replace(measured(pair), worth=worth)
    write_pairs("train", [changed])
    return sections(lineage.main([pair.pair_id]))


def test_lineage_prints_the_worth_with_its_interval(linked_run: Path) -> None:
    pair: PreferencePair = rows(SetName.COT_A, PreferencePair)[0]
    facts = dict(traced(ACTING)[f"pair {pair.pair_id}"])
    assert facts["worth"].startswith(f"{show_worth(ACTING)}, confidence 0.9, 0.05 a call")
    assert facts["worth"].endswith("acting 7 of 8 right, thinking 2 of 8")
    assert facts["tool"] == "search"


def test_lineage_says_where_no_worth_was_measured(linked_run: Path) -> None:
    pair: PreferencePair = rows(SetName.COT_A, PreferencePair)[0]
    facts = dict(traced(None)[f"pair {pair.pair_id}"])
    assert facts["worth"] == "not measured: one arm alone was continued"


def test_lineage_follows_the_forked_trajectory_where_neither_side_is_it(linked_run: Path) -> None:
    pair: PreferencePair = rows(SetName.COT_A, PreferencePair)[0]
    assert f"forked {pair.trajectory_id}" not in sections(lineage.main([pair.pair_id]))
    found = traced(ACTING)
    facts = dict(found[f"forked {pair.trajectory_id}"])
    assert facts["grade"].startswith(("correct", "wrong"))
    assert "again, character by character" in found[f"calls of {pair.trajectory_id}"][-1][1]
    other = replace(measured(pair), trajectory_id="gone/cot/0")
    write_pairs("train", [other])
    gone = sections(lineage.main([pair.pair_id]))["forked gone/cot/0"]
    assert gone == [("missing", "not in data/grade.parquet")]
