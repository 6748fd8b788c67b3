"""What the gate asks an exported file besides the dataset's own tensors: cases of the size that they were read in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from stages.lib.cases import Cases
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.program import feeds
from stages.lib.export.parity import Question
from stages.lib.model.deployed import outputs
from stages.lib.tensors import Split

CASES = 64  # of the test split, spread over it: each is asked alone, since each may have a size of its own


def native(
    cases: Cases, test: Split, facts: Mapping[str, Any], expected: Sequence[np.ndarray], model: Native
) -> Iterator[Question]:
    """Test cases that geometry changed, then a sample a pixel larger, as all cases may be of the dataset's shape.

    Args:
        facts: What the file says of itself.
        expected: What the network says of the test split's tensors, which are these cases after geometry.
        model: The module that was exported: says what is wanted of other sizes.
    """
    fitted, dtype = facts["input"]["size"] == "fitted", facts["input"]["dtype"]
    for i in np.unique(np.linspace(0, len(test.y) - 1, CASES).astype(int)) if len(test.y) else []:
        at = cases.index(test.cases[i])
        x, spacing = np.array(cases[at][None], dtype), cases.spacings_mm[at]
        if not np.array_equal(x[0], test.x[i]):
            wanted = [output[i : i + 1] for output in expected] if fitted else answer(model, facts, x, spacing)
            yield Question(f"test case {i} as it was read", x, spacing, wanted)
    sample = np.array(test.x[:1]) if len(test.y) else np.zeros((1, *test.x.shape[1:]), dtype)
    x = np.pad(sample.astype(dtype), [(0, 0), (0, 0), *[(0, 1)] * (sample.ndim - 2)], "edge")
    yield Question("a sample one pixel larger", x, None, answer(model, facts, x, None))


@torch.inference_mode()
def answer(model: Native, facts: Mapping[str, Any], x: np.ndarray, spacing_mm: Any) -> list[np.ndarray]:
    """What the module itself says, as a file's runner would be asked."""
    given = [torch.from_numpy(array) for array in feeds(facts, x, spacing_mm)]
    return [output.double().numpy() for output in outputs(model(*given))]
