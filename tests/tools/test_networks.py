"""The table of networks and formats, docs/models.md."""

import json

import pytest

from stages.lib.core.errors import UserError
from tests import ROOT
from tools import networks

ROWS = {
    "resnet18": {
        "shape": [1, 16, 16],
        "parameters": 11_171_779,
        "formats": {"torchscript": "yes", "onnx": "yes", "pt2": "yes"},
    },
    "vit_h_14": {
        "shape": [1, 224, 224],
        "parameters": 630_000_000,
        "formats": {"torchscript": "yes", "onnx": "its weights are 2.4 GiB", "pt2": "yes"},
    },
}


def test_a_format_that_a_network_cannot_have_has_its_reason_in_words():
    text = networks.page(ROWS, "two cores")
    assert "| resnet18 | 1 x 16 x 16 | 11,171,779 | yes | yes | yes |" in text
    assert "| vit_h_14 | 1 x 224 x 224 | 630,000,000 | yes | no (1) | yes |" in text.replace("\\_", "_")
    assert (
        "1. its weights are 2.4 GiB" in text
        and "Of 2 networks, 2 leave in TorchScript, 1 in ONNX and 2 in .pt2" in text
    )


def test_the_page_is_what_was_measured_and_no_cell_is_a_traceback():
    measured = json.loads((ROOT / networks.RESULTS).read_text(encoding="utf-8"))
    page = (ROOT / networks.PAGE).read_text(encoding="utf-8")
    made = page.partition("Made with ")[2].partition(".\n")[0]
    assert page == networks.page(measured, made)
    waiting = set(networks.known()) - set(measured)
    assert set(measured) <= set(networks.known()) and ("Not measured yet" in page) == bool(waiting)
    said = [reason for row in measured.values() for reason in row["formats"].values()]
    assert said and not [one for one in said if "Traceback" in one or "\n" in one or len(one) > 600]


def test_a_name_that_is_no_networks_is_refused():
    with pytest.raises(SystemExit, match="no network is called resnet81"):
        networks.main(["resnet81"])


@pytest.mark.slow
def test_a_network_is_measured_at_the_smallest_shape_that_it_takes():
    row = networks.measure("fully_connected, images")
    assert row["shape"] == [1, 16, 16] and set(row["formats"].values()) == {"yes"}
    with pytest.raises(UserError, match="alexnet takes no sample of"):
        networks.smallest("alexnet", images=[(16, 16)])
