"""Serve the pages of `coa view`: lists of rows, one row, two side by side, what is behind a row.

Every page is a GET, is made here from templates, and writes nothing. Texts of models and of the web
are escaped wherever they stand, and the pages may run no script but their own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coa.errors import CoaError, ConfigError
from coa.network.listener import OwnHostOnly
from coa.pages import markup
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.store import tables
from coa.terminal import printable
from coa.view import shown
from coa.view.listing import FILTERS, Search, all_rows, choices, find_rows, neighbour
from coa.view.lookups import Related, find_analysis, find_numbers, read_row, rows_of_question
from coa.view.masks import Masks
from coa.view.related import behind, side_by_side
from coa.view.run_files import RunFile

ROWS_PER_PAGE = 50
_FRAME = '<span class="unseen" title="{name}">{shown}</span>'
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SafeHeaders:
    """A filter that adds the headers under which hostile text can do nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), it.encode()) for name, it in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its reply."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        await self._app(scope, receive, send_safely)


def create_app(
    files: Mapping[str, RunFile], masks: Masks, settings: Sequence[str] = ()
) -> Starlette:
    """Create the application.

    Only `files`, which are given by name, can be asked for. `settings` override params.yaml, by
    which the calls of a row are found.
    """
    pages = _Pages(files, masks, settings)
    routes = [
        Route("/", pages.files, methods=["GET"]),
        Route("/rows", pages.rows, methods=["GET"]),
        Route("/row", pages.row, methods=["GET"]),
        Route("/neighbour", pages.neighbour, methods=["GET"]),
        Route("/compare", pages.compare, methods=["GET"]),
        Route("/behind", pages.behind, methods=["GET"]),
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(SafeHeaders), Middleware(OwnHostOnly, host="127.0.0.1")],
        exception_handlers={HTTPException: pages.not_found, CoaError: pages.refused},
    )


