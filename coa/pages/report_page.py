"""Render a report: one HTML file without scripts that needs no network, in the reports' look."""

from pathlib import Path

_SHARED = Path(__file__).parent / "templates"


def render_report(folder: Path, template: str, **values: object) -> str:
    """Render a template that extends report.html; every text is escaped.

    Args:
        folder: Where the template is.
        template: Its file name. It fills the blocks `title`, `style` and `body`.
        values: What it shows. Only SVG that we drew ourselves may be marked as safe.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, _SHARED]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
