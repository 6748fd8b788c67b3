"""What the kept weights are worth beside answers that know nothing of the samples, and how sure that is.

One more pass over the validation split, and one over some training cases as validation sees them: without augmentation
and dropout. So both losses, and those below, are of one kind, whatever the target, its weights and label smoothing:

- chance: the loss of one answer for all samples, the best that there is for the training split. It is the entropy of
  the classes, labels at their prevalence, the variance of a number.
- floor: the loss of the best answers, which label smoothing and soft labels keep above 0.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from stages.lib.model.classifier import Classifier
from stages.lib.tensors import Split
from stages.lib.train import batches, devices, losses
from stages.lib.train.losses import NumberObjective, Objective
from stages.lib.train.task import Task

TRAINING_CASES = 1000  # that are asked; all, if there are fewer
PRIOR_CASES = 20_000  # of the training split, by which the one answer for all is found
FLOOR_CASES = 200
LBFGS_STEPS = 100
FEWEST_GROUPS = 8  # fewer may lie close together by accident, and tell nothing of their spread
CONFIDENCE = 0.975  # of a two-sided interval of 95 %


@dataclass(frozen=True)
class Standing:
    """How the kept weights do on a split; nan where it has no case that counts.

    Losses are in the history's unit (`losses.Objective.in_unit`); noise is half an interval of 95 %.
    """

    loss: float = math.nan
    chance: float = math.nan
    floor: float = math.nan
    noise: float = math.nan  # of the loss, over groups of cases
    gain: float = math.nan  # by how much the loss is below that of chance
    gain_noise: float = math.nan
    quality: float = math.nan
    quality_gain: float = math.nan  # by how much the quality is above that of chance: accuracy above the majority's
    quality_gain_noise: float = math.nan
    errors: int = 0  # answers that are wrong; of a number, none is
    auroc: float = math.nan  # how well the confidence of an answer tells whether it is right: 0.5 is not at all
    surest_errors: float = math.nan  # part of the surest quarter of the answers that is wrong

    @property
    def explained(self) -> float:
        """The part of the way from chance to the floor."""
        return self.part(self.loss)

    def part(self, loss: float) -> float:
        """The part of the way from chance to the floor that a loss has gone."""
        return (self.chance - loss) / (self.chance - self.floor) if self.chance > self.floor else math.nan


@dataclass(frozen=True)
class Evidence:
    """What a run is judged by, beside its history."""

    train: Standing = field(default_factory=Standing)
    validation: Standing = field(default_factory=Standing)


def gather(model: Classifier, task: Task) -> Evidence:
    """Evidence on a model with the kept weights; the same bits from the same weights, without any random state."""
    rng = np.random.default_rng(task.params.seed)
    order = rng.permutation(len(task.train.y))
    constant = best_answers(task.objective, *asked(task, task.train, np.sort(order[:PRIOR_CASES])), alike=True)
    return Evidence(
        standing(model, task, task.train, np.sort(order[:TRAINING_CASES]), constant),
        standing(model, task, task.validation, np.arange(len(task.validation.y)), constant),
    )


def asked(task: Task, split: Split, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
    """Targets and weights of samples at these positions."""
    return task.objective.targets(split, rows), losses.weights_of(split, rows)


def best_answers(objective: Objective, targets: Tensor, weights: Tensor | None, alike: bool) -> Tensor:
    """The answers of the lowest loss, (n, K); or, `alike`, the one for all samples, (1, K).

    They are searched for, since the losses have no formula for them in common; all are convex, or nearly so.
    """
    answers = torch.zeros(1 if alike else len(targets), targets.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [answers], max_iter=LBFGS_STEPS, history_size=10, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )
    scale = objective.weight(targets, weights) or 1.0

    def closure() -> float:
        optimizer.zero_grad()
        loss = objective.sums(answers.expand(len(targets), -1), targets, weights)[0] / scale
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    return answers.detach()


def lowest_loss(objective: Objective, targets: Tensor, weights: Tensor | None, alike: bool) -> float:
    """The mean loss of `best_answers`."""
    best = best_answers(objective, targets, weights, alike).expand(len(targets), -1)
    return float(objective.sums(best, targets, weights)[0]) / (objective.weight(targets, weights) or 1.0)


@torch.no_grad()
def answers_of(model: Classifier, task: Task, split: Split, rows: np.ndarray) -> Tensor:
    """What a model says of samples at these positions, (n, K) on the CPU."""
    model.eval()
    size = max(1, task.batch_size // task.params.accumulate)  # what training has memory for
    found = torch.zeros(0)
    for start in range(0, len(rows), size):
        x = batches.gather(split, rows[start : start + size], task.device)
        with devices.autocast(task.device, task.params.precision):
            answers = model.answer(task.network_input(model.normalise(x), task.params.progressive.epochs + 1))
        if not start:  # not a piece a batch: each would lie behind its samples, whose memory then fits no others
            found = torch.empty(len(rows), answers.shape[1])
        found[start : start + len(answers)] = answers
    return found


def standing(model: Classifier, task: Task, split: Split, rows: np.ndarray, constant: Tensor) -> Standing:
    """How a model does on samples at these positions.

    Args:
        constant: The answer of chance, (1, K).
    """
    objective, (targets, weights) = task.objective, asked(task, split, rows)
    if not len(rows) or objective.weight(targets, weights) == 0:
        return Standing()
    answers = answers_of(model, task, split, rows)
    loss, quality = (_by_sample(of) for of in objective.each(answers, targets, weights))
    by_chance = constant.expand(len(rows), -1)
    chance, chance_quality = (_by_sample(of) for of in objective.each(by_chance, targets, weights))
    share = _by_sample(objective.weight_of_each(targets, weights))
    total, count = share.sum(), objective.count(targets, weights)
    counted = share * count / total
    few = slice(FLOOR_CASES)
    floor = lowest_loss(objective, targets[few], None if weights is None else weights[few], alike=False)
    # A few cases may be right by accident, all of them: their spread is 0, and the binomial error is not.
    least = 0.0 if isinstance(objective, NumberObjective) else 1 / math.sqrt(len(np.unique(split.group[rows])))
    errors, auroc, surest_errors = confidence(objective, answers, targets)
    with np.errstate(invalid="ignore", over="ignore"):
        return Standing(
            loss=objective.in_unit(float(loss.sum() / total)),
            chance=objective.in_unit(float(chance.sum() / total)),
            floor=objective.in_unit(floor),
            noise=objective.in_unit(noise(loss, share, split.group[rows])),
            gain=objective.in_unit(float((chance - loss).sum() / total)),
            gain_noise=objective.in_unit(noise(chance - loss, share, split.group[rows])),
            quality=float(quality.sum() / count),
            quality_gain=float((quality - chance_quality).sum() / count),
            quality_gain_noise=max(noise(quality - chance_quality, counted, split.group[rows]), least),
            errors=errors,
            auroc=auroc,
            surest_errors=surest_errors,
        )


def _by_sample(of: Tensor) -> np.ndarray:
    """(n,) or (n, K) -> (n,) float64."""
    return of.double().reshape(len(of), -1).sum(1).numpy()


def noise(values: np.ndarray, weights: np.ndarray, groups: np.ndarray) -> float:
    """Half of the 95 % interval of a weighted mean, by Student's t over groups; inf where they are too few.

    Args:
        values: (n,), each times its weight.
        weights: (n,).
        groups: (n,): cases of one patient err alike, and count as one.
    """
    total = weights.sum()
    _, member = np.unique(groups[weights > 0], return_inverse=True)
    residuals = np.bincount(member, (values - weights * values.sum() / total)[weights > 0])
    n = len(residuals)
    if n < FEWEST_GROUPS:
        return math.inf
    return float(stdtrit(n - 1, CONFIDENCE) * math.sqrt(n / (n - 1) * (residuals**2).sum()) / total)


def confidence(objective: Objective, answers: Tensor, targets: Tensor) -> tuple[int, float, float]:
    """How well confidence tells right answers from wrong ones: `errors`, `auroc`, `surest_errors` of `Standing`."""
    if isinstance(objective, NumberObjective) or not torch.isfinite(answers).all():
        return 0, math.nan, math.nan
    _, right = objective.each(answers, targets, None)
    if right.ndim > 1:  # labels, each by itself
        known = ~torch.isnan(targets)
        sure, right = answers.abs()[known], right[known]
    else:
        sure = answers.softmax(1).amax(1)
    confidences, wrong = sure.numpy(), right.numpy() == 0
    m, n = int((~wrong).sum()), int(wrong.sum())
    if not m or not n:
        return n, math.nan, math.nan
    bad = np.sort(confidences[wrong])
    below, up_to = (np.searchsorted(bad, confidences[~wrong], side=side) for side in ("left", "right"))
    surest = np.argsort(-confidences, kind="stable")[: max(1, (m + n) // 4)]
    return n, float((below + up_to).mean() / 2 / n), float(wrong[surest].mean())
