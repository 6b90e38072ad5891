"""Train one network of deepseg, in a loop that can be killed and resumed.

Each batch mixes recoloured real slices of the labelled people and slices painted from label maps. The final weights
are the exponential moving average (EMA) over the training, which fluctuates less than the last weights.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spineseg.deepseg.network import UNet, UNetConfig, to_channels_last
from spineseg.deepseg.preprocess import standardise_local, standardise_patch
from spineseg.errors import InputError, ModelError
from spineseg.training.deepseg.batches import Batch, make_batch
from spineseg.training.deepseg.shards import Shard, centre_crop

SAVE_EVERY_S = 60.0
"""Time between checkpoints: a kill loses at most a minute, and writing a checkpoint takes a few milliseconds."""

MAX_VALIDATION_SLICES = 16
"""Number of evenly spaced slices of each held-out image that are scored during training: enough to see over-fitting."""


@dataclass(frozen=True)
class TrainingParams:
    """Settings of one training run."""

    steps: int = 2000  # Number of batches, the length of the schedule
    # Wall time in place of steps: the schedule then follows the clock, and the run cannot be repeated exactly
    minutes: float | None = None
    batch: int = 32
    seed: int = 1
    # Peak of the one-cycle cosine; 2e-3 is the largest that trains these sizes of network stably
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    painted_fraction: float = 0.35  # 0 to 1: share of each batch painted from labels
    ema: float = 0.998  # Memory of the running average, in steps 1 / (1 - ema)
    log_every: int = 200


@dataclass
class State:
    """Progress of a training run, stored in a checkpoint besides the weights."""

    step: int = 0
    elapsed_s: float = 0.0


def soft_dice_bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return soft Dice loss per sample plus cross-entropy; the first finds the cord, the second calibrates its edge."""
    prob = torch.sigmoid(logits) * valid
    overlap = (prob * target).sum((1, 2, 3))
    dice = (2 * overlap + 1) / (prob.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight=valid, reduction="sum")
    # the sum is divided by the number of cord pixels, so that empty surroundings do not outweigh the edge
    return (1 - dice).mean() + entropy / (target.sum() + 10 * len(target))


def adopt_weights(model: UNet, start: UNet) -> None:
    """Copy the weights of another network into `model`; weights that only `model` has are unchanged.

    Raises
    ------
    ModelError; if the networks differ in more than what 3-D adds to 2-D
    """
    try:
        missing, unknown = model.load_state_dict(start.state_dict(), strict=False)
    except RuntimeError as error:
        raise ModelError("-start: expected a network of the same stage and size") from error
    if unknown or any(not name.startswith("along.") for name in missing):
        raise ModelError("-start: expected a network of the same stage, 2-D or of the same kernel")


class Trainer:
    """A training run: networks, optimiser, random state, and how they are saved.

    Parameters
    ----------
    shards : training data
    held_out : sequence of Shard; scored during training, never trained on
    start : network to start from; a 3-D network starts from a 2-D one
    """

    def __init__(
        self,
        config: UNetConfig,
        params: TrainingParams,
        shards: list[Shard],
        held_out: Sequence[Shard] = (),
        device: str = "cpu",
        start: UNet | None = None,
    ):
        if not shards:
            raise InputError("training: expected at least one labelled image, found none; check -data and -fold")
        self.config, self.params = config, params
        self.shards, self.held_out = shards, list(held_out)
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            model = UNet(config)
        if start is not None:
            adopt_weights(model, start)
        self.model = to_channels_last(model).to(self.device)
        self.average = copy.deepcopy(self.model).eval()
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        self.state = State()

    def progress(self) -> float:
        """Return the completed fraction of the schedule, 0 to 1, by the clock if minutes are set, else by steps."""
        if self.params.minutes is not None:
            return min(1.0, self.state.elapsed_s / (60 * self.params.minutes))
        return min(1.0, self.state.step / self.params.steps)

    def step(self) -> float:
        """Train on the next batch; return its loss."""
        part = self.progress()
        warm_up = min(1.0, (self.state.step + 1) / 100)  # batch norm needs a few batches before full steps
        rate = self.params.learning_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * part)) + 1e-6
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        params = self.params
        batch = make_batch(
            self.shards,
            self.config,
            n=params.batch,
            painted_fraction=params.painted_fraction,
            seed=params.seed,
            step=self.state.step,
        )
        loss = self.learn(batch)
        self.state.step += 1
        self._update_average()
        return loss

    def learn(self, batch: Batch) -> float:
        """Update the weights with one batch; return its loss before the update."""
        self.model.train()
        loss = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def _loss(self, batch: Batch) -> Tensor:
        image, cord, valid = (x.to(self.device) for x in (batch.image, batch.cord, batch.valid))
        near = batch.near and batch.near.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):  # 1.7 times faster here, same loss
            logits = self.model(image.contiguous(memory_format=torch.channels_last), near)
        return soft_dice_bce(logits.float(), cord, valid)

    def _update_average(self) -> None:
        memory = min(self.params.ema, (1 + self.state.step) / (10 + self.state.step))
        with torch.no_grad():
            for kept, new in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(new, 1 - memory)
                else:
                    kept.copy_(new)

    def run(self, checkpoint: Path | None = None, report: Callable[[dict[str, Any]], None] | None = None) -> UNet:
        """Train until the schedule ends; return the averaged network.

        Parameters
        ----------
        checkpoint : file that is written every minute, from which `load` can continue
        report : called every `log_every` steps with step, seconds, loss and Dice per held-out image
        """
        start = time.monotonic() - self.state.elapsed_s
        saved, losses = time.monotonic(), []
        while self.progress() < 1:
            losses.append(self.step())
            self.state.elapsed_s = time.monotonic() - start
            if report and (self.state.step % self.params.log_every == 0 or self.progress() >= 1):
                report({**asdict(self.state), "loss": sum(losses) / len(losses), **self.validate()})
                losses = []
            if checkpoint and time.monotonic() - saved > SAVE_EVERY_S:
                self.save(checkpoint)
                saved = time.monotonic()
        return self.average

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the Dice coefficient of each held-out image, on centred inputs, by the averaged network."""
        result = {}
        for shard in self.held_out:
            step = max(1, len(shard.image) // MAX_VALIDATION_SLICES)
            image, cord, valid = (
                centre_crop(x[::step].float(), self.config.patch_px) for x in (shard.image, shard.cord, shard.valid)
            )
            if self.config.stage == "segment":
                image = standardise_patch(image)
            else:
                image = standardise_local(image, valid, self.config.zoom_mm)
            found = (self.average(image.to(self.device)).cpu() > 0) & (valid > 0)
            truth = cord > 0.5
            result[shard.name] = 2 * float((found & truth).sum()) / max(1.0, float(found.sum() + truth.sum()))
        return result

    def save(self, path: Path) -> None:
        """Write a checkpoint, atomically."""
        content = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "state": asdict(self.state),
            "config": asdict(self.config),
        }
        temporary = path.with_name(path.name + ".tmp")
        torch.save(content, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises
        ------
        ModelError; if it belongs to another network
        """
        content = torch.load(path, map_location=self.device, weights_only=True)
        if content["config"] != asdict(self.config):
            raise ModelError(f"{path}: checkpoint of another network; choose another -o or leave -resume out")
        self.model.load_state_dict(content["model"])
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.state = State(**content["state"])
