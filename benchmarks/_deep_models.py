"""Deep multi-task models as their papers have them, small enough for one core: MMoE, PLE, ESMM (in PyTorch).

PyTorch is no dependency of the library: ``pip install torch``.

References
----------
MMoE: Ma et al., 2018, doi 10.1145/3219819.3220007. PLE: Tang et al., 2020, doi 10.1145/3383313.3412236.
ESMM: Ma et al., 2018, doi 10.1145/3209978.3210104.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import QuantileTransformer
from torch import Tensor, nn
from torch.nn import functional


class Inputs:
    """What a network reads: codes of the categories (0: missing or unseen), numbers as normal scores, 0 where missing.

    Parameters
    ----------
    categorical, numeric : list of str
        Columns.
    """

    def __init__(self, categorical: Sequence[str], numeric: Sequence[str]) -> None:
        self.categorical, self.numeric = list(categorical), list(numeric)

    def fit(self, X: pd.DataFrame) -> Inputs:
        """Learn categories and quantiles."""
        self.levels = {name: pd.Index(X[name].dropna().unique()) for name in self.categorical}
        numbers = X[self.numeric].astype(np.float64)
        self.with_gaps = [name for name in self.numeric if numbers[name].isna().any()]
        self.quantiles = QuantileTransformer(output_distribution="normal", random_state=0).fit(numbers)
        return self

    def transform(self, X: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Codes, (n, categories) int64, and numbers, (n, numbers + indicators) float32."""
        codes = [self.levels[name].get_indexer(X[name]) + 1 for name in self.categorical]
        numbers = X[self.numeric].astype(np.float64)
        scores = np.nan_to_num(self.quantiles.transform(numbers)).clip(-4, 4)
        both = np.hstack([scores, numbers[self.with_gaps].isna()]).astype(np.float32)
        return torch.from_numpy(np.column_stack(codes).astype(np.int64)), torch.from_numpy(both)

    @property
    def sizes(self) -> list[int]:
        """Rows of each embedding table."""
        return [len(levels) + 1 for levels in self.levels.values()]

    @property
    def n_numbers(self) -> int:
        """Numbers and indicators of missing ones."""
        return len(self.numeric) + len(self.with_gaps)


def layers(*widths: int, dropout: float) -> nn.Sequential:
    """Dense layers, each with a rectifier, and dropout at the end."""
    steps: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        steps += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*steps, nn.Dropout(dropout))


class Network(nn.Module):
    """Embeddings and numbers → what ``body`` makes of them for each task → a tower per task → an output per task.

    An output is a logit (binary), a log-mean (count) or a mean (regression).
    """

    n_embedding = 16

    def __init__(self, sizes: Sequence[int], n_numbers: int, n_tasks: int, dropout: float) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, self.n_embedding) for size in sizes)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.01)
        width = self.make_body(len(sizes) * self.n_embedding + n_numbers, n_tasks, dropout)
        self.towers = nn.ModuleList(
            nn.Sequential(layers(width, 32, dropout=dropout), nn.Linear(32, 1)) for _ in range(n_tasks)
        )

    def make_body(self, n_inputs: int, n_tasks: int, dropout: float) -> int:
        """Make the layers between the inputs and the towers; the width of what a tower reads."""
        raise NotImplementedError

    def body(self, x: Tensor) -> list[Tensor]:
        """What each tower reads."""
        raise NotImplementedError

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        """Outputs, (n, n_tasks)."""
        x = torch.cat([*(table(codes[:, j]) for j, table in enumerate(self.tables)), numbers], dim=1)
        return torch.cat([tower(h) for tower, h in zip(self.towers, self.body(x), strict=True)], dim=1)


class MMoE(Network):
    """Six experts; each task mixes them by a gate of its own."""

    n_experts = 6

    def make_body(self, n_inputs: int, n_tasks: int, dropout: float) -> int:
        """Experts and gates."""
        self.experts = nn.ModuleList(layers(n_inputs, 128, 64, dropout=dropout) for _ in range(self.n_experts))
        self.gates = nn.ModuleList(nn.Linear(n_inputs, self.n_experts) for _ in range(n_tasks))
        return 64

    def body(self, x: Tensor) -> list[Tensor]:
        """The experts' mean under each gate."""
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        return [mixed(gate(x), experts) for gate in self.gates]


