"""What the screen found of each evaluation set, as a table of a card: its rows were left out, none is in the set."""

from coa.files import EVALUATION_SETS
from data_cards.cards.safe_markdown import Markdown, inline, table
from data_cards.catalogue import SetName
from data_cards.facts import collect, scan

_COLUMNS = {SetName.COT_A: "num_pairs", SetName.RL: "num_train_questions"}


def contamination(name: SetName) -> Markdown | str:
    """Every evaluation set with its size and the rows that touch it; empty where nothing was screened.

    Raises:
        InputError: the screen's file is broken or lacks a column.
    """
    if not EVALUATION_SETS.exists():
        return ""
    column = _COLUMNS.get(name, "num_trajectories")
    found = collect(
        scan(EVALUATION_SETS, ["name", "num_questions", column]).select(
            "name", "num_questions", column
        )
    )
    unit = {SetName.COT_A: "pairs", SetName.RL: "questions"}.get(name, "trajectories of both modes")
    headings = ("evaluation set", "questions compared", f"{unit} that touch it, left out")
    return table(
        headings,
        [(inline(set_name), size, left_out) for set_name, size, left_out in found.iter_rows()],
    )
