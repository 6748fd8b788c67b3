"""A plain torch training, for the group `training`."""

import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stages.lib import tensors


class PlainLoop:
    """A plain torch training; data in memory, normalised."""

    def __init__(self, dataset_h5: Path, seed: int) -> None:
        torch.manual_seed(seed)
        about = tensors.read_description(dataset_h5)
        mean, deviation = (torch.tensor(about.moments[name]).view(-1, 1, 1) for name in ("mean", "deviation"))
        parts = []
        for name in ("train", "validation"):
            part = tensors.read_split(dataset_h5, name)
            x = (torch.from_numpy(part.x.copy()) - mean) / deviation
            parts.append(TensorDataset(x.float(), torch.from_numpy(part.y.copy())))
        self.train = DataLoader(parts[0], batch_size=64, shuffle=True)
        self.validation = DataLoader(parts[1], batch_size=64)
        self.model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
            nn.Conv2d(16, 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 2),
        )  # fmt: skip
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-2)

    def epoch(self) -> tuple[float, float]:
        """Trains and validates once: seconds, accuracy."""
        started = time.perf_counter()
        self.model.train()
        for x, y in self.train:
            loss = nn.functional.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.model.eval()
        correct, total = 0, 0
        with torch.no_grad():
            for x, y in self.validation:
                correct += int((self.model(x).argmax(1) == y).sum())
                total += len(y)
        return time.perf_counter() - started, correct / total
