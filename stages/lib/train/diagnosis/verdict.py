"""What curves, gradients and the kept weights say about a run: a verdict, the numbers behind it, and what to try.

Every loss is judged by two others (`evidence`): that of chance, which is one answer for all samples, and the floor. A
difference counts where it is more than noise: half an interval of 95 % over the validation cases' groups.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from stages.lib.train.diagnosis.capacity import Capacity
from stages.lib.train.diagnosis.evidence import Evidence
from stages.lib.train.run import Row

LEARNT = 0.9  # of the way from chance to the floor: a split that is as good as fitted
FITTED = 0.5  # likewise: a training split that is more than half explained
STUCK = 0.25  # likewise: a training split that is hardly better than chance
NEARLY_LEARNT = 0.75  # likewise: one that is so where its quality is high, too
LEARNT_QUALITY = 0.95  # accuracy, or what is as good
LEAST = 0.02  # likewise: a difference of losses that matters, however little noise there is
HARDLY_MOVED = 0.3  # likewise: a few cases, by a fresh copy at train.lr
LARGE_GAP = 0.5  # likewise: between training and validation

BLOWN_UP, FAR_OFF = 100.0, 5.0  # times the loss of chance: whatever came of it; where nothing good came of it
MAX_GRADIENT_ORDERS = 3.0  # powers of ten between the layers' gradients
DEAD_GRADIENT = 1e-6  # of the next larger layer's gradient
AT_REST = 0.05  # last learning rate over the largest: a schedule has come to its end
FINAL_PART = 0.2  # of the epochs, in which a loss is still falling or not
FEW_EPOCHS = 3  # fewer tell nothing
SURE = 1.5  # times the noise: that of chance is judged twice, and by the best of several epochs
BLIND_CONFIDENCE = 0.65  # AUROC of confidence for being right, below which errors are not where the network is unsure
SURE_ERRORS = 0.6  # of the error rate, that of the surest quarter of the answers
FEWEST_ERRORS = 20  # to know these by
MANY_ERRORS = 0.1  # of the answers

MORE_CAPACITY = "a wider or deeper network, or less regularisation"
REGULARISE = "more data, augmentation, dropout, weight decay or a smaller network"


def diagnose(
    history: Sequence[Row],
    evidence: Evidence,
    shrunk_epochs: int = 0,
    quality: str = "accuracy",
    capacity: Callable[[], Capacity] | None = None,
) -> dict[str, Any]:
    """The verdict on a run.

    Args:
        history: Rows as in history.csv.
        evidence: On the kept weights, in the unit of the history's losses.
        shrunk_epochs: How many first epochs had shrunk samples; their losses do not compare with later ones.
        quality: `losses.Objective.quality`: accuracy, or what is as good of other answers.
        capacity: `capacity.capacity`, which is asked only where the run has learnt little.

    Returns:
        verdict, a term of the table in docs/training.md; sentence, for people; and the numbers that both rest on.
    """
    numbers = measure(history, evidence, shrunk_epochs)
    dead = dead_layers(history[-1])
    verdict, remedy = judge(numbers, dead)
    has_fitted = numbers["train_explained"] >= FITTED
    if (verdict in ("at chance", "underfitting") or (verdict == "label noise" and not has_fitted)) and capacity:
        found = capacity()
        numbers |= {"few_fitted": found.fitted, "fitting_rate": found.fitting_rate}
        verdict, remedy = with_capacity(verdict, remedy, found)
    return {"verdict": verdict, "sentence": f"{verdict}: {in_words(numbers, quality, dead)}; try {remedy}", **numbers}


def measure(history: Sequence[Row], evidence: Evidence, shrunk_epochs: int = 0) -> dict[str, float]:
    """The numbers that the rules compare; "explained" is the part of the way from chance to the floor."""
    full_size = history[shrunk_epochs:]
    train, validation = evidence.train, evidence.validation
    is_validated = not math.isnan(validation.chance)
    losses = [row["validation_loss"] for row in full_size]
    finite = [loss for loss in losses if math.isfinite(loss)]
    lowest = losses.index(min(finite)) if finite else len(losses) - 1
    since = full_size[lowest + 1 :]
    settled = median(losses[-3:]) if len(since) >= 3 else losses[-1]
    window = max(1, int(FINAL_PART * len(full_size)))
    final, before = losses[-window:], losses[-2 * window : -window]
    all_losses = [row["train_loss"] for row in full_size] + (losses if is_validated else [])
    peak = max(all_losses) if all(map(math.isfinite, all_losses)) else math.inf
    gradients = {name: size for name, size in history[0].items() if name.startswith("gradient ")}
    sizes = [size for size in gradients.values() if size > 0]
    rates = [row.get("lr", math.nan) for row in history]
    return {
        "epochs": len(history),
        "train_loss": train.loss,
        "last_train_loss": history[-1]["train_loss"],
        "train_chance": train.chance,
        "train_explained": train.explained,
        "last_train_explained": train.part(history[-1]["train_loss"]),
        "validation_loss": validation.loss,
        "validation_noise": validation.noise,
        "validation_chance": validation.chance,
        "validation_explained": validation.explained,
        "gain": validation.gain,
        "gain_noise": validation.gain_noise,
        "train_quality": train.quality,
        "validation_quality": validation.quality,
        "quality_gain": validation.quality_gain,
        "quality_gain_noise": validation.quality_gain_noise,
        "least_difference": LEAST * (validation.chance - validation.floor),
        "lowest_validation_loss": losses[lowest],
        "last_validation_loss": losses[-1],
        "rise": settled - losses[lowest],
        "train_fall_since": full_size[lowest]["train_loss"] - full_size[-1]["train_loss"],
        "final_fall": fmean(before) - fmean(final) if before else 0.0,
        "peak_over_chance": peak / train.chance if train.chance else math.nan,
        "last_rate": rates[-1] / max(rates),
        "errors": validation.errors,
        "error_rate": 1 - validation.quality,
        "confidence_auroc": validation.auroc,
        "surest_error_rate": validation.surest_errors,
        "gradient_orders": math.log10(max(sizes) / min(sizes)) if sizes else 0.0,
        "first_layer_gradient": next(iter(gradients.values()), math.nan),
        "last_layer_gradient": next(reversed(gradients.values()), math.nan),
    }


def dead_layers(row: Row) -> list[str]:
    """The layers that an epoch's gradients do not reach."""
    gradients = {name.removeprefix("gradient "): row[name] for name in row if name.startswith("gradient ")}
    sizes = sorted(gradients.values(), reverse=True)
    # Gradients that vanish become less from layer to layer; a dead layer lets none through at all.
    alive = next((above for above, below in pairwise(sizes) if below <= DEAD_GRADIENT * above), min(sizes, default=0.0))
    return [name for name, size in gradients.items() if size < alive or size == 0]


