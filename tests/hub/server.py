"""Serve a folder as a Hugging Face Hub that the real `huggingface_hub` and `datasets` work with.

    python -m tests.hub.server PORT FOLDER      # the account `local`, its token `hf_local`

It speaks the part of the Hub's HTTP API that creating, committing, tagging, listing and loading
need. Small files come with the commit, large ones by LFS. There is no Xet and no pull request.
"""

import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from tests.hub.store import Store
from tests.hub.uploads import Uploads
from tests.hub.views import Access, Views, answered

_FIXED_BEGINNINGS = ("/api/", "/datasets/", "/lfs/")
"""Beginnings of the paths that do not begin with an owner's name."""


def create_app(folder: Path, owner: str, token: str) -> Starlette:
    """Build the application of a Hub with one account, which keeps everything in a folder."""
    access = Access(Store(folder), owner, token)
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
    return Starlette(routes=routes)


if __name__ == "__main__":
    port, directory = sys.argv[1:]
    uvicorn.run(
        create_app(Path(directory), owner="local", token="hf_local"),
        host="127.0.0.1",
        port=int(port),
        log_level="warning",
        access_log=False,
    )
