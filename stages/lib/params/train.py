"""`datasets.<name>.train`: every choice about network and training."""

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.lib.core.sections import Count, Fraction, NotNegative, Positive, Seed, Threads, section, unit

Arguments = dict[str, Any]
OneOrMore = Annotated[tuple[float, ...], Field(min_length=1)]

# Spelt out, so that a wrong name is refused before any stage runs, without the seconds that importing torch takes.
Network = Literal["fully_connected", "convolutional", "skip", "residual", "compact", "torchvision", "hub"]
OtherOptimizer = Literal["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam",
                         "RMSprop", "Rprop", "SGD"]  # fmt: skip
Optimizer = Literal[OtherOptimizer, "LBFGS", "Muon"]
Scheduler = Literal["ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
                    "LinearLR", "MultiStepLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau",
                    "StepLR"]  # fmt: skip


BEST: dict[str, Any] = {
    "network": {"name": "compact", "arguments": {"widths": [32, 64, 128], "pooling": "both"}},
    "loss": {"label_smoothing": 0.1},
    "average": 0.98,
    "keep": "last",
}
"""`preset: best`, but for the number of epochs."""


def _is_compact(given: dict[str, Any]) -> bool:
    network = given.get("network") or {}
    return isinstance(network, dict) and network.get("name", "compact") == "compact"


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """The keys of both, sections merged; those of `over` count."""
    both = {k: _merged(v, over[k]) for k, v in under.items() if isinstance(v, dict) and isinstance(over.get(k), dict)}
    return under | over | both


@section
class NetworkParams:
    """`train.network`: one of stages/lib/model/networks and its own options."""

    name: Network = "compact"
    """A key of NETWORKS in stages/lib/model/networks/__init__.py."""

    arguments: Arguments = field(default_factory=dict)
    """The network's own options, as its constructor names them."""


@section
class NormaliseParams:
    """`train.normalise`: the first layer of the model, so that training and deployment cannot disagree."""

    to: Literal["unit", "symmetric", "standardise"] = "standardise"
    """unit: [0, 1]; symmetric: [-1, 1]; standardise: zero mean and unit deviation per channel."""

    window: tuple[float, float] | None = None
    """Clamp to these two first, in the data's units (HU, or grey values); null is the dtype's range for 8 bits, else
    what was measured on the training split."""

    mean: OneOrMore | None = None
    """One mean per channel, of data scaled to [0, 1], to standardise by instead of the measured one; ImageNet's is
    [0.485, 0.456, 0.406]."""

    deviation: OneOrMore | None = None
    """As `mean`; ImageNet's is [0.229, 0.224, 0.225]."""

    def __post_init__(self) -> None:
        if self.window and self.window[0] >= self.window[1]:
            raise ValueError(f"window is {list(self.window)}: expected [low, high] with low < high")
        if (self.mean is None) != (self.deviation is None):
            raise ValueError("mean and deviation are given together or not at all")
        if self.mean and self.to != "standardise":
            raise ValueError(f"mean and deviation are for `to: standardise`, not for `to: {self.to}`")
        if self.deviation and min(self.deviation) <= 0:
            raise ValueError(f"deviation is {list(self.deviation)}: expected numbers above 0")


@section
class LossParams:
    """`train.loss`: the loss, and the penalties added to it."""

    name: Literal["cross_entropy", "nll", "bce", "bce_with_logits", "mse", "l1", "huber"] | None = None
    """Of classes: cross_entropy; nll: over log-softmax; bce and mse: of the softmax against one-hot; bce_with_logits:
    one sigmoid per class. Of labels (`ingest.target`): bce_with_logits. Of a number: mse, l1 or huber, which is
    quadratic up to one deviation of the training split's numbers; train.json has them in the number's unit. null:
    cross_entropy, bce_with_logits or mse."""

    label_smoothing: Fraction = 0.0
    """Fraction of the target that is spread evenly over the classes, or between yes and no of each label."""

    class_weights: Literal["balanced"] | Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """One weight above 0 per class or label, in their order; balanced: inverse to the class's count in the training
    split, and of labels, yes counts as much as no. With label smoothing, what cross_entropy and nll spread over the
    classes has their weights, as torch's."""

    l1: NotNegative = 0.0
    """Times the sum of the weights' magnitudes, added to the loss."""

    l2: NotNegative = 0.0
    """Times the sum of the weights' squares, added to the loss; for SGD a weight_decay of twice this is the same."""


