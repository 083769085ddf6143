"""Write figures and names as cells of a Markdown table."""

import re
from collections.abc import Sequence

from coa.intervals import Interval


def show_percent(found: Interval | None) -> str:
    """Write a share with its interval in percent; nothing for None."""
    if found is None:
        return ""
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def show_points(found: Interval | None) -> str:
    """Write a difference in points, in bold where it is beyond noise; nothing for None."""
    if found is None:
        return ""
    text = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"**{text}**" if found.excludes_zero else text


def join_cells(cells: Sequence[str]) -> str:
    """Join cells to a line of a table."""
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Escape a name: it is a file's, and may hold anything."""
    return re.sub(r"([|`<>*_\[\]\\])", r"\\\1", " ".join(text.split()))


def show_mean(values: Sequence[float]) -> str:
    """Show a mean in percent and of how many it is."""
    if not values:
        return ""
    return f"{100 * sum(values) / len(values):.1f} ({len(values):,})"
