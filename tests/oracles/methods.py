"""The baselines in plain float64 on every family of towers, one function a method.

On the towers of families.py: one image (3, H, W) and one head at a time; gradients are autograd's
through these plain tensors. Every method gives its map as (N,) values in raster order. ``score``
maps an image feature (E,), not normalised, to the scalar explained, and ``text`` is a unit vector
(E,).

What is read out, where the papers know a class token only:

* class token: token 0, also in a classifier that puts the patches' mean beside it;
* average, maximum: the mean of the patches' rows, queries and keys (and the prefix tokens' where
  the model averages them too);
* attention pool: the pool is the last attention. Its learned query is read, or the mean of its
  queries but the first where CoCa averages them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch as patched

import torch
from torch import Tensor

from . import families
from .families import project_out, rotate
from .plain import Weights, layer_norm, linear, softmax, to_unit

Score = Callable[[Tensor], Tensor]


# The forward pass, with everything in it kept.


@dataclass(frozen=True)
class Attention:
    """Q queries over L tokens of width D, heads side by side."""

    w: Weights
    eps: float
    q: Tensor  # (Q, D) as they enter the dot product: normed, rotated
    k: Tensor  # (L, D) likewise
    v: Tensor  # (L, D)
    probabilities: list[Tensor]  # (Q, L) of each head
    context: Tensor  # (Q, D) weighted sums of the values

    def project_out(self, context: Tensor) -> Tensor:
        """The output projection, and what some blocks put before it."""
        return project_out(context, self.w, self.eps)


@dataclass(frozen=True)
class BlockPass:
    """What one block saw and made: tokens (P + N, D)."""

    block: families.Block
    x: Tensor
    attention: Attention
    output: Tensor


@dataclass(frozen=True)
class Pass:
    """One image's way through the encoder, a graph for gradients."""

    tower: families.Tower
    readout: str
    prefix: int
    blocks: list[BlockPass]
    pool: Attention | None
    averaged_from: int | None  # the first row that is averaged; None where row 0 is read
    embedding: Tensor  # (E,), not normalised

    @property
    def n_patches(self) -> int:
        return len(self.blocks[-1].x) - self.prefix

    @property
    def last(self) -> Attention:
        """The last attention: the pool's, or the last block's."""
        return self.pool or self.blocks[-1].attention

    def read(self, rows: Tensor) -> Tensor:
        """Of one row a query of the last attention (Q, ...), what is read out (...)."""
        return rows[0] if self.averaged_from is None else rows[self.averaged_from :].mean(0)

    def of_patches(self, tokens: Tensor) -> Tensor:
        """The patches' part (N, ...) of the tokens that some attention sees (L, ...)."""
        return tokens[len(tokens) - self.n_patches :]


def weighted_values(probabilities: list[Tensor], v: Tensor) -> Tensor:
    """What attention makes of the values (L, D), every head of its own part of the width."""
    size = v.shape[1] // len(probabilities)
    parts = [p @ v[:, h * size : (h + 1) * size] for h, p in enumerate(probabilities)]
    return torch.cat(parts, 1)