@section
class OthersParams:
    """`train.optimizer.others`: the optimizer of the parameters that Muon does not move."""

    name: OtherOptimizer = "AdamW"
    """As torch.optim spells it."""

    arguments: Arguments = field(default_factory=dict)
    """Its own arguments but for lr."""

    lr: Positive = 3e-4
    """Learning rate it starts from; a schedule and `train.body_lr` change it in proportion to `train.lr`."""


@section
class OptimizerParams:
    """`train.optimizer`: any of torch.optim."""

    name: Optimizer = "AdamW"
    """As torch.optim spells it: SGD, Adam, AdamW, RMSprop ..."""

    arguments: Arguments = field(default_factory=dict)
    """The optimizer's own arguments but for lr, such as {momentum: 0.9, weight_decay: 1e-4}."""

    others: OthersParams | None = None
    """For Muon, which moves the weights of hidden linear and convolutional layers alone: the optimizer of everything
    else, such as biases, norms and the last layer; null is AdamW with lr 3e-4."""

    def __post_init__(self) -> None:
        if self.others is not None and self.name != "Muon":
            raise ValueError(f"others is for Muon, which moves some weights alone: {self.name} moves all of them")


@section
class ScheduleParams:
    """`train.schedule`: how the learning rate goes on from `train.lr`."""

    name: Scheduler | None = "OneCycleLR"
    """As torch.optim.lr_scheduler spells it: OneCycleLR, CosineAnnealingLR, StepLR ...; null keeps lr. OneCycleLR rises
    to lr and falls to nearly zero, once over all epochs."""

    arguments: Arguments = field(default_factory=dict)
    """The scheduler's own arguments. T_max, total_steps and max_lr are filled in where they are left out."""

    every: Literal["epoch", "batch"] | None = None
    """How often the scheduler steps; null: every batch for OneCycleLR and CyclicLR, every epoch for others."""

    warmup_epochs: Annotated[NotNegative, unit("epochs")] = 0.0
    """Over this many epochs (1.5 is allowed) lr rises from nearly zero, before the scheduler begins."""


@section
class AugmentParams:
    """`train.augment`: random changes to each training sample, drawn anew each epoch; 0 or "" is off."""

    shift: Annotated[tuple[Annotated[int, Field(ge=0)], ...], unit("pixels")] | None = None
    """Largest shift, in whole pixels: one number for all axes or one for each (D, H, W or H, W); null is a sixteenth of
    each side, rounded down."""

    flip: Annotated[str, Field(pattern="^[DHW]*$")] = ""
    """Axes that are mirrored with probability 1/2: "W" swaps left and right."""

    rotate: Annotated[float, Field(ge=0, le=180), unit("degrees")] = 0.0
    """Largest rotation, in the plane of H and W."""

    scale: Fraction = 0.0
    """Largest fraction by which sizes grow or shrink: 0.1 is a factor between 1/1.1 and 1.1."""

    brightness: NotNegative = 0.0
    """Largest number added, in units of the normalised values (standard deviations, for `standardise`)."""

    contrast: Fraction = 0.0
    """Largest fraction by which differences from the sample's mean grow or shrink."""

    noise: NotNegative = 0.0
    """Standard deviation of Gaussian noise, in units of the normalised values."""

    cutout: Annotated[int, Field(ge=0), unit("pixels")] = 0
    """Side length of a square (or cube) that is set to zero."""

    mixup: NotNegative = 0.0
    """Blend each sample with another, in proportions from a Beta distribution of this parameter, such as 0.2: pixels,
    answers and weights. A label that is unknown of either is unknown of the blend, and counts nothing."""

    fill: Literal["reflect", "edge", "zero"] = "reflect"
    """What fills the pixels from beyond the edge; reflect mirrors without repeating the edge, zero is that of the
    normalised values."""

    def __post_init__(self) -> None:
        if self.shift is not None and not self.shift:
            raise ValueError("shift is empty: expected one number for all axes, or one for each")
        if len(set(self.flip)) < len(self.flip):
            raise ValueError(f"flip is '{self.flip}': each axis at most once")

    @property
    def draws(self) -> bool:
        """Whether anything is done at all."""
        others = any(value for name, value in vars(self).items() if name not in ("shift", "fill"))
        return others or any(self.shift or ())


@section
class ProgressiveParams:
    """`train.progressive`: quick first epochs on shrunk samples; for networks that take samples of any size."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """Number of first epochs. Their validation samples are shrunk as well; the weights that are kept are of a later
    epoch."""

    scale: Annotated[float, Field(gt=0, lt=1), unit("fraction")] = 0.5
    """What is left of each side's length, by averaging: 0.5 makes 16x16 of 32x32."""


