"""What is measured of a model by what it answers: `kind` says what validation asks of each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stages.lib.model.deployed import Settings
from stages.lib.params.validate import ValidateParams
from stages.lib.tensors import Asked, Split
from stages.lib.validate import out_of_distribution
from stages.lib.validate.answers import Answers
from stages.lib.validate.kinds.classes import Classes
from stages.lib.validate.kinds.kind import Kind
from stages.lib.validate.kinds.labels import Labels
from stages.lib.validate.kinds.numbers import Numbers

OF_ANSWERS = ("thresholds", "half_width")  # the settings by which a file's answers are judged

KINDS: dict[str, type[Kind]] = {
    "classes": Classes,
    "ordinal": Classes,
    "multilabel": Labels,
    "regression": Numbers,
    "log_regression": Numbers,
}


def of_file(facts: Mapping[str, Any], training: Mapping[str, Any], of: str) -> Kind:
    """The kind of answer of an exported file.

    Args:
        facts: Its metadata.
        training, of: As of `Kind.of_file`.
    """
    asked = Asked(**facts["target"]) if "target" in facts else Asked("classes", facts["classes"])
    fitted = {name: facts["deployed"][name] for name in OF_ANSWERS if name in facts.get("deployed", {})}
    return KINDS[asked.kind].of_file(asked, Settings(**fitted), training, of)


def choose(training: Split, validation: Split, answers: Answers, params: ValidateParams) -> Kind:
    """The kind of answer with the settings that the model is deployed with.

    They are chosen on the validation split alone; of the training split, only how numbers are cut into quarters.

    Args:
        answers: To the validation split.
    """
    settings = Settings(flips="".join(params.flips))
    found = KINDS[answers.asked.kind].choose(training, validation, answers, settings, params)
    return replace(found, settings=out_of_distribution.with_threshold(answers.measures, found.settings))
