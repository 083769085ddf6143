"""Write a page about the causes of errors: reports/errors.html.

    coa page report

Reads data/analyse.parquet and data/grade.parquet, data/branch/points.parquet where the run makes
pairs, and data/filter/dropped.parquet where it exists. Writes the page, and its charts to
reports/pictures/{funnel,causes,quadrants,actions}.png; without pairs and without questions that
were sampled in both modes there is nothing to compare and no `quadrants`. The page is
self-contained and has no script; equal data give equal bytes. All text that a model or a passage
wrote is escaped, shortened and isolated; the page's own policy forbids scripts and everything from
elsewhere.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from coa.errors import ConfigError
from coa.pages.pictures import Picture
from coa.pages.report_page import render_report
from coa.records.causes import Analysis, Cause
from coa.records.graded import GradedTrajectory
from coa.records.sets import AssembleParams
from coa.records.trajectory import Mode
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import ANALYSED, DROPPED, GRADED, POINTS
from coa.store.whole_files import write_file
from curate.reports import charts
from curate.reports.examples import Choice
from curate.reports.tallies import PointTallies, Tallies, read_points

OUT = Path("reports/errors.html")
PICTURES = Path("reports/pictures")
PICTURE_NAMES = ("funnel", "causes", "quadrants", "worth", "actions")
TEMPLATES = Path(__file__).parent / "templates"


def count_dropped(path: Path) -> Counter[Mode]:
    """Count the rows of each mode that the filter dropped."""
    mode = pl.col("row").struct.field("trajectory").struct.field("mode").alias("mode")
    counted = tables.scan(path, ["row"]).group_by(mode).len().collect()
    dropped: Counter[Mode] = Counter()
    for name, count in counted.iter_rows():
        dropped[Mode(name)] = count
    return dropped


def draw(tallies: Tallies, points: PointTallies | None) -> dict[str, Picture]:
    """Draw the charts; each is returned by the name of its file."""
    causes: dict[str, dict[Cause, int]] = {}
    for mode in tallies.modes:
        counts = tallies.causes_of(mode)
        if counts:
            causes[charts.MODE_NAMES[mode]] = counts
    pictures = {
        "funnel": charts.funnel(tallies),
        "causes": charts.cause_bars(causes),
        "actions": charts.by_actions(tallies.num_by_actions, tallies.correct_by_actions),
    }
    forks = None
    if points is not None and (points.quadrants or not points.num_measured):
        forks = points.quadrants
    if forks is not None or tallies.quadrants.total():
        pictures["quadrants"] = charts.quadrants(tallies.quadrants, forks)
    if points is not None and points.num_measured:
        pictures["worth"] = charts.worth_dots(points)
    return pictures


def render(tallies: Tallies, pictures: dict[str, Picture], **more: Any) -> str:
    """Render the page."""
    from markupsafe import Markup

    # SVG that we drew ourselves is the only text that passes unescaped.
    drawings = {name: Markup(picture.svg) for name, picture in pictures.items()}
    drawings_by_hops: dict[str, Markup] = {}
    for mode in tallies.modes:
        groups = tallies.causes_by_hops(mode)
        if groups:
            drawings_by_hops[charts.MODE_NAMES[mode]] = Markup(charts.stacked_causes(groups).svg)
    return render_report(
        TEMPLATES,
        "errors.html",
        num_rows=tallies.num_rows,
        num_failed=tallies.causes.total(),
        num_unknown=sum(tallies.causes[mode, Cause.UNKNOWN] for mode in Mode),
        pictures=drawings,
        by_hops=drawings_by_hops,
        num_paired=tallies.quadrants.total(),
        num_acting=tallies.num_by_actions.total(),
        colours=charts.CAUSE_COLOURS,
        no_cause=charts.NO_CAUSE,
        **more,
    )


def write(page: str, pictures: dict[str, Picture]) -> None:
    """Write the page and its pictures; remove those of an earlier run that are not drawn now."""
    write_file(OUT, page.encode("utf-8", "replace"))
    for name in PICTURE_NAMES:
        if name not in pictures:
            (PICTURES / f"{name}.png").unlink(missing_ok=True)
    for name, picture in pictures.items():
        write_file(PICTURES / f"{name}.png", picture.png)


def main(arguments: Sequence[str]) -> str:
    """Write the page and its pictures, and return the summary line."""
    if arguments:
        raise ConfigError("this command takes no arguments", got=" ".join(arguments))
    sizes = Params.load("report").section(AssembleParams, "assemble")
    tallies = Tallies()
    choice = Choice()
    for row in tables.read_table(ANALYSED, Analysis):
        tallies.add(row)
        choice.add(row)
    if DROPPED.exists():
        tallies.add_dropped(count_dropped(DROPPED))
    points = read_points(POINTS, ANALYSED) if sizes.makes_pairs else None
    pictures = draw(tallies, points)
    examples = choice.with_texts(tables.read_table(GRADED, GradedTrajectory))
    page = render(
        tallies,
        pictures,
        examples=examples,
        is_filtered=DROPPED.exists(),
        points=points,
    )
    write(page, pictures)
    num_failed = tallies.causes.total()
    return f"{OUT}: {tallies.num_rows:,} trajectories, {num_failed:,} failed; open it in a browser"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