@section
class TrainParams:
    """`datasets.<name>.train`: the network, and how it is trained."""

    preset: Literal["quick", "good", "best"] = "good"
    """What the keys that are left out are: quick takes half the epochs, best three times as many and, where the
    network is `compact`, a wider one with smoothed labels and averaged weights."""

    network: NetworkParams = field(default_factory=NetworkParams)
    normalise: NormaliseParams = field(default_factory=NormaliseParams)
    loss: LossParams = field(default_factory=LossParams)
    optimizer: OptimizerParams = field(default_factory=OptimizerParams)
    schedule: ScheduleParams = field(default_factory=ScheduleParams)
    augment: AugmentParams = field(default_factory=AugmentParams)
    progressive: ProgressiveParams = field(default_factory=ProgressiveParams)

    pretrained: str | None = None
    """Weights to begin from: a file with a state dict, or, for torchvision's networks, the name of published ones such
    as DEFAULT or IMAGENET1K_V1; the last layer starts anew when the classes are others."""

    warm_start: str | None = None
    """A former model.pt to begin from, kept outside of models/<dataset>, for retraining on grown data; the last layer
    starts anew when the classes or labels are others or in another order, or the kind of answer is another."""

    lr: Positive = 1e-2
    """Learning rate the optimizer starts from; with OneCycleLR, the highest one."""

    body_lr: NotNegative = 1.0
    """Times lr for all layers but the last: 0.1 fine-tunes a pretrained body gently, 0 freezes it."""

    epochs: Count | None = None
    """Passes over the training split; null: 20, and where the cases are few as many as make 400 steps of the optimizer,
    but 100 at most."""

    batch_size: Count | None = None
    """Samples per step of the optimizer, over all processes; null: 64, fewer where they are large (2,097,152 numbers
    together at most) or few (an eighth of the training split)."""

    accumulate: Count = 1
    """Number of parts in which a batch goes through the network, each with batch statistics of its own: more parts need
    less memory. Where each process computes whole parts, the number of processes changes no bit (docs/training.md)."""

    clip_norm: Positive | None = None
    """Largest norm of all gradients together; larger ones are scaled down to it."""

    average: Fraction | None = None
    """Decay per step of a running average of the weights, such as 0.99: the average is what is validated and kept."""

    patience: Count | None = None
    """Stop after this many epochs without a lower validation loss."""

    keep: Literal["best_loss", "best_accuracy", "last"] | None = None
    """Which epoch's weights go into model.pt, by the validation split; null: the last where OneCycleLR has brought the
    rate down to nearly zero by then, which is better than the one of lowest loss, and best_loss otherwise. Of labels,
    best_accuracy counts the known answers that are right at a probability of 0.5; of a number, it is the highest R²."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """auto: the first CUDA device where there is one, else the CPU; or cpu, cuda, cuda:N, mps."""

    processes: Count = 1
    """Processes on this machine that divide the work, one per CUDA device where there are any."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format in which the network computes; weights stay float32, and gradients of float16 are scaled."""

    channels_last: bool = False
    """Keep the channels innermost in memory, which makes many convolutions faster."""

    compile: bool = False
    """Let torch.compile turn the network into fused kernels: minutes at the start, then quicker steps."""

    deterministic: bool = True
    """Refuse operators whose results differ from run to run."""

    seed: Seed = 0
    """Seed of the weights, the order of the samples, augmentation and dropout."""

    threads: Threads = 2
    """Threads per operation, over all processes together and at least one each; 0 is one per core. Another number gives
    other last bits."""

    portable: bool = False
    """Pin the instruction set to AVX2, so that the bytes are those of x86-64 machines that have it, whatever else they
    have. Between machines of different makers (AMD, Intel) the last bits have been seen to differ all the same."""

    @staticmethod
    def completed(given: Any) -> Any:
        """What is left out is as the preset has it."""
        is_best = isinstance(given, dict) and given.get("preset") == "best"
        return _merged(BEST, given) if is_best and _is_compact(given) else given

    def __post_init__(self) -> None:
        if self.pretrained is not None and self.warm_start is not None:
            raise ValueError("pretrained and warm_start are two places to begin from: give one")
        if self.epochs is not None and self.progressive.epochs >= self.epochs:
            raise ValueError(
                f"progressive.epochs is {self.progressive.epochs} of {self.epochs} epochs: expected some left for "
                "whole samples"
            )
        if self.batch_size is not None and self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}: expected no more parts than batch_size, {self.batch_size}"
            )
