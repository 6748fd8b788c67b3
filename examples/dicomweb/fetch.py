"""Fetches the studies that a labels.csv names from a DICOMweb server, into the folder that it lies in.

    pip install dicomweb-client
    python examples/dicomweb/fetch.py https://pacs.example.org/dicom-web data/raw/mine --modality CT

data/raw/mine/labels.csv has the columns study (a StudyInstanceUID) and label, and perhaps series_number: ingest reads
the same table. A series is a folder, <study>/<series>, that is there when it is whole: a run that was interrupted goes
on with the next one. Instances come in the transfer syntax that the server stores them in. A token for the server is
taken from the environment, DICOMWEB_TOKEN, where no list of processes shows it.
"""

import argparse
import csv
import os
import re
import shutil
import sys
from pathlib import Path

from dicomweb_client.api import DICOMwebClient

STUDY, SERIES, NUMBER = "0020000D", "0020000E", "00200011"
UID = re.compile(r"[0-9.]{1,64}")  # what names a folder here: a server's word for it is not taken
AS_STORED = (("application/dicom", "*"),)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="of the server's DICOMweb service")
    parser.add_argument("folder", type=Path, help="data/raw/<dataset>, with a labels.csv")
    parser.add_argument("--modality", help="only series of this one, as CT")
    given = parser.parse_args()
    token = os.environ.get("DICOMWEB_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    client = DICOMwebClient(given.url, headers=headers)
    with open(given.folder / "labels.csv", encoding="utf-8-sig", newline="") as table:
        rows = list(csv.DictReader(table))
    lost = []
    for study, number in dict.fromkeys((row["study"].strip(), row.get("series_number") or "") for row in rows):
        filters = {"Modality": given.modality} if given.modality else {}
        filters |= {"SeriesNumber": number} if number else {}
        found = client.search_for_series(study, search_filters=filters)
        if not found:
            lost.append(study)
        for series in found:
            fetch(client, given.folder, study, str(series[SERIES]["Value"][0]))
    if lost:
        sys.exit(f"{len(lost)} of {len(rows)} rows of labels.csv are about studies without such a series: {lost[:5]}")


def fetch(client: DICOMwebClient, folder: Path, study: str, series: str) -> None:
    """Writes the instances of a series, unless they are there."""
    if not UID.fullmatch(study) or not UID.fullmatch(series):
        sys.exit("the server, or labels.csv, gives a UID that is none")
    place = folder / study / series
    if place.exists():
        return
    partial = place.with_name(f".{series}.partial")  # ingest takes no hidden folder
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    number = 0
    for number, instance in enumerate(client.iter_series(study, series, media_types=AS_STORED), 1):
        instance.save_as(partial / f"{number:05d}.dcm", enforce_file_format=True)
    if not number:
        sys.exit(f"the server sends nothing of the series {series}")
    partial.rename(place)
    print(f"{place}: {number} instances")


if __name__ == "__main__":
    main()
