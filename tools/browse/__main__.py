"""A page to go through the cases of a data set: filters, volumes slice by slice, the mistakes, and wrong labels.

    python -m tools.browse mine                      # prints the page's address on this machine; Ctrl-C ends it
    python -m tools.browse mine --compare main       # with the predictions of another revision beside each
    python -m tools.browse mine --write cases.html   # one file to share, for data whose identifiers are open

What is marked as wrong is written to data/raw/<dataset>/corrections.csv; the next `dvc repro` applies it. Nothing
leaves the machine: the page is for this machine's browser alone, and asks no other server for anything.
"""

import argparse
import socket
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from stages.lib import command, params
from stages.lib.cases import Cases
from stages.lib.command import PARAMS_YAML
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from tools.browse import listing, one_file
from tools.browse.listing import Listing, Paths
from tools.browse.pictures import Pictures
from tools.browse.server import Server

MOST = 500  # cases in a file to share


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.browse", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", help="a block of params.yaml's `datasets` that has been ingested")
    parser.add_argument("--compare", metavar="REV", help="a revision of git whose predictions are shown, too")
    parser.add_argument("--port", type=int, default=0, help="of the page; any that is free")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a page of one file, and serve none")
    parser.add_argument("--most", type=int, help=f"cases in that file, the wrong ones first (default {MOST})")
    arguments = parser.parse_args(argv)
    if arguments.most is not None and (arguments.write is None or arguments.most < 1):
        parser.error("--most is a number of cases, 1 or more, and goes with --write")
    with command.ways_back():
        browse(arguments.dataset, arguments.compare, arguments.port, arguments.write, arguments.most or MOST)


def browse(dataset: str, compare: str | None, port: int, file: Path | None, most: int) -> None:
    """As the command line.

    Raises:
        UserError: There is no such data set, or it has not been ingested; or a file is asked for of data whose
            identifiers are keyed.
    """
    found = params.load(PARAMS_YAML)
    if dataset not in found.datasets:
        raise UserError(f"{PARAMS_YAML} has no data set {dataset}: it has {', '.join(found.datasets)}")
    paths, ingest = paths_of(dataset), command.sections(found, "ingest", dataset)["params"]

    def read() -> tuple[Listing, Pictures]:
        known = listing.read(paths, compare, ingest.target)
        cases = Cases(paths.cases)
        if cases.ids != known.cases:
            raise UserError(f"{paths.cases} and {paths.cases_csv} hold other cases: run `dvc repro`")
        return known, Pictures(cases, paths.statistics_json)

    if file is None:
        _serve(Server(dataset, read, paths, _frozen(dataset, paths.raw)), port)
        return
    if ingest.identifiers != "open":
        raise UserError(
            f"--write makes a file to share, with pictures and names of files: {dataset} has identifiers "
            f"{ingest.identifiers}. Set datasets.{dataset}.ingest.identifiers to open if its data are nobody's secret"
        )
    if file.is_dir() or not file.parent.is_dir():
        raise UserError(f"--write {file}: expected the name of a file in a folder that is there, as cases.html")
    say(one_file.write(file, dataset, *read(), most))


def paths_of(dataset: str) -> Paths:
    """The files that the stages of a data set read and write."""
    found: dict[str, Path] = {}
    for stage in ("ingest", "split", "statistics", "dataset", "train", "validate"):
        deps, outs = command.stage_paths(stage, dataset)
        found |= deps | outs
    found["files_csv"] = found["cases_csv"].with_name("files.csv")
    return Paths(**{name: found[name] for name in Paths._fields})


def _frozen(dataset: str, raw: Path) -> str:
    """Why labels can't be corrected, or ""."""
    try:
        made = command.stage_paths("sample", dataset)[1]
    except UserError:
        return ""  # the stage is for the demos alone
    return f"{raw} can't be corrected: the stage sample makes it anew" if raw in made.values() else ""


def _serve(server: Server, port: int) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
            listening.listen()  # before the address is told: whoever reads it may ask at once
        except OSError as error:
            raise UserError(f"port {port} can't be used ({error.strerror}): leave --port out") from None
        say(f"http://127.0.0.1:{listening.getsockname()[1]}/{server.token}/")
        say("Open it in a browser of this machine. Ctrl-C ends it.")
        web.run_app(server.application(), sock=listening, print=None, access_log=None)


if __name__ == "__main__":
    main()
