"""Raw pictures and DICOM series -> cases/ with every case's own integers, cases.csv, and what was refused.

python -m stages.ingest digits
"""

import os
from contextlib import closing
from pathlib import Path

import numpy as np

from stages.lib import command, drawing
from stages.lib.core.progress import say
from stages.lib.ingest import assembly, in_place, inspection, pieces, raw_files, selection
from stages.lib.ingest.fingerprint import fingerprint
from stages.lib.ingest.groups import join_duplicates, name_groups
from stages.lib.ingest.identifiers import load_key
from stages.lib.ingest.labels import beside, corrections, given_splits, labelling, own_columns, split_files, targets
from stages.lib.ingest.labels.table import read_labels
from stages.lib.ingest.readers import contract
from stages.lib.ingest.readers.contract import Options
from stages.lib.ingest.results import rejected
from stages.lib.ingest.results.publishing import publish, write_files
from stages.lib.ingest.store import Store
from stages.lib.params.ingest import IngestParams
from stages.lib.params.machine import MachineParams
from stages.lib.workers import Workers, count, rare_garbage_collection

MOST_LOG_BYTES = 10 << 20
STORE = ".ingest"  # beside the outs; git and dvc ignore it


def main(
    raw: Path,
    cases: Path,
    cases_csv: Path,
    ingest_json: Path,
    ingest_png: Path,
    params: IngestParams,
    machine: MachineParams = MachineParams(),
) -> None:
    # They name source files, so they stay on this machine: as outs of dvc's, every clone would have to make them anew.
    rejected_csv, files_csv = (cases_csv.with_name(name) for name in ("rejected.csv", "files.csv"))
    log = cases_csv.with_name("ingest.log")  # likewise
    os.environ[contract.LOG] = str(log)
    if log.exists() and log.stat().st_size > MOST_LOG_BYTES:
        log.replace(log.with_name("ingest.old.log"))
    before = log.stat().st_size if log.exists() else 0
    options = Options(params, load_key(params.identifiers))
    with (
        rare_garbage_collection(),
        closing(Store(cases.parent / STORE, fingerprint(options))) as store,
        Workers(count(machine.workers)) as workers,
    ):
        found = in_place.with_stores(raw, raw_files.scan(raw, store.folder / "archives", params.exclude))
        paths, excluded = selection.select(found.paths, params)
        tables = [*excluded, *params.split_files.values()]
        labels = read_labels(raw, paths, raw_files.folders_of(paths, found.folders, tables), options, found.members)
        paths = [path for path in paths if path not in labels.beside]

        files = inspection.inspect_all(raw, paths, store, options, workers, found.members)
        # A labels.csv of series, studies or instances says which ones are meant; one of files must name them all.
        labels.resolve(assembly.identities(files))
        is_listed = (lambda path, series: labels.of(path, series) is not None) if labels.selects else None
        assembled = assembly.assemble(files, options, labels.names, is_listed, labels.parts)
        raw_bytes = files.total_bytes
        del files  # what matters of them is in the cases now, and they would take as much memory again
        rejected.write_rejected(rejected_csv, assembled.refused, found.litter)  # what messages refer to, from here on
        labelled = labelling.label_cases(assembled.cases, labels, assembled.refused)  # before the long work
        labelling.check_copies(assembled.refused, labels)
        corrected = corrections.apply(
            raw, corrections.read(raw, found.members), assembled.cases, labelled, assembled.refused, labels.target,
            params.target,
        )  # fmt: skip
        left_out = selection.refusals(excluded) + beside.refusals(labels.beside) + corrected.excluded
        without_case = assembled.refused + left_out
        given = split_files.read(raw, corrected.cases, corrected.rows, without_case, options, found.members)
        assembled, labelled = assembled._replace(cases=corrected.cases), given.rows
        filled = pieces.fill(raw, assembled.cases, raw_bytes, store, options, workers, found.members)
        labelling.check_conversions(filled.refused, assembled.cases, labelled, labels)

        refused = sorted(assembled.refused + filled.refused + left_out)
        rejected.write_rejected(rejected_csv, refused, found.litter)
        rejected.check_rejected(len(filled.cases), refused, params.max_rejected, str(rejected_csv))
        rows = labelled
        if len(filled.cases) < len(rows):
            rows = [rows[i] for i in np.flatnonzero(np.isin(assembled.cases.ids, filled.cases.ids))]
        labelling.check_classes(rows, labels, str(rejected_csv))
        classes = [row.label for row in rows]
        said = [targets.said(row) for row in rows]
        groups = join_duplicates(filled.cases, said, name_groups(filled.cases, rows, options), filled.digests)
        of_labels = labelling.remarks(labels, classes, groups.groups)
        for remark in [*of_labels, *assembly.remarks(filled.cases, options)]:
            say(f"warning: {remark}")
        splits = given_splits.settle(filled.cases, [row.split for row in rows], groups.groups, params.same_group)
        write_files(files_csv, filled.cases)
        counted = given.counts(filled.cases)
        own = own_columns.by_name(params.columns, [row.columns for row in rows])
        opted = {"corrected": corrected.counts, "columns": own_columns.counts(own), "split_files": counted}
        opted |= {"target": targets.summary(labels, rows)}
        own |= targets.columns(labels, rows)
        counts = publish(filled, cases, cases_csv, ingest_json, classes, groups, splits, refused, found, own, opted)
        from stages.lib.ingest.results import overview  # Pillow: not before there is something to draw

        overview.draw(ingest_png, cases_csv.with_name(drawing.LOCAL), cases, classes, counts, params.may_show)
        store.forget_all_but(filled.pieces.values())
        lost = len(rejected.lost_cases(refused))
        aside = sum(len(refusal.paths) for refusal in refused if refusal.outcome == "set aside")
        numbers = f"{len(rows)} cases of {len(np.unique(groups.groups))} groups, {lost} rejected"
        numbers += f", {aside} files set aside" if aside else ""
        more = f"; {log} holds the errors of libraries" if log.exists() and log.stat().st_size > before else ""
        say(f"{numbers} ({rejected_csv} says why{more})")


if __name__ == "__main__":
    command.run(main)