class PLE(Network):
    """Two levels, each with two experts for all tasks and one for each: shared experts can't be pulled by one task."""

    n_shared, n_own = 2, 1

    def make_body(self, n_inputs: int, n_tasks: int, dropout: float) -> int:
        """Experts and gates of both levels; the first also has a gate for what the second's shared experts read."""
        self.levels = nn.ModuleList()
        for n_in, n_out, n_gates in ((n_inputs, 128, n_tasks + 1), (128, 64, n_tasks)):
            level = nn.Module()
            level.own = nn.ModuleList(
                nn.ModuleList(layers(n_in, n_out, dropout=dropout) for _ in range(self.n_own)) for _ in range(n_tasks)
            )
            level.shared = nn.ModuleList(layers(n_in, n_out, dropout=dropout) for _ in range(self.n_shared))
            read = [self.n_own + self.n_shared] * n_tasks + [n_tasks * self.n_own + self.n_shared]
            level.gates = nn.ModuleList(nn.Linear(n_in, n) for n in read[:n_gates])
            self.levels.append(level)
        return 64

    def body(self, x: Tensor) -> list[Tensor]:
        """What the second level's gates let through."""
        states = [x] * (len(self.towers) + 1)  # of each task, and of all
        for level in self.levels:
            own = [[expert(h) for expert in experts] for experts, h in zip(level.own, states[:-1], strict=True)]
            shared = [expert(states[-1]) for expert in level.shared]
            read = [*(experts + shared for experts in own), [e for experts in own for e in experts] + shared]
            states = [
                mixed(gate(h), torch.stack(seen, dim=1))
                for gate, h, seen in zip(level.gates, states, read, strict=False)
            ]
        return states


class ESMM(Network):
    """Shared embeddings, a tower per task; a child's output is that *given its parent*, learnt on all rows."""

    def make_body(self, n_inputs: int, n_tasks: int, dropout: float) -> int:
        """Layers of each task."""
        self.own = nn.ModuleList(layers(n_inputs, 128, 64, dropout=dropout) for _ in range(n_tasks))
        return 64

    def body(self, x: Tensor) -> list[Tensor]:
        """The layers' outputs."""
        return [own(x) for own in self.own]


def mixed(gate: Tensor, experts: Tensor) -> Tensor:
    """Mean of the experts, weighted by the softmax of the gate: (n, experts) and (n, experts, width) → (n, width)."""
    return (gate.softmax(dim=1).unsqueeze(2) * experts).sum(dim=1)


MODELS: dict[str, type[Network]] = {"MMoE": MMoE, "PLE": PLE, "ESMM": ESMM}


@dataclass(frozen=True)
class Settings:
    """Settings of a network and of its training."""

    learning_rate: float = 1e-3
    dropout: float = 0.1
    equal_tasks: bool = True
    batch_size: int = 2048
    max_epochs: int = 15
    patience: int = 2
    weight_decay: float = 1e-6