def attend(
    q: list[Tensor],
    k: list[Tensor],
    v: list[Tensor],
    w: Weights,
    eps: float,
    single_head: bool,
    change: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> Attention:
    """Attention of heads (L, d), or of one head over the full width; ``change`` of its logits."""
    if single_head:
        q, k, v = [torch.cat(q, 1)], [torch.cat(k, 1)], [torch.cat(v, 1)]
    odds = [
        softmax(change(qh @ kh.T / math.sqrt(qh.shape[1]))) for qh, kh in zip(q, k, strict=True)
    ]
    context = weighted_values(odds, torch.cat(v, 1))
    return Attention(w, eps, torch.cat(q, 1), torch.cat(k, 1), torch.cat(v, 1), odds, context)


def run_block(
    block: families.Block, x: Tensor, prefix: int, angles: Tensor | None, single_head: bool
) -> BlockPass:
    """A block; norms and rotations of queries and keys stay those of the model's heads."""
    w, eps = block.w, block.eps
    normed = x if block.post_norm else layer_norm(x, w, "norm1", eps)
    size = len(w["q.weight"]) // block.heads
    heads = {}
    for name in "qkv":
        parts = linear(normed, w, name).split(size, 1)
        # Neighbouring heads may share their keys and values.
        parts = [parts[h * len(parts) // block.heads] for h in range(block.heads)]
        if name != "v":
            parts = [layer_norm(part, w, f"attn.{name}_norm", eps) for part in parts]
        if name != "v" and angles is not None:
            turned = [
                rotate(part[prefix:], angle, block.half)
                for part, angle in zip(parts, angles, strict=True)
            ]
            parts = [torch.cat([a[:prefix], b]) for a, b in zip(parts, turned, strict=True)]
        heads[name] = parts
    attention = attend(heads["q"], heads["k"], heads["v"], w, eps, single_head)
    output = add_mlp(add_attention(x, attention, attention.context, block), block)
    return BlockPass(block, x, attention, output)


def add_attention(
    x: Tensor, attention: Attention, context: Tensor, block: families.Block
) -> Tensor:
    """The residual stream after the attention of a block, whose input was x."""
    y = attention.project_out(context)
    if block.post_norm:
        return x + layer_norm(y, block.w, "norm1", block.eps)
    return x + layer_norm(y, block.w, "outer", block.eps) * block.w.get("scale1", 1.0)


def add_mlp(x: Tensor, block: families.Block) -> Tensor:
    if block.post_norm:
        return x + layer_norm(block.mlp(x), block.w, "norm2", block.eps)
    return x + block.mlp(layer_norm(x, block.w, "norm2", block.eps)) * block.w.get("scale2", 1.0)


def run(model: Any, readout: str, image: Tensor, single_head: bool = False) -> Pass:
    """The forward pass of one image; ``single_head``: with one head in the last attention."""
    tower = families.plain_tower(model)
    prefix, patches = tower.embed(image.detach().double().cpu())
    x = torch.cat([prefix, patches]).requires_grad_()
    return run_from(
        x, 0, tower, readout, len(prefix), _averaged_from(model, readout, len(prefix)), single_head
    )


def _averaged_from(model: Any, readout: str, prefix: int) -> int | None:
    """The first of the last attention's rows whose mean is read; None where row 0 is read."""
    if readout == "attention pool":  # CoCa's newer pools have one query only
        visual = getattr(model, "visual", None)
        several = getattr(visual, "attn_pool_contrastive", None) is None
        return 1 if several and getattr(visual, "pool_type", "tok") == "avg" else None
    if readout.startswith("class token"):
        return None
    return 0 if getattr(model, "pool_include_prefix", False) else prefix


def run_from(
    x: Tensor,
    first: int,
    tower: families.Tower,
    readout: str,
    prefix: int,
    averaged_from: int | None = None,
    single_head: bool = False,
) -> Pass:
    """The forward pass from the tokens (P + N, D) that enter block ``first``, or the read-out."""
    blocks = []
    for i in range(first, len(tower.blocks)):
        angles = None if tower.angles is None else tower.angles[i]
        last = i == len(tower.blocks) - 1 and readout != "attention pool"
        blocks.append(run_block(tower.blocks[i], x, prefix, angles, single_head and last))
        x = blocks[-1].output
    pools: list[Attention] = []

    def pool_kept(
        query: Tensor, tokens: Tensor, w: Weights, heads: int, eps: float, m: None
    ) -> Tensor:
        size = len(w["q.weight"]) // heads
        q, k, v = (
            list(linear(y, w, name).split(size, 1))
            for name, y in (("q", query), ("k", tokens), ("v", tokens))
        )
        # timm's pool has a norm of this name too, but after its attention.
        w = {name: value for name, value in w.items() if not name.startswith("inner.")}
        pools.append(attend(q, k, v, w, eps, single_head))
        return pools[-1].project_out(pools[-1].context)

    with patched.object(families, "_attention_pool", pool_kept):
        embedding = tower.read_out(x, prefix)
    assert len(pools) == (readout == "attention pool")
    pool = pools[0] if pools else None
    return Pass(tower, readout, prefix, blocks, pool, averaged_from, embedding)


def _relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.0)


def _mean(heads: list[Tensor]) -> Tensor:
    return torch.stack(heads).mean(0)


def _gradient(score: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(score, at, retain_graph=True)[0]


def _key_cosines(forward: Pass, asking: Tensor) -> Tensor:
    """cos(out_proj(asking), out_proj(k_i)) of all patches: (N,)."""
    last = forward.last
    keys = last.project_out(forward.of_patches(last.k))
    return to_unit(keys) @ to_unit(last.project_out(asking))


# The methods. Where one head is wanted in the last attention, ``forward`` is the pass that has it.


def grad_eclip(forward: Pass, score: Score, *, key_similarity: bool = True) -> Tensor:
    """Grad-ECLIP, arXiv 2502.18816: ReLU(sum_c g_c v_ic lambda_i).

    g is the gradient at the last attention, over all queries.
    """
    last = forward.last
    g = _gradient(score(forward.embedding), last.context).sum(0)
    weight = torch.ones(forward.n_patches, dtype=torch.float64)
    if key_similarity:
        cosines = _key_cosines(forward, forward.read(last.q))
        if cosines.max() > cosines.min():
            weight = (cosines - cosines.min()) / (cosines.max() - cosines.min())
    return _relu((g * forward.of_patches(last.v)).sum(1) * weight)


def maskclip(forward: Pass, text: Tensor, *, key_similarity: bool = True) -> Tensor:
    """MaskCLIP as Grad-ECLIP's authors compare it: every token attends to itself alone.

    In the last block.
    """
    last = forward.blocks[-1]
    tokens = add_attention(last.x, last.attention, last.attention.v, last.block)
    assert forward.tower.project is not None
    features = forward.tower.project(add_mlp(tokens, last.block)[forward.prefix :])
    values = to_unit(features) @ text
    if key_similarity:
        values = values * _key_cosines(forward, forward.read(forward.last.k))
    return values


def grad_cam(
    forward: Pass,
    score: Score,
    *,
    layer: int | str | None = None,
    relu: bool = True,
    over_patches: bool = False,
) -> Tensor:
    """GradCAM on tokens: ReLU(sum_c weight_c x_ic), weight the mean gradient over all tokens.

    On the tokens that enter the last block, whatever reads them out, or on those of ``layer``.
    `over_patches`: the mean over the patches alone.
    """
    if layer is None:
        x = forward.blocks[-1].x
    elif layer == "input":
        x = forward.blocks[0].x
    else:
        x = forward.blocks[int(layer)].output
    gradient = _gradient(score(forward.embedding), x)
    weight = (forward.of_patches(gradient) if over_patches else gradient).mean(0)
    values = forward.of_patches(x) @ weight
    return _relu(values) if relu else values


def self_attention(forward: Pass) -> Tensor:
    """What the last attention's read-out attends to, the mean over its heads."""
    return forward.of_patches(forward.read(_mean(forward.last.probabilities)))


def attention_rollout(forward: Pass) -> Tensor:
    """Abnar and Zuidema 2020: the product of (mean attention + identity) / 2 over the blocks.

    The mean attention of a pool comes before it.
    """
    identity = torch.eye(len(forward.blocks[0].x), dtype=torch.float64)
    product = identity
    for block in forward.blocks:
        mixed = (_mean(block.attention.probabilities) + identity) / 2
        product = (mixed / mixed.sum(1, keepdim=True)) @ product
    if forward.pool is not None:
        attention = _mean(forward.pool.probabilities)
        product = attention @ product[len(product) - attention.shape[1] :]
    return forward.of_patches(forward.read(product))


def game(forward: Pass, score: Score, *, layers: str = "last") -> Tensor:
    """Chefer et al. 2021, self-attention: R = R + mean_heads(ReLU(A * dscore/dA)) R, from I.

    Of an attention pool without the first R.
    ``layers="last"``: the last attention alone.
    """

    def weighted(attention: Attention) -> Tensor:
        at = attention.probabilities
        return _mean([_relu(a * _gradient(score(forward.embedding), a)) for a in at])

    if layers == "last" and forward.pool is not None:
        return forward.of_patches(forward.read(weighted(forward.pool)))
    relevance = torch.eye(len(forward.blocks[0].x), dtype=torch.float64)
    for block in forward.blocks if layers == "all" else forward.blocks[-1:]:
        relevance = relevance + weighted(block.attention) @ relevance
    if forward.pool is not None:
        attention = weighted(forward.pool)
        relevance = attention @ relevance[len(relevance) - attention.shape[1] :]
    return forward.of_patches(forward.read(relevance))


def le_grad(forward: Pass, text: Tensor, *, n_blocks: int = 2, read_out: str = "mean") -> Tensor:
    """LeGrad (arXiv 2404.03214): mean over layers, heads and queries of ReLU(d s_l / d A_l).

    s_l is the cosine of the text with what layer l's tokens are read out to: the projected mean of
    all of them, or, ``read_out="model"``, as the model reads its last layer's. With an attention
    pool s_l is read through it, and A_l is the pool's attention in that reading.
    """
    layers = []
    for block in forward.blocks[-n_blocks:]:
        again = run_from(
            block.output,
            len(forward.blocks),
            forward.tower,
            forward.readout,
            forward.prefix,
            forward.averaged_from,
        )
        if again.pool is not None:
            score = to_unit(again.embedding) @ text
            positive = [_relu(_gradient(score, a)) for a in again.pool.probabilities]
            layers.append(forward.of_patches(again.read(_mean(positive))))
            continue
        feature = again.embedding
        if read_out == "mean":
            assert forward.tower.project is not None
            feature = forward.tower.project(block.output.mean(0)[None])[0]
        score = to_unit(feature) @ text
        total = torch.zeros(len(block.output), dtype=torch.float64)
        for head in block.attention.probabilities:
            for row in _relu(_gradient(score, head)):
                total += row
        layers.append(
            forward.of_patches(total / len(block.attention.probabilities) / len(block.output))
        )
    return torch.stack(layers).mean(0)


def atman_factors(tokens: Tensor, i: int, *, suppression: float, threshold: float | None) -> Tensor:
    """AtMan (arXiv 2301.08110): (N,), what the keys' logits are multiplied by for token i.

    1 - suppression at the token itself, 1 - suppression * cosine at those alike, else 1.
    """
    factors = []
    for j, other in enumerate(tokens):
        token = tokens[i]
        cosine = float(token @ other / (token @ token).sqrt() / (other @ other).sqrt())
        if i == j:
            factors.append(1 - suppression)
        elif threshold is not None and cosine >= threshold:
            factors.append(1 - suppression * cosine)
        else:
            factors.append(1.0)
    return torch.tensor(factors, dtype=torch.float64)


def with_scaled_keys(
    model: Any, readout: str, image: Tensor, factors: Tensor, *, from_minimum: bool = True
) -> Pass:
    """The forward pass with logits of the patches' keys (N,) multiplied, in every attention.

    ``from_minimum``: of logits less the least of their query.
    """

    def change(logits: Tensor) -> Tensor:
        if from_minimum:
            logits = logits - logits.min(1, keepdim=True).values
        prefix = torch.ones(logits.shape[1] - len(factors), dtype=torch.float64)
        return logits * torch.cat([prefix, factors])

    with patched.object(sys.modules[__name__], "attend", partial(attend, change=change)):
        return run(model, readout, image)


def atman(
    forward: Pass,
    score: Score,
    model: Any,
    image: Tensor,
    *,
    suppression: float = 0.9,
    threshold: float | None = 0.6,
    layer: int | str = "input",
    from_minimum: bool = True,
    patches: Sequence[int] | None = None,
) -> Tensor:
    """AtMan: by how much the score falls with each token, and those alike, suppressed.

    Alike in what enters the first block, or in the output of block ``layer``. Of all patches (N,),
    or of some.
    """
    x = forward.blocks[0].x if layer == "input" else forward.blocks[int(layer)].output
    tokens = forward.of_patches(x).detach()
    values = []
    for i in range(len(tokens)) if patches is None else patches:
        factors = atman_factors(tokens, i, suppression=suppression, threshold=threshold)
        other = with_scaled_keys(model, forward.readout, image, factors, from_minimum=from_minimum)
        values.append((score(forward.embedding) - score(other.embedding)).detach())
    return torch.stack(values)


def surgery_rows(forward: Pass, *, n_blocks: int = 6) -> Tensor:
    """CLIP Surgery's architecture (arXiv 2304.05653): rows (1 + N, E), the image's feature first.

    The second path adds, block by block, attention of values to values, the values being those
    of the model's own path and never rotated, and skips the MLPs. Rows are not normalised.
    """
    blocks = forward.blocks[-n_blocks:]
    x = blocks[0].x
    for block in blocks:
        v = block.attention.v
        values = list(v.split(v.shape[1] // block.block.heads, 1))
        own = attend(values, values, values, block.block.w, block.block.eps, single_head=False)
        x = add_attention(x, own, own.context, block.block)
    assert forward.tower.project is not None
    patches = forward.tower.project(x[forward.prefix :])
    return torch.cat([forward.embedding[None], patches])


@dataclass(frozen=True)
class Surgery:
    """What one state of CLIP Surgery's released code computes."""

    rows_are_unit: bool  # each row has length 1; else each channel, over the rows, has
    weights_of_image: bool  # classes are weighted by the image's row; else by each patch's own

    def normalized(self, rows: Tensor) -> Tensor:
        rows = rows.detach()
        squares = rows * rows
        lengths = squares.sum(1)[:, None] if self.rows_are_unit else squares.sum(0)[None, :]
        return rows / lengths.sqrt()

    def map(self, rows: Tensor, text: Tensor) -> Tensor:
        """The map (N,) of one text: no other class to compare with."""
        return self.normalized(rows)[1:] @ text

    def maps(self, rows: Tensor, texts: Tensor, temperature: float = 2.0) -> Tensor:
        """The maps (N, C): w_c F_i . t_c less its mean over the classes, w = C softmax_c."""
        features, classes = self.normalized(rows), len(texts)
        maps = torch.zeros(len(rows) - 1, classes, dtype=torch.float64)
        for i in range(1, len(rows)):
            judge = features[0 if self.weights_of_image else i]
            odds = [math.exp(temperature * float(judge @ text)) for text in texts]
            weighted = [
                classes * odd / sum(odds) * float(features[i] @ text)
                for odd, text in zip(odds, texts, strict=True)
            ]
            maps[i - 1] = torch.tensor(weighted) - sum(weighted) / classes
        return maps


SURGERY = {
    "2023-04-12": Surgery(rows_are_unit=False, weights_of_image=False),
    "2023-04-13": Surgery(rows_are_unit=False, weights_of_image=True),
    "2025-03-01": Surgery(rows_are_unit=True, weights_of_image=True),
}


def m2ib_first_losses(
    forward: Pass, text: Tensor, *, layer: int, beta: float, alpha: float = 5.0, draws: int = 32
) -> Tensor:
    """M2IB's loss (arXiv 2312.17174) before any step, for ``draws`` noises: (draws,).

    z = lam h + (1 - lam) eps with lam = sigmoid(alpha) at every token and channel of the output h
    of block ``layer``; loss = beta * mean KL(N(lam h, (1 - lam)^2) || N(0, 1)) - cos(image, text).
    """
    depth = len(forward.blocks)
    h = forward.blocks[layer].output.detach()
    lam = 1 / (1 + math.exp(-alpha))
    variance = (1 - lam) ** 2
    divergence = ((lam * h) ** 2 + variance - 1 - math.log(variance)) / 2
    generator = torch.Generator().manual_seed(78)
    losses = []
    for _ in range(draws):
        noise = torch.randn(h.shape, generator=generator, dtype=torch.float64)
        z = lam * h + (1 - lam) * noise
        rest = run_from(z, range(depth)[layer] + 1, forward.tower, forward.readout, forward.prefix)
        losses.append(beta * divergence.mean() - to_unit(rest.embedding) @ text)
    return torch.stack(losses)
