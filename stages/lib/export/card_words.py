"""What a card says of one kind of answer: of classes, of labels that hold each by itself, or of a number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stages.lib.core.markdown import escape
from stages.lib.export.formats.runner import target

Rows = Sequence[Sequence[str]]


def words(facts: Mapping[str, Any]) -> "OfClasses":
    """The words for what a file answers.

    Args:
        facts: The file's metadata.
    """
    of = target(facts)
    if of.of_number:
        return OfNumber(facts)
    return OfLabels(facts) if of.kind == "multilabel" else OfClasses(facts)


class OfClasses:
    """Of one class of several; the others say the same of theirs."""

    a_class = "class"  # what has a row of its own in scores.csv
    last_layer = "softmax"
    an_answer = "probability"
    answers = "probabilities"
    an_answer_is_off = "probabilities differ by less than"

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts, self._target = facts, target(facts)
        self._names = [escape(name) for name in self._target.names]

    @property
    def tags(self) -> Sequence[str]:
        """For model hubs, which know no other task of pictures than their classification."""
        return ("ordinal-classification",) if self._target.kind == "ordinal" else ()

    def title(self, inputs: str) -> str:
        """Args: inputs: "images" or "volumes"."""
        return f"a classifier of {inputs}"

    def asked(self) -> str:
        """What the model answers, in a sentence or two."""
        order = ", which are in this order," if self._target.kind == "ordinal" else ""
        of_shares = self._facts.get("target", {}).get("kind") == "classes"
        shares = " In training, a case was of several classes, each to a share." if of_shares else ""
        return f"Gives each of {len(self._names)} classes{order} a probability: {', '.join(self._names)}.{shares}"

    def output(self) -> str:
        return f"probabilities, (N, {len(self._names)}), each row sums to 1"

    def cases(self) -> tuple[Sequence[str], Rows]:
        """The head and the rows of the table of cases."""
        rows = [[name, *map(str, counts), str(sum(counts))] for name, counts in self._facts["cases"].items()]
        return ["split", *self._names, "all"], rows

    def test_cases(self) -> int:
        return sum(self._facts["cases"]["test"])

    def fitted(self, measured: Mapping[str, Any], on: str = "validation split") -> list[str]:
        """What was fitted, and is in the files.

        Args:
            measured: validate.json.
            on: The cases that it was fitted on.
        """
        if "uncalibrated" not in measured:
            return []
        before, after = (of["calibration_error"] for of in (measured["uncalibrated"]["test"], measured["test"]))
        return [
            f"The logits are divided by {number(measured['deployed']['temperature'])}, fitted on the {on}: "
            f"the expected calibration error on the test split is {number(after)}, {number(before)} without.\n"
        ]

    def limit(self) -> str:
        return (
            "One of its classes is always the most probable, whatever it is shown: of something unlike the training "
            "data it may be sure, and wrong."
        )

    def off(self, difference: float) -> str:
        """How far an answer is off."""
        return f"{difference:g}"


class OfLabels(OfClasses):
    """Of labels that hold each by itself."""

    a_class = "label"
    last_layer = "sigmoid"

    @property
    def tags(self) -> Sequence[str]:
        return ("multi-label-classification",)

    def title(self, inputs: str) -> str:
        return f"labels of {inputs}"

    def asked(self) -> str:
        names = ", ".join(self._names)
        return (
            f"Gives each of {len(self._names)} labels a probability by itself, as any number of them may hold: {names}."
        )

    def output(self) -> str:
        return f"probabilities, (N, {len(self._names)}), of each label by itself: a row has no fixed sum"

    def cases(self) -> tuple[Sequence[str], Rows]:
        rows = []
        for name, of in self._facts["cases"].items():
            holds = [f"{n} of {known}" for n, known in zip(of["positive"], of["known"], strict=True)]
            rows.append([name, *holds, str(of["cases"])])
        return ["split", *(f"{name}: holds, of known" for name in self._names), "cases"], rows

    def test_cases(self) -> int:
        return int(self._facts["cases"]["test"]["cases"])

    def fitted(self, measured: Mapping[str, Any], on: str = "validation split") -> list[str]:
        titles = {"holds from": "thresholds", "logit divided by": "temperatures"}
        of = {title: values for title, key in titles.items() if (values := measured["deployed"].get(key))}
        if not of:
            return []
        rows = [[name, *(number(values[k]) for values in of.values())] for k, name in enumerate(self._names)]
        return [f"Fitted for each label on the {on}:\n\n" + table(["label", *of], rows)]

    def limit(self) -> str:
        return (
            "Each of its labels gets a probability, whatever it is shown: of something unlike the training data it may "
            "be sure, and wrong. It finds nothing that is none of its labels."
        )


class OfNumber(OfClasses):
    """Of one number with its interval."""

    last_layer = "the number's unit"
    an_answer = "number"
    answers = "numbers, and of their bounds,"

    @property
    def an_answer_is_off(self) -> str:  # type: ignore[override]
        return f"numbers differ by less than, in {self._deviations}"

    @property
    def _deviations(self) -> str:
        of = "the logarithms of " if self._target.kind == "log_regression" else ""
        return f"deviations of {of}the numbers in training"

    @property
    def _unit(self) -> str:
        return escape(self._target.unit)

    @property
    def tags(self) -> Sequence[str]:
        return ("image-regression",)

    def title(self, inputs: str) -> str:
        return f"{self._names[0]} from {inputs}"

    def asked(self) -> str:
        learnt = " It was trained on the number's logarithm." if self._target.kind == "log_regression" else ""
        return f"Gives one number, {self._names[0]}, {self._in_unit()}, and an interval.{learnt}"

    def _in_unit(self) -> str:
        return f"in {self._unit}" if self._unit else "without a unit"

    def output(self) -> str:
        return f"number, (N, 3), {self._in_unit()}: {', '.join(map(escape, self._target.outputs))}"

    def cases(self) -> tuple[Sequence[str], Rows]:
        spread = ("mean", "minimum", "maximum")
        rows = [
            [name, *(number(of.get(key)) for key in spread), str(of["cases"])]
            for name, of in self._facts["cases"].items()
        ]
        return ["split", *(f"{key} of {escape(self._target.outputs_with_unit[0])}" for key in spread), "cases"], rows

    def test_cases(self) -> int:
        return int(self._facts["cases"]["test"]["cases"])

    def fitted(self, measured: Mapping[str, Any], on: str = "validation split") -> list[str]:
        unit = [f"Errors are in {self._unit}, squared ones in its square.\n"] if self._unit else []
        width = measured["deployed"].get("half_width")
        if not width:
            return [*unit, "No interval was measured: the files give the number for both of its bounds.\n"]
        if self._target.kind == "log_regression":
            reach = f"from {number(math.exp(-width))} to {number(math.exp(width))} times the number"
        else:
            reach = f"{number(width)} {self._unit}".rstrip() + " to both sides of the number"
        return [
            *unit,
            f"The interval that the files give is {reach}, between which 90 % of the numbers of the {on} are: a "
            "conformal interval. It holds on average over cases like those, not for each kind of case.\n",
        ]

    def limit(self) -> str:
        seen = self._facts["cases"]["train"]
        reach = f"{number(seen['minimum'])} to {number(seen['maximum'])} {self._unit}".rstrip()
        return (
            "It gives a number whatever it is shown, and its interval is no wider for what is strange to it. The "
            f"numbers in training were {reach}: it never learnt any beyond them."
        )

    def off(self, difference: float) -> str:
        return f"{difference:g} {self._deviations}"


def number(value: float | None) -> str:
    """Four digits of a number; empty where there is none."""
    return "" if value is None else f"{value:.4g}"


def table(head: Sequence[str], rows: Rows) -> str:
    """A table, whose cells are escaped already."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