def judge(numbers: dict[str, float], dead: Sequence[str] = ()) -> tuple[str, str]:
    """The verdict and what to try: the first rule that holds counts, from what spoils all other numbers downwards."""
    n = numbers
    explained = n["train_explained"]
    fitted = max(explained, n["last_train_explained"])  # augmentation and dropout only make the latter less
    stuck, poor = not fitted >= STUCK, not fitted >= FITTED
    uneven = n["gradient_orders"] > MAX_GRADIENT_ORDERS
    vanishing = n["first_layer_gradient"] < n["last_layer_gradient"]
    spoilt = not n["peak_over_chance"] <= BLOWN_UP or (n["peak_over_chance"] > FAR_OFF and poor)
    validated = not math.isnan(n["validation_chance"])
    better = n["gain"] > SURE * n["gain_noise"] or n["quality_gain"] > SURE * n["quality_gain_noise"]
    # Half of the way to the best may be within the noise: then nothing is known.
    best_gain, best_quality_gain = n["least_difference"] / LEAST, 1 - n["validation_quality"] + n["quality_gain"]
    unsure = not better and (
        n["gain"] + n["gain_noise"] > FITTED * best_gain
        or n["quality_gain"] + n["quality_gain_noise"] > FITTED * best_quality_gain
    )
    gap = n["validation_loss"] - n["train_loss"] > max(n["validation_noise"], n["least_difference"])
    large_gap = gap and explained - n["validation_explained"] > LARGE_GAP
    risen = n["rise"] > max(n["validation_noise"], n["least_difference"]) and n["train_fall_since"] > 0
    # On the same cases, losses of neighbouring epochs differ by less than chance would have other cases differ.
    falling = n["final_fall"] > max(n["validation_noise"] / 2, n["least_difference"]) and n["rise"] == 0
    resting = n["last_rate"] < AT_REST  # which lets the loss fall to the end of any run
    learnt = n["validation_explained"] >= LEARNT or (
        n["validation_quality"] >= LEARNT_QUALITY and n["validation_explained"] >= NEARLY_LEARNT
    )
    blind = (
        n["errors"] >= FEWEST_ERRORS
        and n["error_rate"] > MANY_ERRORS
        and n["confidence_auroc"] < BLIND_CONFIDENCE
        and n["surest_error_rate"] > SURE_ERRORS * n["error_rate"]
    )
    rules = [
        ("learning rate too high", spoilt, "a lower train.lr, train.schedule.warmup_epochs or train.clip_norm"),
        (
            "dead layer",
            bool(dead) and not fitted >= LEARNT,
            "a lower train.lr, batch norm, or an activation that lets gradients through, such as LeakyReLU",
        ),
        (
            "vanishing gradients",
            uneven and vanishing and stuck,
            "skip connections, batch norm, ReLU or a less deep network",
        ),
        ("exploding gradients", uneven and not vanishing and stuck, "train.clip_norm, a lower train.lr or batch norm"),
        (
            "too few validation cases",
            unsure,
            "more of them (split.validation): these few can't tell the network from chance",
        ),
        (
            "memorisation",
            validated and not better and fitted >= FITTED,
            "other labels or pictures: what was learnt by heart says nothing of other cases",
        ),
        (
            "unfinished",
            validated and not better and n["epochs"] < FEW_EPOCHS,
            "more train.epochs: so few tell nothing",
        ),
        ("at chance", validated and not better, "a look at labels and pictures: is there anything to be learnt?"),
        # What is learnt by heart has errors that are as confident: label noise shows where it is not.
        ("overfitting", risen or (large_gap and not falling), REGULARISE),
        ("label noise", blind, "a look at the labels: errors are no less confident than right answers"),
        (
            "unfinished",
            falling and not (resting and (gap or learnt)),
            "more train.epochs",
        ),
        ("underfitting", poor, MORE_CAPACITY),
        ("not validated", not validated, "a validation split (split.validation), without which little can be told"),
    ]
    sound = ("sound", True, "nothing")
    verdict, _, remedy = next((rule for rule in rules if rule[1]), sound)
    return verdict, remedy


