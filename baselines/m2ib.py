"""M2IB: what an information bottleneck inside the image encoder cannot do without.

Wang, Rudner, Wilson: "Visual Explanations of Image-Text Representations via Multi-Modal
Information Bottleneck Attribution", arXiv 2312.17174, after Schulz et al., arXiv 2001.00396.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum._checks import check_positive_int
from cci_captum.attribution.finite import check_finite
from cci_captum.vision_towers import BlockAttention, VisionTower

from ._text import TextAttribution

_INITIAL_ALPHA = 5.0  # lambda = sigmoid(5) = 0.993: nearly everything passes


class Bottleneck(NamedTuple):
    """A bottleneck fitted to each of B images.

    Attributes:
        patch_map: (B, h, w) nats that pass at each patch, summed over channels.
        losses: (B, steps) the objective before each step.
    """

    patch_map: Tensor
    losses: Tensor


class M2IB(TextAttribution):
    """The information that must pass through a layer for the image to keep matching its text.

    Noise replaces part of every token h of one layer, z = lambda h + (1 - lambda) e with e from
    N(0, I) and lambda = sigmoid(alpha), one alpha a token and channel. Adam maximises
    cos(image feature, t) - beta * KL(N(lambda h, (1 - lambda)^2) || N(0, 1)), the cosine averaged
    over samples of e and the divergence over tokens and channels, for each image on its own. The
    map is the divergence of each patch, summed over its channels. One forward pass of the
    image encoder, then steps * n_samples passes, forward and backward, through the blocks after
    the layer alone.

    The released code reads the map before the last step, here it is read after it. Every image
    sees the same noise, which depends on the seed alone, so that results do not depend on what
    else is in the batch. Through these blocks go at most `internal_batch_size` copies at a time,
    or n_samples if that is more.

    Args:
        forward_func: An `ImageTextSimilarity` or a `ZeroShotClassifier`; of a `LogProbability` or
            `Margin` the classifier inside is explained, with the same map.
        vision_tower: See `PatchAttribution`.
        layer: Index of the block whose output goes through the bottleneck, before the last
            block. None is the third from the end (9 of 0 to 11, as the authors set it), or the
            first of a shallower model.
        beta: Weight of the divergence.
        steps: Steps of Adam.
        lr: Learning rate of Adam.
        n_samples: Samples of the noise a step.
        seed: Of the noise.

    Raises:
        TypeError: If forward_func is of another kind; see also `PatchAttribution`.
        ValueError: If an option is out of range; see also `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import M2IB
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = M2IB(classifier, steps=2)
        >>> method.fit(torch.zeros(1, 3, 96, 96), target=1).losses.shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        layer: int | None = None,
        beta: float = 0.1,
        steps: int = 10,
        lr: float = 1.0,
        n_samples: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        depth = self.vision_tower.num_blocks
        if depth < 2:
            raise ValueError(
                "vision_tower: expected at least two blocks, one before the bottleneck and one "
                f"after, got {depth}"
            )
        if layer is None:
            layer = max(0, depth - 3)
        self.vision_tower.check_block(layer, "layer")
        if layer % depth == depth - 1:
            raise ValueError(
                f"layer: expected a block before the last (0 to {depth - 2}), whose output other "
                f"blocks still read, got {layer}"
            )
        check_positive_int("steps", steps)
        check_positive_int("n_samples", n_samples)
        self.layer = layer % depth
        self.beta = beta
        self.steps = steps
        self.lr = lr
        self.n_samples = n_samples
        self.seed = seed

    def fit(
        self, inputs: Tensor, target: Any = None, additional_forward_args: Any = None
    ) -> Bottleneck:
        """Fit a bottleneck to each image.

        Args:
            inputs: See `attribute`.
            target: See `attribute`.
            additional_forward_args: See `attribute`.

        Returns:
            The `Bottleneck`: maps and the course of the objective.

        Raises:
            TypeError: See `attribute`.
            ValueError: See `attribute`.
        """
        with self._explaining(inputs, target, additional_forward_args, None, True) as given:
            bottleneck = self._fit(given.images, given.target, given.args)
        check_finite(bottleneck.patch_map, "maps", self.get_name())
        return bottleneck

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        return self._fit(images, target, args).patch_map

    def _fit(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Bottleneck:
        text = self._text_features(target, args, len(images))
        after = range(self.layer + 1, self.vision_tower.num_blocks)
        with self.vision_tower.record_attention(after) as recording:
            encoded = self.clip.encode_images(images)
        self._read_out(recording.last, encoded)  # what is optimised is to be what is compared
        tokens = recording.blocks[0].tokens  # (B, T, D), the output of the layer
        # As many images at a time as have, with their copies, as many rows as the batch.
        some = max(1, len(images) // self.n_samples)
        with self.vision_tower.watch_gradients():
            parts = [
                self._fit_tokens(*part, recording.blocks)
                for part in zip(tokens.split(some), text.split(some), strict=True)
            ]
        nats, losses = (torch.cat(values) for values in zip(*parts, strict=True))
        return Bottleneck(nats.unflatten(1, recording.grid), losses)

    def _fit_tokens(
        self, tokens: Tensor, text: Tensor, after: list[BlockAttention]
    ) -> tuple[Tensor, Tensor]:
        """Nats of each patch, (b, N), and losses, (b, steps), from a layer's tokens.

        `after` are the blocks that follow the layer.
        """
        wide = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        alpha = torch.full_like(wide, _INITIAL_ALPHA).requires_grad_()
        optimizer = torch.optim.Adam([alpha], lr=self.lr)
        noise = torch.Generator().manual_seed(self.seed)
        losses = []
        for _ in range(self.steps):
            sample = torch.randn(self.n_samples, *wide.shape[1:], generator=noise).to(wide)
            with torch.enable_grad():
                passed = alpha.sigmoid()
                bottled = (passed * wide)[:, None] + (1 - passed)[:, None] * sample
                copies = bottled.flatten(0, 1).to(tokens.dtype)
                for block in after:
                    copies = block.run(copies)
                features = self.vision_tower.read_out(copies)
                cosines = F.cosine_similarity(
                    features.to(text.dtype).unflatten(0, (len(tokens), -1)), text[:, None], dim=-1
                )
                kept = _divergence(alpha, wide).mean(dim=(1, 2))
                loss = self.beta * kept - cosines.mean(dim=1)
                (alpha.grad,) = torch.autograd.grad(loss.sum(), [alpha])
            optimizer.step()
            losses.append(loss.detach())
        nats = self.vision_tower.patches(_divergence(alpha.detach(), wide)).sum(dim=-1)
        return nats, torch.stack(losses, dim=1)


def _divergence(alpha: Tensor, tokens: Tensor) -> Tensor:
    """KL(N(lambda h, (1 - lambda)^2) || N(0, 1)) of every token and channel, in nats."""
    log_std = F.logsigmoid(-alpha)  # log(1 - lambda), finite where 1 - lambda is not above 0
    return ((alpha.sigmoid() * tokens) ** 2 + (2 * log_std).exp() - 1) / 2 - log_std
