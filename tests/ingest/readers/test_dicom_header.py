"""Headers of the slices of a series are made once, and never mixed up."""

from pydicom.dataset import Dataset

from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.scans.dicom_header import Header, read_header
from tests.raw_data import make_slice, scan


def header(image: Dataset, key: bytes = OPEN) -> Header:
    return read_header(image, key)


def test_slices_of_a_series_have_one_header():
    first, second = (make_slice(i, pixels) for i, pixels in enumerate(scan(2)))
    assert header(first) is header(second)


def test_another_value_or_another_key_gives_another_header():
    first, second, third = (make_slice(i, pixels) for i, pixels in enumerate(scan(3)))
    second.PatientID, third.RescaleType = "Roe", "US"
    assert header(second) == header(first)._replace(patient=header(second).patient) != header(first)
    assert header(third) == header(first)._replace(rescale_type="US")
    assert header(first, b"another key").series != header(first).series


def test_a_file_without_a_series_is_one_of_its_own():
    first, second = (make_slice(i, pixels) for i, pixels in enumerate(scan(2)))
    for image in (first, second):
        del image.SeriesInstanceUID, image.StudyInstanceUID
    assert header(first).series != header(second).series
