"""Causes to one page that a person reads: reports/errors.html, self-contained, without script, the same every time.

    python -m curate.report

Reads data/analyse.parquet and data/grade.parquet, and where they are there data/filter/dropped.parquet and
data/branch/points.parquet. Writes the page and its charts as reports/pictures/{funnel,causes,quadrants,actions}.png.
All text that a model or a passage wrote is escaped, shortened and isolated; the page forbids itself scripts and
everything from elsewhere.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from coa import tables
from coa.causes import Analysis, Cause
from coa.errors import ConfigError
from coa.files import ANALYSED, DROPPED, GRADED, POINTS
from coa.graded import GradedTrajectory
from coa.pairs import Arm
from coa.trajectory import Mode
from coa.whole_files import write_file
from curate import charts
from curate.examples import Choice
from curate.tallies import ArmOutcomes, Tallies, fork_quadrants

OUT = Path("reports/errors.html")
PICTURES = Path("reports/pictures")
TEMPLATES = Path(__file__).parent / "templates"


def count_dropped(path: Path) -> Counter[Mode]:
    """How many rows of each mode the filter dropped.

    Raises:
        InputError: the file is broken or lacks a column.
    """
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, ["row"])
    mode = pl.col("row").struct.field("trajectory").struct.field("mode").alias("mode")
    counted = pl.scan_parquet(path).group_by(mode).len().collect()
    return Counter({Mode(name): count for name, count in counted.iter_rows()})


def read_forks(path: Path) -> Counter[ArmOutcomes]:
    """What became of the forked points, as sides.

    Raises:
        InputError: the file is broken or lacks a column.
    """
    columns = ["arm", "parent_is_correct", "num_continuations", "num_correct"]
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, columns)
    counted = pl.scan_parquet(path).group_by(columns).len().collect().sort(columns)
    rows = (
        (Arm(arm), right, n * times, k * times) for arm, right, n, k, times in counted.iter_rows()
    )
    return fork_quadrants(rows)


def draw(tallies: Tallies, forks: Counter[ArmOutcomes]) -> dict[str, charts.Picture]:
    """The charts by the name of their file."""
    causes = {charts.MODE_NAMES[mode]: tallies.causes_of(mode) for mode in tallies.modes}
    return {
        "funnel": charts.funnel(tallies),
        "causes": charts.cause_bars({name: counts for name, counts in causes.items() if counts}),
        "quadrants": charts.quadrants(tallies.quadrants, forks),
        "actions": charts.by_actions(tallies.num_by_actions, tallies.correct_by_actions),
    }


def render(tallies: Tallies, pictures: dict[str, charts.Picture], **more: Any) -> str:
    """The page; `more` are the examples and what files were there."""
    import jinja2
    from markupsafe import Markup

    by_hops = {charts.MODE_NAMES[mode]: tallies.causes_by_hops(mode) for mode in tallies.modes}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # SVG that we drew ourselves is the only text that passes unescaped.
    return environment.get_template("errors.html").render(
        num_rows=tallies.num_rows,
        num_failed=tallies.causes.total(),
        num_unknown=sum(tallies.causes[mode, Cause.UNKNOWN] for mode in Mode),
        pictures={name: Markup(picture.svg) for name, picture in pictures.items()},
        by_hops={
            name: Markup(charts.stacked_causes(groups).svg)
            for name, groups in by_hops.items()
            if groups
        },
        num_paired=tallies.quadrants.total(),
        num_acting=tallies.num_by_actions.total(),
        colours=charts.CAUSE_COLOURS,
        **more,
    )


def write(page: str, pictures: dict[str, charts.Picture]) -> None:
    """Write the page and its pictures.

    Raises:
        OutputError: one of them cannot be written.
    """
    files = {OUT: page.encode("utf-8", "replace")}
    files |= {PICTURES / f"{name}.png": picture.png for name, picture in pictures.items()}
    for path, content in files.items():
        write_file(path, content)


def main(arguments: Sequence[str]) -> str:
    """Write the page and its pictures; the summary line is returned."""
    if arguments:
        raise ConfigError("this command takes no arguments", got=" ".join(arguments))
    tallies, choice = Tallies(), Choice()
    for row in tables.read_table(ANALYSED, Analysis):
        tallies.add(row)
        choice.add(row)
    if DROPPED.exists():
        tallies.add_dropped(count_dropped(DROPPED))
    forks = read_forks(POINTS) if POINTS.exists() else Counter[ArmOutcomes]()
    pictures = draw(tallies, forks)
    examples = choice.with_texts(tables.read_table(GRADED, GradedTrajectory))
    page = render(
        tallies, pictures, examples=examples, is_filtered=DROPPED.exists(), num_forks=forks.total()
    )
    write(page, pictures)
    return f"{OUT}: {tallies.num_rows:,} trajectories, {tallies.causes.total():,} failed; open it in a browser"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
