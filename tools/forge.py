"""Speaks to GitHub or GitLab for the workflows: one comment that is edited, one pull request that is updated.

    python -m tools.forge comment report.md
    python -m tools.forge propose retrain report.md --title "Retrain"

Where and as whom is in the variables of a job: GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_TOKEN, PULL_REQUEST; or
CI_API_V4_URL, CI_PROJECT_ID, GITLAB_TOKEN, CI_MERGE_REQUEST_IID; and BASE_BRANCH for what is proposed.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from stages.lib.core import terminal
from stages.lib.core.errors import UserError

MARK = "<!-- the pipeline's report -->"  # by it a comment is found again, whoever else comments
LONGEST = 65_000  # characters: GitHub takes 65,536
PAGE = 100  # comments asked for at once


@dataclass(frozen=True)
class Forge:
    """How one host spells what both can do."""

    api: str
    headers: dict[str, str]
    comments: str  # of the pull request; "" outside of one
    edit: str  # a comment, by its number
    edit_verb: str
    pull_requests: str
    source: str  # the keys of a pull request
    target: str
    body: str
    open: str  # the state of a pull request that is
    number: str  # the key of its number
    base: str  # the branch that it is for


def github(environment: dict[str, str]) -> Forge:
    repository, number = environment["GITHUB_REPOSITORY"], environment.get("PULL_REQUEST", "")
    return Forge(
        api=f"{environment['GITHUB_API_URL']}/repos/{repository}",
        headers={"Authorization": f"Bearer {environment['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"},
        comments=f"issues/{number}/comments" if number else "",
        edit="issues/comments/{}",
        edit_verb="PATCH",
        pull_requests="pulls",
        source="head",
        target="base",
        body="body",
        open="open",
        number="number",
        base=environment.get("BASE_BRANCH", "main"),
    )


def gitlab(environment: dict[str, str]) -> Forge:
    number = environment.get("CI_MERGE_REQUEST_IID", "")
    return Forge(
        api=f"{environment['CI_API_V4_URL']}/projects/{environment['CI_PROJECT_ID']}",
        headers={"PRIVATE-TOKEN": environment["GITLAB_TOKEN"]},
        comments=f"merge_requests/{number}/notes" if number else "",
        edit=f"merge_requests/{number}/notes/{{}}",
        edit_verb="PUT",
        pull_requests="merge_requests",
        source="source_branch",
        target="target_branch",
        body="description",
        open="opened",
        number="iid",
        base=environment.get("BASE_BRANCH", environment.get("CI_DEFAULT_BRANCH", "main")),
    )


def here(environment: dict[str, str]) -> Forge:
    """The host whose job this is.

    Raises:
        UserError: It is neither's, or lacks a variable.
    """
    try:
        return gitlab(environment) if "CI_API_V4_URL" in environment else github(environment)
    except KeyError as error:
        raise UserError(f"{error.args[0]} is not set: this is for a job of GitHub Actions or GitLab CI") from None


def comment(forge: Forge, text: str) -> str:
    """Edits the comment that a former run left, or makes it."""
    if not forge.comments:
        raise UserError("no pull request to comment: set PULL_REQUEST (GitHub) or CI_MERGE_REQUEST_IID (GitLab)")
    body = {"body": f"{MARK}\n{_shortened(text)}"}
    for former in _pages(forge, forge.comments):
        if former["body"].startswith(MARK):
            _ask(forge, forge.edit_verb, forge.edit.format(former["id"]), body)
            return "edited the comment"
    _ask(forge, "POST", forge.comments, body)
    return "commented"


def propose(forge: Forge, branch: str, title: str, text: str) -> str:
    """Opens a pull request for a branch that has been pushed; one that is open already gets the new text."""
    said = {"title": title, forge.body: _shortened(text)}
    for known in _pages(forge, f"{forge.pull_requests}?state={forge.open}"):
        source = known[forge.source]
        if branch in (source, source.get("ref") if isinstance(source, dict) else None):
            _ask(forge, forge.edit_verb, f"{forge.pull_requests}/{known[forge.number]}", said)
            return "updated the pull request"
    _ask(forge, "POST", forge.pull_requests, {forge.source: branch, forge.target: forge.base} | said)
    return "opened a pull request"


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rpartition("\n")[0] + "\n\n(cut here: the whole report is among the job's artefacts)\n"


def _pages(forge: Forge, path: str) -> Iterator[dict[str, Any]]:
    page = 1
    while True:
        query = urlencode({"per_page": PAGE, "page": page})
        found = _ask(forge, "GET", f"{path}{'&' if '?' in path else '?'}{query}")
        yield from found
        if len(found) < PAGE:
            return
        page += 1


def _ask(forge: Forge, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
    address = f"{forge.api}/{path}"
    content = json.dumps(body).encode() if body is not None else None
    request = Request(address, content, forge.headers | {"Content-Type": "application/json"}, method=verb)
    try:
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except HTTPError as error:
        said = error.read().decode(errors="replace")[:300]
        hint = ": the token may not write here" if error.code in (401, 403) else ""
        raise UserError(f"{verb} {address}: {error.code} {error.reason}{hint}\n{said}") from None
    except URLError as error:
        raise UserError(f"{verb} {address}: {error.reason}") from None


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.forge", description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("comment").add_argument("page", type=Path)
    proposing = verbs.add_parser("propose")
    proposing.add_argument("branch")
    proposing.add_argument("page", type=Path)
    proposing.add_argument("--title", required=True)
    options = parser.parse_args()
    forge, text = here(dict(os.environ)), options.page.read_text()
    print(comment(forge, text) if options.verb == "comment" else propose(forge, options.branch, options.title, text))


if __name__ == "__main__":
    main()
