"""What needs the demo data sets, which `tools.init --own` takes out of a project."""

import pytest
import yaml

from tests import ROOT

NAMES = ("digits", "phantoms")
ARE_HERE = set(NAMES) <= yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"].keys()

needs_demos = pytest.mark.skipif(not ARE_HERE, reason="the demo data sets have been taken out of this project")
