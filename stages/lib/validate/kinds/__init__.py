"""What is measured of a model by what it answers: `kind` says what validation asks of each."""

from dataclasses import replace
from types import ModuleType

from stages.lib.model.deployed import Settings
from stages.lib.params.validate import ValidateParams
from stages.lib.tensors import Asked, Split
from stages.lib.validate import out_of_distribution
from stages.lib.validate.answers import Answers
from stages.lib.validate.kinds import classes, labels, numbers
from stages.lib.validate.kinds.kind import Kind

KINDS: dict[str, ModuleType] = {
    "classes": classes,
    "ordinal": classes,
    "multilabel": labels,
    "regression": numbers,
    "log_regression": numbers,
}


def choose(asked: Asked, training: Split, validation: Split, answers: Answers, params: ValidateParams) -> Kind:
    """The kind of answer with the settings that the model is deployed with.

    They are chosen on the validation split alone; of the training split, only how numbers are cut into quarters.

    Args:
        answers: To the validation split.
    """
    settings = Settings(flips="".join(params.flips))
    found: Kind = KINDS[asked.kind].choose(asked, training, validation, answers, settings, params)
    return replace(found, settings=out_of_distribution.with_threshold(answers.measures, found.settings))
