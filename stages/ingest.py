"""Raw pictures and DICOM series -> cases.h5 with every case's own integers, cases.csv, and what was refused.

python -m stages.ingest digits
"""

from pathlib import Path

from stages.lib import command, inspection, planning, raw_files
from stages.lib.catalogue import publish, write_rejected
from stages.lib.filling import fill
from stages.lib.fingerprint import fingerprint
from stages.lib.groups import join_duplicates, name_groups
from stages.lib.identifiers import load_key
from stages.lib.labels import LABELS_CSV, read_labels
from stages.lib.params.ingest import IngestParams
from stages.lib.readers.contract import Options
from stages.lib.store import Store, alone
from stages.lib.workers import Workers, count, seldom_collected

STORE = ".ingest"  # beside the outs; git and dvc ignore it


def main(raw: Path, cases_h5: Path, cases_csv: Path, ingest_json: Path, params: IngestParams) -> None:
    # It names source files, so it stays on this machine: as an out of dvc's, every clone would have to make it anew.
    rejected_csv = cases_csv.with_name("rejected.csv")
    with seldom_collected(), alone(cases_h5.parent / STORE), Workers(count(params.workers)) as crew:
        options = Options(params, load_key(params.identifiers))
        found = raw_files.scan(raw)
        files = [file for file in found.files if file.path != LABELS_CSV]
        labels = read_labels(raw, (file.path for file in files), found.folders, options.key)
        store = Store(cases_h5.parent / STORE, fingerprint(options))

        inspected = inspection.inspect_all(raw, files, store, options, crew)
        planned = planning.plan(inspected, options)
        labelled = planning.label_cases(planned.cases, labels)  # before the long work
        cases, digests, damaged = fill(raw, planned.cases, store, options, crew)
        store.finish()

        refused = sorted(planned.refused + damaged)
        write_rejected(rejected_csv, refused, found.litter)
        planning.check_rejected(len(cases), refused, params.max_rejected, str(rejected_csv))
        rows = [labelled[case.case] for _, case in cases]
        planning.check_classes(rows, labels, str(rejected_csv))
        only = [case for _, case in cases]
        groups = join_duplicates(only, [row.label for row in rows], name_groups(only, rows, options), digests)
        publish(store, cases_h5, cases_csv, ingest_json, only, rows, groups, refused, found)
        rejected = sum(not refusal.ignored for refusal in refused)
        print(f"{len(cases)} cases of {len(set(groups.groups))} groups, {rejected} rejected ({rejected_csv} says why)")


if __name__ == "__main__":
    command.run(main)
