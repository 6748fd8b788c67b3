import copy
from pathlib import Path

import pytest

from stages.lib.core.errors import UserError
from stages.lib.export.metadata_check import checked

SOUND = {
    "classes": ["a", "b"],
    "input": {
        "inputs": ["input", "spacing_mm"],
        "axes": "NCDHW",
        "channels": [1],
        "size": "fitted",
        "shape": [1, 6, 8, 8],
        "dtype": "int16",
        "units": "HU",
        "spacing_mm": [2.0, 1.0, 1.0],
    },
    "geometry": {
        "colour": "keep",
        "resize": None,
        "spacing_mm": [2.0, 1.0, 1.0],
        "shape": [6, 8, 8],
        "fill": -1000.0,
        "dtype": "int16",
    },
}


def test_metadata_as_the_export_stage_writes_them_are_kept():
    assert checked(SOUND, Path("m")) == SOUND


@pytest.mark.parametrize(
    "place, value",
    [
        ("input.shape", [1, 65_536, 65_536, 65_536]),
        ("input.shape", [1, 10**9, 8, 8]),
        ("input.shape", [1, 8, 8]),
        ("input.shape", [1, -6, 8, 8]),
        ("input.shape", [True, 6, 8, 8]),
        ("input.shape", "1688"),
        ("input.dtype", "object"),
        ("input.dtype", "S1000000000"),
        ("input.channels", []),
        ("input.axes", "NHWC"),
        ("input.inputs", ["input", "other"]),
        ("input.spacing_mm", None),
        ("input.spacing_mm", [0.0, 1.0, 1.0]),
        ("input.spacing_mm", [float("nan"), 1.0, 1.0]),
        ("input.units", "x" * 1000),
        ("geometry.shape", [6, 8, 10**12]),
        ("geometry.fill", float("inf")),
        ("geometry.dtype", "__class__"),
        ("geometry.colour", "cmyk"),
        ("classes", []),
        ("classes", ["a", 1]),
        ("classes", ["x" * 10**6]),
        ("classes", "ab"),
    ],
)
def test_metadata_that_nothing_could_be_made_from_are_refused_with_their_place(place, value):
    metadata = copy.deepcopy(SOUND)
    *parents, key = place.split(".")
    holder = metadata
    for parent in parents:
        holder = holder[parent]
    holder[key] = value
    with pytest.raises(UserError, match=rf"m\.onnx: the metadata .*{parents[0] if parents else key}"):
        checked(metadata, Path("m.onnx"))


@pytest.mark.parametrize("metadata", [{}, [], None, 1, {"classes": ["a"]}, {**SOUND, "input": None}])
def test_a_file_without_this_projects_metadata_is_refused(metadata):
    with pytest.raises(UserError, match="export the model again"):
        checked(metadata, Path("m.onnx"))
