"""Show the files of a run in a browser on this machine.

    coa view                              # all files in data/
    coa view data/grade.parquet coa       # files, folders, or names of sets
    coa view port=8051 tokenizer=Qwen/Qwen2.5-7B-Instruct

Lists with filters, one trajectory in its authors' colours, two side by side, pairs, masks, and what
is behind a row (docs/daily_use.md). It listens on 127.0.0.1 alone and writes nothing.
"""

import sys
from collections.abc import Sequence

import uvicorn

from coa.network.listener import listen
from coa.settings.params import Params
from coa.view.app import create_app
from coa.view.masks import Masks
from coa.view.run_files import find_files
from coa.view.settings import ViewParams


def main(arguments: Sequence[str]) -> str:
    """Serve the pages until interrupted, and return the summary line."""
    names = [argument for argument in arguments if "=" not in argument]
    settings = [argument for argument in arguments if "=" in argument]
    params = Params.load("view", settings).section(ViewParams)
    files = find_files(names)
    listener = listen("127.0.0.1", params.port, "view.port")
    port = listener.getsockname()[1]
    shown = f"{len(files)} files at http://127.0.0.1:{port}"
    print(f"showing {shown} (control-C ends it)", file=sys.stderr, flush=True)
    app = create_app(files, Masks(params.tokenizer, settings), settings)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])
    return f"showed {shown}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
