"""Which stages' outs are not those of the code, params and data beside them, as `dvc repro --allow-missing --dry`."""

import tempfile
from pathlib import Path
from typing import Any

from stages.lib.core.errors import UserError
from tools.report.revisions import Revision

ABSENT = ("deleted", "not in cache")  # states of data that this clone lacks: no difference of the revision


def stale(revision: Revision) -> dict[str, list[str]]:
    """The stages that dvc repro would run, sorted, each with its reasons; none where dvc.lock is up to date.

    The revision's files are written to a temporary folder, so that neither the working tree nor the data matter.

    Raises:
        UserError: dvc.yaml or dvc.lock cannot be read.
    """
    from dvc.exceptions import DvcException  # takes a second, and only this function needs it
    from dvc.repo import Repo

    with tempfile.TemporaryDirectory() as folder:
        revision.export(Path(folder))
        try:
            with Repo(folder, config={"core": {"no_scm": True, "analytics": False}}) as repo, repo.lock:
                graph = repo.index.graph  # from a stage to those that it takes its deps from
                own = {stage: _reasons(stage, list(graph.successors(stage))) for stage in repo.index.stages}
                found = {_name(stage): _with_upstream(stage, own, graph) for stage in own}
                return {name: found[name] for name in sorted(found) if found[name]}
        except DvcException as error:
            raise UserError(
                f"dvc cannot read the pipeline of {revision}: {str(error).replace(folder + '/', '')}"
            ) from None


def _reasons(stage: Any, upstream: list[Any]) -> list[str]:
    """What of a stage differs from dvc.lock."""
    if stage.is_data_source or not stage.outs:  # without outs (check), there is nothing that could be out of date
        return []
    if not any(out.hash_info for out in stage.outs):
        return ["it has not been run"]
    reasons = []
    for entry in stage.status().get(stage.addressing, []):
        if isinstance(entry, str):  # "changed command", "always changed"
            reasons.append(entry.replace("changed command", "its command in dvc.yaml is new"))
            continue
        for things in entry.values():
            for path, state in things.items():
                if isinstance(state, dict):  # params.yaml: {key: state}
                    reasons += [f"{key} is {what}" for key, what in state.items()]
                elif state not in ABSENT:
                    reasons.append(f"{path} is {state}")
    for dep in stage.deps:
        made = [out for other in upstream for out in other.outs if out.fs_path == dep.fs_path]
        if not dep.exists and any(out.hash_info != dep.hash_info for out in made):
            reasons.append(f"{dep} is another than the one it was made from")
    return sorted(reasons)


def _with_upstream(stage: Any, own: dict[Any, list[str]], graph: Any) -> list[str]:
    import networkx

    before = sorted(_name(other) for other in networkx.descendants(graph, stage) if own[other])
    return own[stage] or ([f"follows {', '.join(before)}"] if before else [])


def _name(stage: Any) -> str:
    return str(getattr(stage, "name", None) or Path(stage.path_in_repo).as_posix())