class _Pages:
    def __init__(self, files: Mapping[str, RunFile], masks: Masks, settings: Sequence[str]) -> None:
        self._settings = settings
        self._files = files
        self._masks = masks
        self._templates = Environment(
            loader=PackageLoader("coa.view"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            # Whatever a template prints is escaped, and signs that cannot be seen are spelled out.
            finalize=lambda value: printable(value) if type(value) is str else value,
        )
        self._templates.filters["text"] = _as_text
        self._templates.globals["url"] = _url

    def files(self, _: Request) -> Response:
        """List the files."""
        listed = []
        for file in self._files.values():
            if not file.path.exists():  # A run is writing it again.
                continue
            size = file.path.stat().st_size
            listed.append((file, tables.count_rows(file.path), size))
        return self._page("files.html", listed=listed)

    def rows(self, request: Request) -> Response:
        """List the rows of a file, those that are wanted."""
        file = self._file(request)
        search = _search_of(request)
        found = find_rows(file, search)
        page = max(0, _number(request, "page"))
        part = found.slice(page * ROWS_PER_PAGE, ROWS_PER_PAGE)
        return self._page(
            "rows.html",
            file=file,
            files=self._files.values(),
            search=search,
            chosen=dict(search.values),
            query=_query(search),
            rows=part.to_dicts(),
            columns=found.columns,
            num_found=len(found),
            num_rows=len(all_rows(file)),
            page=page,
            num_pages=-(-len(found) // ROWS_PER_PAGE),
            first=page * ROWS_PER_PAGE,
            choices=list(choices(found)),
        )

    def row(self, request: Request) -> Response:
        """Show one row."""
        file = self._file(request)
        number = self._find(request, file)
        row = read_row(file, number)
        query = {"file": file.name, "id": request.query_params.get("id", "")}
        examinable = shown.examinable(row)
        examined = None
        if "masks" in request.query_params and examinable is not None:
            examined = self._masks.examine(examinable)
        context: dict[str, Any] = {
            "file": file,
            "row": row,
            "row_id": query["id"],
            "query": query | _query(_search_of(request)),
            "number": number,
            "examined": examined,
            "has_masks": examinable is not None,
            "steps_of": shown.shown_steps,
        }
        if isinstance(row, Question):
            return self._page("question.html", **context)
        if isinstance(row, PreferencePair):
            return self._page("pair.html", facts=shown.pair_facts(row), **context)
        return self._page("trajectory.html", **context, **_of_trajectory(file, row))

    def neighbour(self, request: Request) -> Response:
        """Go to the row before or after one, among those that are wanted."""
        file = self._file(request)
        number = self._find(request, file)
        found = find_rows(file, _search_of(request))
        query = _query(_search_of(request)) | {"file": file.name}
        if "masks" in request.query_params:
            query["masks"] = "1"
        other = neighbour(found, number, _number(request, "by"))
        row_id = other or request.query_params["id"]
        return RedirectResponse(_url("/row", query | {"id": row_id}), 303)

    def compare(self, request: Request) -> Response:
        """Show two trajectories of one question side by side."""
        related = rows_of_question(self._files, request.query_params.get("question", ""))
        wanted = [request.query_params.get(name, "") for name in ("left", "right")]
        table, sides = side_by_side(related, *wanted)
        if not table:
            raise HTTPException(404, "no open file has a trajectory of this question")
        left, right = [_of_side(side) if side else None for side in sides]
        return self._page(
            "compare.html",
            question_id=request.query_params["question"],
            table=table,
            left=left,
            right=right,
        )

    def behind(self, request: Request) -> Response:
        """Show where a row stands, what was made of it, and the calls that made it."""
        file = self._file(request)
        row = read_row(file, self._find(request, file))
        context = behind(self._files, file, row, request.query_params["id"], self._settings)
        return self._page("behind.html", file=file, row_id=request.query_params["id"], **context)

    async def not_found(self, _: Request, error: Exception) -> Response:
        """Say what is not there."""
        assert isinstance(error, HTTPException)
        return self._error(error.status_code, error.detail)

    async def refused(self, _: Request, error: Exception) -> Response:
        """Say why a page cannot be shown."""
        return self._error(400 if isinstance(error, ConfigError) else 500, str(error))

    def _file(self, request: Request) -> RunFile:
        name = request.query_params.get("file", "")
        if name not in self._files:
            raise HTTPException(404, f"the file {name!r} is not open here")
        return self._files[name]

    def _find(self, request: Request, file: RunFile) -> int:
        row_id = request.query_params.get("id", "")
        found = find_numbers(file, "id", row_id)
        if not found:
            raise HTTPException(404, f"{file.name} has no row {row_id!r}")
        return found[0]

    def _page(self, template: str, **context: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(context))

    def _error(self, status: int, what: str) -> Response:
        page = self._page("error.html", status=status, what=what)
        page.status_code = status
        return page


def _of_trajectory(file: RunFile, row: Any) -> dict[str, Any]:
    """Return what the page of a trajectory shows beside the row."""
    trajectory = shown.trajectory_of(row)
    assert trajectory is not None
    analysis = find_analysis(file, trajectory)
    return {
        "it": trajectory,
        "graded": shown.graded_of(row),
        "dropped": row if hasattr(row, "reason") else None,
        "analysis": analysis,
        "facts": shown.trajectory_facts(row),
        "steps": shown.shown_steps(trajectory.steps, analysis=analysis),
    }


def _of_side(row: Related) -> dict[str, Any]:
    shown_row = _of_trajectory(row.file, read_row(row.file, row.number))
    return {"file": row.file, "address": row.address, **shown_row}


def _search_of(request: Request) -> Search:
    given = request.query_params
    values = tuple((name, given[name]) for name in FILTERS if given.get(name))
    return Search(values, given.get("q", "").strip(), "steps" in given, given.get("sort", ""))


def _query(search: Search) -> dict[str, str]:
    """Return the part of an address that asks for this search."""
    query = dict(search.values)
    if search.text:
        query["q"] = search.text
    if search.in_steps:
        query["steps"] = "1"
    if search.sort:
        query["sort"] = search.sort
    return query


def _number(request: Request, name: str) -> int:
    try:
        return int(request.query_params.get(name, "0"))
    except ValueError:
        return 0


def _url(path: str, query: Mapping[str, object], **changes: object) -> str:
    """Write an address; a change to None leaves a key out."""
    merged = {**query, **changes}
    given = {name: value for name, value in merged.items() if value is not None}
    return f"{path}?{urlencode(given, errors='replace')}"


def _as_text(text: str) -> Markup:
    """Write a text so that every character is seen and none does anything."""
    return Markup(markup.escaped(text, _FRAME))