def with_capacity(verdict: str, remedy: str, found: Capacity) -> tuple[str, str]:
    """What is made of what a fresh copy comes to, where a run has learnt little."""
    rate = found.fitting_rate
    if rate == 0:
        return "underfitting", MORE_CAPACITY
    if rate < 1:
        return "learning rate too high", f"train.lr times {rate:g}"
    if rate > 1 and found.fitted < HARDLY_MOVED:
        return "learning rate too low", f"train.lr times {rate:g}, or more train.epochs"
    return verdict, remedy


def in_words(numbers: dict[str, float], quality: str = "accuracy", dead: Sequence[str] = ()) -> str:
    """The numbers as part of a sentence."""
    n = numbers
    parts = [
        f"{n['epochs']:g} epochs",
        f"training loss {n['train_loss']:.3g} (chance {n['train_chance']:.3g}), at last, as trained, "
        f"{n['last_train_loss']:.3g}",
    ]
    if not math.isnan(n["validation_chance"]):
        parts += [
            f"validation loss {n['validation_loss']:.3g} +/- {n['validation_noise']:.2g} "
            f"(chance {n['validation_chance']:.3g}), at its lowest {n['lowest_validation_loss']:.3g}, at last "
            f"{n['last_validation_loss']:.3g}"
        ]
    parts += [f"{quality} {n['train_quality']:.3f} in training"]
    if not math.isnan(n["validation_chance"]):
        parts[-1] += (
            f" and {n['validation_quality']:.3f} in validation, {n['quality_gain']:+.3f} +/- "
            f"{n['quality_gain_noise']:.2g} beside chance"
        )
    if n["peak_over_chance"] > FAR_OFF:
        parts += [f"the loss rose to {n['peak_over_chance']:.2g} times that of chance"]
    if dead:
        parts += [f"no gradient reaches {', '.join(dead)}"]
    elif n["gradient_orders"] > MAX_GRADIENT_ORDERS:
        parts += [f"gradients within {n['gradient_orders']:.1f} powers of ten over the layers"]
    if not math.isnan(n["confidence_auroc"]):
        parts += [
            f"confidence tells right from wrong with an AUROC of {n['confidence_auroc']:.2f}, and of its surest "
            f"quarter {n['surest_error_rate']:.0%} is wrong"
        ]
    if "fitting_rate" in n:
        parts += [
            f"a fresh copy fits 32 training cases at {n['fitting_rate']:g} times train.lr"
            if n["fitting_rate"]
            else "a fresh copy does not fit 32 training cases at any rate"
        ]
    return ", ".join(parts)
