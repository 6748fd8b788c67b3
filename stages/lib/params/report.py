import re

from stages.lib.core.sections import section
from stages.lib.params.validate import Score

GATE = re.compile(r"fresh|\S+ no_worse|\S+ (<=|>=|<|>) -?\d+(\.\d*)?(e-?\d+)?")


@section
class ReportParams:
    """`report`: what a pull request is judged by (`python -m tools.report`)."""

    score: Score = "accuracy"
    """The score of the test split that the verdict is about; the others are reported beside it."""

    gates: tuple[str, ...] = ("fresh", "test.accuracy no_worse")
    """What refuses a change, for every dataset: `fresh` (dvc.lock agrees with dvc.yaml, params and code),
    `test.accuracy no_worse` (beyond chance), `test.calibration_error <= 0.05`, `rejected <= 0.02` (fraction of the
    cases), or any number of metrics/<dataset>/ as <file>.<key>, as in `export.model.onnx.bytes < 1e8`. For one
    dataset alone its name stands before: `digits.test.accuracy >= 0.95`."""

    def __post_init__(self) -> None:
        for gate in self.gates:
            if not GATE.fullmatch(gate):
                raise ValueError(
                    f"gates: '{gate}' is no gate: write fresh, `<metric> no_worse`, or `<metric> <= <number>` "
                    "(or >=, <, >), as in `test.accuracy >= 0.95`"
                )
