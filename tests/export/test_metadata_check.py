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


NUMBER = SOUND | {
    "classes": ["diameter"],
    "target": {"kind": "regression", "names": ["diameter"], "unit": "mm", "mean": 12, "deviation": 1.5},
    "outputs": ["diameter", "diameter low", "diameter high"],
    "deployed": {"temperature": 1.0, "half_width": 1.5},
}
LABELS = SOUND | {
    "target": {"kind": "multilabel", "names": ["a", "b"], "unit": "", "mean": 0.0, "deviation": 1.0},
    "outputs": ["a", "b"],
    "deployed": {"temperature": 1.0, "thresholds": [0.25, 0.5]},
}


@pytest.mark.parametrize("sound", [NUMBER, LABELS, LABELS | {"deployed": {}}])
def test_metadata_of_numbers_and_labels_are_kept(sound):
    assert checked(sound, Path("m")) == sound


@pytest.mark.parametrize(
    "sound, place, value, message",
    [
        (NUMBER, "target.kind", "classes", "of its target"),
        (NUMBER, "target.kind", "eval", "target.kind"),
        (NUMBER, "target.kind", "multilabel", "of its target"),
        (NUMBER, "target.names", ["radius"], "of its target"),
        (NUMBER, "target.names", ["diameter", "radius"], "one number"),
        (NUMBER, "target.names", [""], "is none"),
        (NUMBER, "target.unit", "x" * 1000, "target.unit"),
        (NUMBER, "target.unit", None, "target.unit"),
        (NUMBER, "target.mean", float("nan"), "target.mean"),
        (NUMBER, "target.deviation", 0.0, "target.deviation"),
        (NUMBER, "target.deviation", float("inf"), "target.deviation"),
        (NUMBER, "target.more", 1, "target.more"),
        (NUMBER, "target", None, "no target"),
        (NUMBER, "target", [], "target"),
        (NUMBER, "outputs", None, "of its target"),
        (NUMBER, "outputs", ["diameter"], "of its target"),
        (NUMBER, "outputs", "diameter", "outputs"),
        (NUMBER, "classes", ["a", "b"], "of its target"),
        (NUMBER, "deployed.half_width", -1.0, "half_width"),
        (NUMBER, "deployed.half_width", float("inf"), "half_width"),
        (NUMBER, "deployed.thresholds", [0.5], "a threshold for each label"),
        (LABELS, "deployed.thresholds", [0.5], "a threshold for each label"),
        (LABELS, "deployed.thresholds", [0.5, 2.0], "thresholds"),
        (LABELS, "deployed.thresholds", [0.5, "0.5"], "thresholds"),
        (LABELS, "deployed.thresholds", [0.5, float("nan")], "thresholds"),
        (LABELS, "target.names", ["a", "a"], "is none"),
        (LABELS, "outputs", ["b", "a"], "of its target"),
        (LABELS, "deployed", None, "deployed"),
        (SOUND | {"deployed": {}}, "deployed.thresholds", [0.5, 0.5], "a threshold for each label"),
    ],
)
def test_metadata_whose_target_outputs_and_settings_do_not_agree_are_refused(sound, place, value, message):
    metadata = copy.deepcopy(sound)
    *parents, key = place.split(".")
    holder = metadata
    for parent in parents:
        holder = holder[parent]
    holder[key] = value
    with pytest.raises(UserError, match=rf"m\.onnx: the metadata .*{message}"):
        checked(metadata, Path("m.onnx"))


@pytest.mark.parametrize("metadata", [{}, [], None, 1, {"classes": ["a"]}, {**SOUND, "input": None}])
def test_a_file_without_this_projects_metadata_is_refused(metadata):
    with pytest.raises(UserError, match="export the model again"):
        checked(metadata, Path("m.onnx"))
