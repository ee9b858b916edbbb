"""Train the embedded tiny CLIP from scratch on scenes composed on the fly.

    python -m cci_captum.benchmarks.tiny_clip.train --out runs/tiny
    python -m cci_captum.benchmarks.tiny_clip.train --variant shortcut --out runs/tiny-shortcut

Runs on a GPU where there is one. A run that was stopped, at any moment, goes on from its last
checkpoint when the same command is given again, and ends with the same weights.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import Normalize
from tqdm import tqdm

from cci_captum.tiny import CLASS_NAMES, PLANTED_PAIRS
from cci_captum.tiny.loader import build

from ..scenes import SceneGenerator
from ..scenes.captions import FRAMES, Vocabulary
from .export import export, resize_positions
from .machine import has_fast_bf16, keep_memory, precision

VARIANTS = ("plain", "shortcut")

normalize = Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)


@dataclass(frozen=True)
class TrainConfig:
    """What decides the weights that a run ends with."""

    variant: str = "plain"
    steps: int = 3200
    batch_size: int = 128
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 150
    image_sizes: tuple[int, int] = (64, 96)
    """Picture size in pixels at first and at the end."""
    first_share: float = 0.9
    """Share of the steps done at the first size."""
    bf16: bool = False

    def image_size(self, step: int) -> int:
        """Return the picture size in pixels of a step."""
        return self.image_sizes[step >= self.first_share * self.steps]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then half a cosine down to 1 %."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def contrastive_loss(logits: Tensor, caption_of: Tensor) -> Tensor:
    """CLIP's symmetric contrastive loss, with every image of a caption as its positive.

    Args:
        logits: (B, M), images against the distinct captions of the batch.
        caption_of: (B,) int64, the column of each image's caption.

    Returns:
        A scalar. Without repeated captions it is the loss of Radford et al., "Learning
        Transferable Visual Models From Natural Language Supervision" (2021), figure 3.
    """
    to_text = F.cross_entropy(logits, caption_of)
    positive = F.one_hot(caption_of, logits.shape[1]).T.to(logits.dtype)
    positive = positive / positive.sum(dim=1, keepdim=True)
    to_image = F.cross_entropy(logits.T, positive)
    return (to_text + to_image) / 2


class Trainer:
    """One training run, with its state on disk.

    Args:
        config: What to train.
        folder: Where checkpoints go; a run found there is continued.
        device: Where to compute; None is the GPU if there is one.
        save_every: Steps between checkpoints, so what a stop loses at most.

    Raises:
        ValueError: If the folder holds a run that differs in more than its number of steps.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        device: str | None = None,
        save_every: int = 100,
    ) -> None:
        if config.variant not in VARIANTS:
            raise ValueError(f"variant: expected one of {VARIANTS}, got {config.variant!r}")
        self.config = config
        self.folder = folder
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.save_every = save_every
        self.vocabulary = Vocabulary()
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = self._read()
        torch.manual_seed(config.seed)
        self._build(_image_size(stored["model"]) if stored else config.image_size(0))
        if stored:
            self.model.load_state_dict(stored["model"])
            self.optimizer.load_state_dict(stored["optimizer"])
            self.step, self.history = stored["step"], stored["history"]

    @property
    def checkpoint(self) -> Path:
        """The file with the run's state."""
        return self.folder / "checkpoint.pt"

    def _read(self) -> dict[str, Any] | None:
        if not self.checkpoint.exists():
            return None
        stored: dict[str, Any] = torch.load(
            self.checkpoint, map_location=self.device, weights_only=True
        )
        # Another number of steps may be given: the learning rate follows it from here on.
        if {**stored["config"], "steps": self.config.steps} != asdict(self.config):
            raise ValueError(
                f"config: expected that of the run in {self.folder}, {stored['config']}, got "
                f"{asdict(self.config)}; give the same options or another folder"
            )
        return stored

    def _build(self, size: int) -> None:
        self.model = build(size, len(self.vocabulary)).to(self.device)
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
            betas=(0.9, 0.98),
        )
        planted = PLANTED_PAIRS if self.config.variant == "shortcut" else ()
        self.generator = SceneGenerator(size, "train", self.config.seed, planted=planted)

    def _enlarge(self, size: int) -> None:
        """Go on with larger pictures: more positions, everything else as it was."""
        state, optimizer = self.model.state_dict(), self.optimizer.state_dict()
        key = "visual.positional_embedding"
        place = [name for name, p in self.model.named_parameters() if p.ndim >= 2].index(key)
        self._build(size)
        grid = self.model.visual.grid_size[0]
        state[key] = resize_positions(state[key], grid)
        for moment in ("exp_avg", "exp_avg_sq"):
            enlarged = resize_positions(optimizer["state"][place][moment], grid)
            optimizer["state"][place][moment] = (
                enlarged.clamp(min=0) if "sq" in moment else enlarged
            )
        self.model.load_state_dict(state)
        self.optimizer.load_state_dict(optimizer)

    def save(self) -> None:
        """Write the checkpoint; it is there whole or not at all."""
        part = self.checkpoint.with_suffix(".part")
        state = {
            "config": asdict(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images (B, 3, H, W), distinct captions (M, 16), each image's caption (B,)."""
        count = self.config.batch_size
        scenes = self.generator.scenes(range(step * count, (step + 1) * count))
        frame = FRAMES[np.random.default_rng((self.config.seed, step)).integers(len(FRAMES))]
        distinct = sorted({scene.caption for scene in scenes})
        caption_of = torch.tensor([distinct.index(scene.caption) for scene in scenes])
        tokens = self.vocabulary.encode([frame.format(text) for text in distinct])
        images = torch.stack([scene.image for scene in scenes])
        return images.to(self.device), tokens.to(self.device), caption_of.to(self.device)

    def train_step(self) -> float:
        """Do one step and return its loss."""
        size = self.config.image_size(self.step)
        if size != self.generator.size:
            self._enlarge(size)
        images, tokens, caption_of = self.batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        self.model.train()
        with precision(self.device, self.config.bf16):
            image_features = self.model.encode_image(normalize(images), normalize=True)
            text_features = self.model.encode_text(tokens, normalize=True)
        scale = self.model.logit_scale.exp()
        logits = scale * image_features.float() @ text_features.float().T
        loss = contrastive_loss(logits, caption_of)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def accuracy(self, artwork: str = "train", count: int = 330) -> float:
        """Return zero-shot accuracy on fresh one-object scenes of the present size."""
        names = [CLASS_NAMES[i % len(CLASS_NAMES)] for i in range(count)]
        generator = SceneGenerator(self.generator.size, artwork, seed=self.config.seed + 1)
        scenes = generator.scenes(range(count), class_name=names, kind="one")
        texts = self.vocabulary.encode([f"a photo of a {name}" for name in CLASS_NAMES])
        truth = torch.tensor([scene.classes[0] for scene in scenes])
        images = torch.stack([scene.image for scene in scenes])
        self.model.eval()
        classes = self.model.encode_text(texts.to(self.device), normalize=True)
        predicted = [
            (self.model.encode_image(normalize(part.to(self.device))) @ classes.T).argmax(dim=1)
            for part in images.split(64)
        ]
        return float((torch.cat(predicted).cpu() == truth).float().mean())

    def run(self, until: int | None = None, *, progress: bool = True) -> None:
        """Train to the end, or until a step."""
        end = self.config.steps if until is None else min(until, self.config.steps)
        bar = tqdm(total=end, initial=self.step, unit="step", mininterval=5, disable=not progress)
        losses: list[float] = []
        with bar:
            while self.step < end:
                losses.append(self.train_step())
                bar.update()
                if self.step % self.save_every == 0 or self.step == end:
                    record = {
                        "step": float(self.step),
                        "loss": float(np.mean(losses)),
                        "train": self.accuracy("train"),
                        "held_out": self.accuracy("held-out"),
                    }
                    losses = []
                    self.history.append(record)
                    bar.write(" ".join(f"{key} {value:.4g}" for key, value in record.items()))
                    sys.stdout.flush()
                    self.save()


def _image_size(state: dict[str, Tensor]) -> int:
    """Return the picture size in pixels that a model's positional embedding is for."""
    patches = len(state["visual.positional_embedding"]) - 1
    return math.isqrt(patches) * state["visual.conv1.weight"].shape[-1]


def main(arguments: list[str] | None = None) -> None:
    """Train from the command line."""
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variant", choices=VARIANTS, default="plain")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                        help="auto: bf16 on GPUs and on CPUs with AMX")  # fmt: skip
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--until", type=int, default=None, help="stop after this step")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_memory()
    config = TrainConfig(
        variant=options.variant,
        steps=options.steps,
        batch_size=options.batch_size,
        seed=options.seed,
        bf16=has_fast_bf16() if options.precision == "auto" else options.precision == "bf16",
    )
    trainer = Trainer(config, options.out, device=options.device, save_every=options.save_every)
    trainer.run(options.until)
    if trainer.step < config.steps:
        return
    name = {"plain": "tiny", "shortcut": "tiny-shortcut"}[config.variant]
    target = options.out / f"{name}.safetensors"
    export(trainer.model.state_dict(), trainer.vocabulary.token_ids, target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
