"""Measures the model on the validation and test splits: scores, predictions of every case, curves and pictures.

python -m stages.validate digits
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib import checkpoint, command, curves, inference, outs, pictures, predictions, scores, tensors
from stages.lib.deployed import Deployed
from stages.lib.params.validate import ValidateParams

MEASURED = ("validation", "test")


def main(
    dataset_h5: Path,
    model_pt: Path,
    validate_json: Path,
    predictions_csv: Path,
    confusion_csv: Path,
    roc_csv: Path,
    worst_png: Path,
    params: ValidateParams,
) -> None:
    classifier, recipe = checkpoint.load(model_pt)
    about = tensors.Description(**recipe.description)
    model = Deployed(classifier).eval()
    splits = {name: tensors.read_split(dataset_h5, name) for name in MEASURED}
    said = {n: inference.predict(model, s.x, params.batch_size, f"validate {n}") for n, s in splits.items()}

    measured = {name: scores.overall(splits[name].y, said[name]) for name in MEASURED}
    outs.write_json(validate_json, measured)
    tables = [predictions.table(name, splits[name], said[name], about.classes) for name in MEASURED]
    outs.write_csv(predictions_csv, pd.concat(tables, ignore_index=True))
    outs.write_csv(confusion_csv, tables[-1][["label", "predicted"]].rename(columns={"label": "actual"}))
    outs.write_csv(roc_csv, curves.roc(splits["test"].y, said["test"], about.classes))

    chosen = predictions.wrongness(splits["test"].y, said["test"])[: params.worst]
    window = recipe.normalise["low"], recipe.normalise["high"]
    images = [pictures.displayable(np.array(splits["test"].x[i]), *window) for i in chosen]
    captions = [predictions.caption(splits["test"].y[i], said["test"][i], about.classes) for i in chosen]
    outs.write_figure(worst_png, pictures.sheet(images, captions, "The most wrong test cases"))


if __name__ == "__main__":
    command.run(main)