class DeepModel:
    """A network and its training: Adam on the mean of the tasks' losses (``equal_tasks``: each over that of its prior).

    Every task keeps the epoch at which its own loss on the validation rows was least: kinder than one epoch for all.

    Parameters
    ----------
    name : {"MMoE", "PLE", "ESMM"}
    kinds : dict task -> kind
        In ESMM the first is the parent of all others.
    inputs : Inputs
        Fitted.
    settings : Settings
    seed : int
    """

    def __init__(self, name: str, kinds: Mapping[str, str], inputs: Inputs, settings: Settings, seed: int) -> None:
        self.name, self.kinds, self.inputs, self.settings, self.seed = name, dict(kinds), inputs, settings, seed

    def fit(
        self,
        X: tuple[Tensor, Tensor],
        Y: Tensor,
        valid: tuple[tuple[Tensor, Tensor], Tensor] | None = None,
        epochs: Mapping[str, int] | None = None,
    ) -> DeepModel:
        """Train and stop by ``valid``, or for the ``epochs`` that an earlier fit has found for each task."""
        torch.manual_seed(self.seed)
        s = self.settings
        self.prior = Y.mean(dim=0)
        self.scale = torch.where(torch.tensor([k == "regression" for k in self.kinds.values()]), Y.std(dim=0), 1.0)
        self.unit = self.losses(self.prior.expand_as(Y), Y).mean(dim=0)
        self.network = MODELS[self.name](self.inputs.sizes, self.inputs.n_numbers, len(self.kinds), s.dropout)
        self.start_at_prior()
        weights = self.unit if s.equal_tasks else self.scale.square()
        steps = torch.optim.Adam(self.network.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
        self.best = dict.fromkeys(self.kinds, float("inf"))
        self.epochs, self.states = dict.fromkeys(self.kinds, 0), {}
        for epoch in range(1, (s.max_epochs if epochs is None else max(epochs.values())) + 1):
            self.network.train()
            for rows in torch.randperm(len(Y)).split(s.batch_size):
                steps.zero_grad()
                means = self.means(self.network(X[0][rows], X[1][rows]))
                (self.losses(means, Y[rows]).mean(dim=0) / weights).mean().backward()
                steps.step()
            if epochs is not None:
                self.keep([name for name, last in epochs.items() if last == epoch], epoch)
            elif valid is not None and not self.improved(valid, epoch):
                break
        return self

    def start_at_prior(self) -> None:
        """Set the last biases so that an untrained network predicts each task's mean."""
        with torch.no_grad():
            for tower, kind, prior, scale in zip(
                self.network.towers, self.kinds.values(), self.prior, self.scale, strict=True
            ):
                tower[-1].weight.mul_(0.1)
                own = prior if self.name != "ESMM" or tower is self.network.towers[0] else prior / self.prior[0]
                start = {"binary": torch.logit(own), "count": own.log(), "regression": own / scale}[kind]
                tower[-1].bias.fill_(float(start))

    def means(self, outputs: Tensor) -> Tensor:
        """Means of the tasks from the network's outputs; in ESMM those of all rows, parent times child."""
        links = {"binary": torch.sigmoid, "count": lambda f: f.clamp(max=6).exp(), "regression": lambda f: f}
        columns = [links[kind](outputs[:, j]) for j, kind in enumerate(self.kinds.values())]
        if self.name == "ESMM":
            columns = [columns[0], *(columns[0] * child for child in columns[1:])]
        return torch.stack(columns, dim=1) * self.scale

    def losses(self, means: Tensor, Y: Tensor) -> Tensor:
        """Log-loss, Poisson deviance or squared error of every row and task."""
        columns = []
        for j, kind in enumerate(self.kinds.values()):
            mean, y = means[:, j], Y[:, j]
            if kind == "binary":
                columns.append(functional.binary_cross_entropy(mean.clamp(1e-7, 1 - 1e-7), y, reduction="none"))
            elif kind == "count":
                mean = mean.clamp(min=1e-7)
                columns.append(2 * (torch.xlogy(y, y) - torch.xlogy(y, mean) - y + mean))
            else:
                columns.append((mean - y).square())
        return torch.stack(columns, dim=1)

    def improved(self, valid: tuple[tuple[Tensor, Tensor], Tensor], epoch: int) -> bool:
        """Keep the tasks that this epoch has made better; whether any was within the patience."""
        X, Y = valid
        found = self.losses(self.forward(self.network, X), Y).mean(dim=0).tolist()
        better = [name for name, loss in zip(self.kinds, found, strict=True) if loss < self.best[name]]
        self.best |= {name: loss for name, loss in zip(self.kinds, found, strict=True) if name in better}
        self.keep(better, epoch)
        return epoch - max(self.epochs.values()) < self.settings.patience

    def keep(self, names: Sequence[str], epoch: int) -> None:
        """Remember the network as that of these tasks."""
        if names:
            state = copy.deepcopy(self.network.state_dict())
            self.states |= dict.fromkeys(names, state)
            self.epochs |= dict.fromkeys(names, epoch)

    def forward(self, network: Network, X: tuple[Tensor, Tensor]) -> Tensor:
        """Means of all rows, in batches."""
        network.eval()
        with torch.no_grad():
            return torch.cat([self.means(network(*batch)) for batch in zip(*(x.split(8192) for x in X), strict=True)])

    def predict(self, X: tuple[Tensor, Tensor]) -> dict[str, np.ndarray]:
        """Mean of every task, by its own epoch."""
        scores, network = {}, copy.deepcopy(self.network)
        for j, name in enumerate(self.kinds):
            network.load_state_dict(self.states[name])
            scores[name] = self.forward(network, X)[:, j].numpy().astype(np.float64)
        return scores

    @property
    def validation(self) -> float:
        """Mean over the tasks of the validation loss divided by the loss of the prior on the training rows."""
        return float(
            np.mean([self.best[name] / unit for name, unit in zip(self.kinds, self.unit.tolist(), strict=True)])
        )
