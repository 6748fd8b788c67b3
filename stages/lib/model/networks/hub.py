"""Models of Torch Hub, from GitHub or a local folder. This runs code of others: name only repositories you trust."""

from typing import Any

import torch
from torch import Tensor, nn

from stages.lib.model.networks.adapting import adapt


class Hub(nn.Module):
    """`torch.hub.load(repo, model, **options)`, fitted to the data's channels and classes."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        repo: str = "",
        model: str = "",
        options: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            repo: "owner/name:tag" on GitHub, or a local folder with a hubconf.py, starting with . or /.
            model: An entry point of its hubconf.py.
            options: The entry point's own arguments.

        Raises:
            ValueError: The repository or the model can't be loaded.
        """
        super().__init__()
        if not repo or not model:
            raise ValueError("hub needs the options repo (owner/name:tag, or a folder such as ./folder) and model")
        source = "local" if repo.startswith((".", "/")) else "github"
        try:
            trust = {"trust_repo": True} if source == "github" else {}
            self.model = torch.hub.load(repo, model, source=source, verbose=False, **trust, **(options or {}))
        except (OSError, RuntimeError, ImportError) as error:
            raise ValueError(f"torch.hub can't load {model} from {repo}: {error}") from None
        adapt(self.model, channels, classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        return self.model(x)
