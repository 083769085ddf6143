"""Serve a folder as a Hugging Face Hub that the real `huggingface_hub` and `datasets` work with.

    python -m data_cards.local_hub owner=me     # 127.0.0.1:8040, everything in .local_hub/
    export HF_ENDPOINT=http://127.0.0.1:8040 HF_TOKEN=hf_local HF_HUB_DISABLE_XET=1

The server is for trying out publishing, and for tests. It speaks the part of the Hub's HTTP API
that creating, committing, tagging, listing and loading need. Small files come with the commit,
large ones by LFS. There is no Xet and no pull request. A browser is shown a repository's card and
files. The server has one account with one token, which can write to that account's names alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from coa.listening import OwnHostOnly
from coa.params import Params
from data_cards.hub_server.store import Store
from data_cards.hub_server.uploads import Uploads
from data_cards.hub_server.views import Access, Views, answered

_FIXED_BEGINNINGS = ("/api/", "/datasets/", "/lfs/")
"""Beginnings of the paths that do not begin with an owner's name."""


@dataclass(frozen=True, slots=True)
class LocalHubParams:
    """Where the server listens, what it keeps, and its account."""

    folder: str = ".local_hub"
    """Where repositories lie; made when it is not there."""
    host: str = "127.0.0.1"
    """The address that it listens on."""
    port: int = 8040
    """The port that it listens on."""
    owner: str = "local"
    """The name of its account."""
    token: str = "hf_local"
    """What `HF_TOKEN` must be, for everything that writes and for private repositories."""


def create_app(params: LocalHubParams) -> Starlette:
    """Build the server's application."""
    access = Access(Store(Path(params.folder)), params.owner, params.token)
    views = Views(access)
    uploads = Uploads(access)
    endpoints = [
        ("GET", "/api/whoami-v2", views.whoami),
        ("POST", "/api/repos/create", uploads.create),
        ("POST", "/api/validate-yaml", uploads.validate_card),
        ("PUT", "/lfs/{sha256}", uploads.lfs_put),
    ]
    for api, files in (("/api/models", ""), ("/api/datasets", "/datasets")):
        repository = f"{api}/{{owner}}/{{name}}"
        contents = f"{files}/{{owner}}/{{name}}"
        endpoints += [
            ("GET", contents, views.page),
            ("GET", repository, views.info),
            ("GET", f"{repository}/revision/{{revision}}", views.info),
            ("GET", f"{repository}/refs", views.refs),
            ("GET", f"{repository}/commits/{{revision}}", views.commits),
            ("GET", f"{repository}/tree/{{revision}}", views.tree),
            ("GET", f"{repository}/tree/{{revision}}/{{path:path}}", views.tree),
            ("POST", f"{repository}/paths-info/{{revision}}", views.paths_info),
            ("POST", f"{repository}/preupload/{{revision}}", uploads.preupload),
            ("POST", f"{repository}/commit/{{revision}}", uploads.commit),
            ("POST", f"{repository}/tag/{{revision}}", uploads.tag),
            ("POST", f"{contents}.git/info/lfs/objects/batch", uploads.lfs_batch),
            ("GET", f"{contents}/resolve/{{revision}}/{{path:path}}", views.resolve),
        ]
    # `/datasets/a/b/...` must be tried before `/{owner}/{name}/...`.
    endpoints.sort(key=lambda endpoint: not endpoint[1].startswith(_FIXED_BEGINNINGS))
    routes = [Route(path, answered(call), methods=[method]) for method, path, call in endpoints]
    return Starlette(routes=routes, middleware=[Middleware(OwnHostOnly, host=params.host)])


def start_line(params: LocalHubParams) -> str:
    """Say what programs need to be told, in the form of a shell, and whose names can be used."""
    told = f"export HF_ENDPOINT=http://{params.host}:{params.port} HF_TOKEN={params.token}"
    return f"{told} HF_HUB_DISABLE_XET=1  # repository={params.owner}/NAME"


def main(arguments: Sequence[str]) -> str:
    """Serve until interrupted."""
    import uvicorn

    params = Params.load("local_hub", arguments).section(LocalHubParams)
    print("serving a Hub until control-C; in another terminal:", file=sys.stderr)
    print(start_line(params), file=sys.stderr)
    uvicorn.run(
        create_app(params),
        host=params.host,
        port=params.port,
        log_level="warning",
        access_log=False,
    )
    return f"{params.folder}/ keeps what was published"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
