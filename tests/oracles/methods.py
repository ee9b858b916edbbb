"""Plain float64 computations that the baselines are held against, one function a method.

As in open_clip.py: weights are read out of the ``state_dict``, one image (3, H, W) and one head at
a time, no hooks, no call into open_clip. Every patch method gives its map as (N,) values in raster
order. ``score`` maps an image embedding (E,), not normalised, to the scalar that is explained, and
``text`` is a unit vector (E,).

Where the tower averages patches, there is no class token to ask: its attention row, query and key
are then the means of those of the patches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .open_clip import (
    Spec,
    Weights,
    _activation,
    _depth,
    _embed_patches,
    _linear,
    _norm,
    _under,
    _unit,
    encode_text,
    weights_of,
)

Score = Callable[[Tensor], Tensor]


# The forward pass, with everything in it kept.


@dataclass(frozen=True)
class Block:
    """What one block saw and made: L tokens of width D."""

    weights: Weights
    spec: Spec
    x: Tensor  # (L, D) input tokens
    q: Tensor  # (L, D) queries as they enter the dot product, heads side by side
    k: Tensor  # (L, D) keys, likewise
    v: Tensor  # (L, D) values
    probabilities: list[Tensor]  # (L, L) of each head
    context: Tensor  # (L, D) weighted sums of the values
    output: Tensor  # (L, D)


@dataclass(frozen=True)
class Pass:
    """One image's way through the encoder, a graph for gradients."""

    weights: Weights
    spec: Spec
    blocks: list[Block]
    embedding: Tensor  # (E,), not normalised


def weighted_values(probabilities: list[Tensor], v: Tensor) -> Tensor:
    """What attention makes of the values (L, D), every head of its own part of the width."""
    size = v.shape[1] // len(probabilities)
    parts = [p @ v[:, h * size : (h + 1) * size] for h, p in enumerate(probabilities)]
    return torch.cat(parts, 1)


def project_out(context: Tensor, w: Weights, spec: Spec) -> Tensor:
    """The output projection of a block, and what a custom block puts before it."""
    if "attn.head_scale" in w:
        scale = w["attn.head_scale"].flatten()
        context = context * scale.repeat_interleave(context.shape[-1] // spec.vision_heads)
    return _linear(_norm(context, w, "attn.ln_inner", spec.eps), w, "attn.out_proj")


def add_attention(x: Tensor, context: Tensor, w: Weights, spec: Spec) -> Tensor:
    """The residual stream after the attention of a block, whose input was x."""
    y = _norm(project_out(context, w, spec), w, "ln_attn", spec.eps)
    return x + y * w.get("ls_1.gamma", 1.0)


def add_mlp(x: Tensor, w: Weights, spec: Spec) -> Tensor:
    y = _activation(_linear(_norm(x, w, "ln_2", spec.eps), w, "mlp.c_fc"), spec.quick_gelu)
    y = _linear(_norm(y, w, "mlp.ln", spec.eps), w, "mlp.c_proj")
    return x + y * w.get("ls_2.gamma", 1.0)


def run_block(x: Tensor, w: Weights, spec: Spec, heads: int) -> Block:
    """A block with so many heads; norms of queries and keys stay those of the model's heads."""
    normed = _norm(x, w, "ln_1", spec.eps)
    dim = x.shape[1]
    q, k, v = (
        normed @ weight.T + bias
        for weight, bias in zip(
            w["attn.in_proj_weight"].reshape(3, dim, dim),
            w["attn.in_proj_bias"].reshape(3, dim),
            strict=True,
        )
    )
    own = dim // spec.vision_heads
    q = torch.cat([_norm(part, w, "attn.ln_q", spec.eps) for part in q.split(own, 1)], 1)
    k = torch.cat([_norm(part, w, "attn.ln_k", spec.eps) for part in k.split(own, 1)], 1)
    size = dim // heads
    probabilities = [
        _softmax(qh @ kh.T / math.sqrt(size))
        for qh, kh in zip(q.split(size, 1), k.split(size, 1), strict=True)
    ]
    context = weighted_values(probabilities, v)
    output = add_mlp(add_attention(x, context, w, spec), w, spec)
    return Block(w, spec, x, q, k, v, probabilities, context, output)


def read_out(x: Tensor, w: Weights, spec: Spec) -> Tensor:
    """The image embedding (E,) from the last block's output (L, D)."""
    if not spec.final_ln_after_pool:
        x = _norm(x, w, "ln_post", spec.eps)
    pooled = _class_row(x, spec)
    if spec.final_ln_after_pool:
        pooled = _norm(pooled, w, "ln_post", spec.eps)
    return pooled @ w["proj"]


def run(model: nn.Module, spec: Spec, image: Tensor, single_head: bool = False) -> Pass:
    """The forward pass of one image; ``single_head``: with one head in the last block."""
    w = weights_of(model, "visual.")
    x = _norm(_embed_patches(w, image.detach().double().cpu()), w, "ln_pre", spec.eps)
    return run_from(x.requires_grad_(), 0, w, spec, single_head)


def run_from(x: Tensor, first: int, w: Weights, spec: Spec, single_head: bool = False) -> Pass:
    """The forward pass from the tokens (L, D) that enter block ``first``, or the read-out."""
    blocks = []
    for i in range(first, _depth(w)):
        heads = 1 if single_head and i == _depth(w) - 1 else spec.vision_heads
        blocks.append(run_block(x, _under(w, f"transformer.resblocks.{i}."), spec, heads))
        x = blocks[-1].output
    return Pass(w, spec, blocks, read_out(x, w, spec))


def _softmax(scores: Tensor) -> Tensor:
    odds = (scores - scores.max(-1, keepdim=True).values).exp()
    return odds / odds.sum(-1, keepdim=True)


def _class_row(rows: Tensor, spec: Spec) -> Tensor:
    """The row of the class token, or the mean of the patches' where the tower averages them."""
    return rows[0] if spec.pool == "tok" else rows[1:].mean(0)


def _key_cosines(block: Block, asking: Tensor) -> Tensor:
    """cos(out_proj(asking), out_proj(k_i)) of all patches: (N,)."""
    keys = project_out(block.k[1:], block.weights, block.spec)
    return _unit(keys) @ _unit(project_out(asking, block.weights, block.spec))


def _mean(heads: list[Tensor]) -> Tensor:
    return torch.stack(heads).mean(0)


def _relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.0)


def _gradient(score: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(score, at, retain_graph=True)[0]


# Text directions.


def text_direction(model: nn.Module, spec: Spec, text: Tensor) -> Tensor:
    """Unit embeddings (B, E) of token ids (B, L)."""
    return _unit(encode_text(model, spec, text))


def class_directions(
    model: nn.Module,
    spec: Spec,
    tokenizer: Callable[[list[str]], Tensor],
    names: Sequence[str],
    templates: Sequence[str],
) -> Tensor:
    """Unit embeddings (C, E): a class is the mean of its prompts' unit embeddings, made unit."""
    classes = []
    for name in names:
        prompts = tokenizer([template.format(name) for template in templates])
        classes.append(_unit(text_direction(model, spec, prompts).mean(0)))
    return torch.stack(classes)


# The methods. Where one head is wanted in the last block, ``forward`` is the pass that has it.


def grad_eclip(forward: Pass, score: Score, *, key_similarity: bool = True) -> Tensor:
    """Grad-ECLIP, arXiv 2502.18816: ReLU(sum_c g_c v_ic lambda_i)."""
    last = forward.blocks[-1]
    g = _gradient(score(forward.embedding), last.context).sum(0)
    weight = torch.ones(len(last.v) - 1, dtype=torch.float64)
    if key_similarity:
        cosines = _key_cosines(last, _class_row(last.q, forward.spec))
        if cosines.max() > cosines.min():
            weight = (cosines - cosines.min()) / (cosines.max() - cosines.min())
    return _relu((g * last.v[1:]).sum(1) * weight)


def maskclip(forward: Pass, text: Tensor, *, key_similarity: bool = True) -> Tensor:
    """MaskCLIP as Grad-ECLIP's authors compare it: every token attends to itself alone."""
    last, w, spec = forward.blocks[-1], forward.weights, forward.spec
    tokens = add_mlp(add_attention(last.x, last.v, last.weights, spec), last.weights, spec)
    values = _unit(_norm(tokens[1:], w, "ln_post", spec.eps) @ w["proj"]) @ text
    if key_similarity:
        values = values * _key_cosines(last, _class_row(last.k, spec))
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

    `over_patches`: the mean over the patches alone.
    """
    if layer is None:
        x = forward.blocks[-1].x
    elif layer == "input":
        x = forward.blocks[0].x
    else:
        x = forward.blocks[int(layer)].output
    gradient = _gradient(score(forward.embedding), x)
    weight = gradient[1:].mean(0) if over_patches else gradient.mean(0)
    values = x[1:] @ weight
    return _relu(values) if relu else values


def self_attention(forward: Pass) -> Tensor:
    """What the class token attends to in the last block, the mean over its heads."""
    heads = forward.blocks[-1].probabilities
    return _class_row(_mean(heads), forward.spec)[1:]


def attention_rollout(forward: Pass) -> Tensor:
    """Abnar and Zuidema 2020: the product of (mean attention + identity) / 2 over the blocks."""
    product = torch.eye(len(forward.blocks[0].x), dtype=torch.float64)
    for block in forward.blocks:
        mean = _mean(block.probabilities)
        mixed = 0.5 * mean + 0.5 * torch.eye(len(mean), dtype=torch.float64)
        product = (mixed / mixed.sum(1, keepdim=True)) @ product
    return _class_row(product, forward.spec)[1:]


def game(forward: Pass, score: Score, *, layers: str = "last") -> Tensor:
    """Chefer et al. 2021, self-attention: R = R + mean_heads(ReLU(A * dscore/dA)) R, from I."""
    relevance = torch.eye(len(forward.blocks[0].x), dtype=torch.float64)
    for block in forward.blocks if layers == "all" else forward.blocks[-1:]:
        heads = [_relu(a * _gradient(score(forward.embedding), a)) for a in block.probabilities]
        relevance = relevance + _mean(heads) @ relevance
    return _class_row(relevance, forward.spec)[1:]


def surgery_rows(forward: Pass, *, n_blocks: int = 6) -> Tensor:
    """CLIP Surgery's architecture (arXiv 2304.05653): rows (1 + N, E), the image's feature first.

    The second path adds, block by block, attention of values to values, the values being those
    of the model's own path, and skips the MLPs. Rows are not normalised.
    """
    w, spec = forward.weights, forward.spec
    blocks = forward.blocks[-n_blocks:]
    x = blocks[0].x
    for block in blocks:
        size = block.v.shape[1] // spec.vision_heads
        probabilities = [_softmax(v @ v.T / math.sqrt(size)) for v in block.v.split(size, 1)]
        context = weighted_values(probabilities, block.v)
        x = add_attention(x, context, block.weights, spec)
    patches = _norm(x[1:], w, "ln_post", spec.eps) @ w["proj"]
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


def rise_expectation(
    image: Tensor, slope: Tensor, offset: float, *, p: float, grid: int, baseline: float
) -> Tensor:
    """The mean (H, W) of RISE's map of f(x) = sum(slope * x) + offset over all its masks.

    Petsiuk et al. 2018: S(y) = E[f(x M + baseline (1 - M)) M(y)] / E[M]. A mask is M = W z with
    independent cells z of mean p and a matrix W of bilinear weights that depends on the shift, so
    that E[M(y) M(y')] is p^2 + p (1 - p) (W W^T)(y, y') averaged over all shifts.
    """
    _, height, width = image.shape
    kernels = [w @ w.T for w in mask_weights(height, width, grid)]
    second = p**2 + p * (1 - p) * torch.stack(kernels).mean(0)  # E[M(y) M(y')]
    per_pixel = (slope * (image.double() - baseline)).sum(0).flatten()
    constant = offset + baseline * slope.sum()
    return (constant * p + second @ per_pixel).reshape(height, width) / p


def rise_samples(
    image: Tensor, slope: Tensor, offset: float, *, p: float, grid: int, baseline: float, n: int
) -> Tensor:
    """``n`` draws (n, H, W) of f(x M + baseline (1 - M)) M / p, with masks of its own."""
    _, height, width = image.shape
    shifts = list(mask_weights(height, width, grid))
    generator = torch.Generator().manual_seed(77)
    image = image.double()
    draws = []
    for shift in torch.randint(len(shifts), (n,), generator=generator).tolist():
        cells = (torch.rand(grid * grid, generator=generator) < p).double()
        mask = (shifts[shift] @ cells).reshape(height, width)
        value = (slope * (image * mask + baseline * (1 - mask))).sum() + offset
        draws.append(value * mask / p)
    return torch.stack(draws)


def mask_weights(height: int, width: int, grid: int) -> list[Tensor]:
    """For every shift, the weights (H * W, grid * grid) of the cells in each pixel of a mask."""
    rows, columns = math.ceil(height / grid), math.ceil(width / grid)
    down = _enlarge(grid, (grid + 1) * rows)
    across = _enlarge(grid, (grid + 1) * columns)
    return [
        torch.kron(down[top : top + height], across[left : left + width])
        for top, left in itertools.product(range(rows), range(columns))
    ]


def _enlarge(size: int, new_size: int) -> Tensor:
    """Bilinear enlargement in one dimension, corners not aligned, as a matrix (new_size, size)."""
    weights = torch.zeros(new_size, size, dtype=torch.float64)
    for i in range(new_size):
        at = max((i + 0.5) * size / new_size - 0.5, 0.0)
        low = min(int(at), size - 1)
        high = min(low + 1, size - 1)
        weights[i, low] += 1 - (at - low)
        weights[i, high] += at - low
    return weights


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
        rest = run_from(z, range(depth)[layer] + 1, forward.weights, forward.spec)
        losses.append(beta * divergence.mean() - _unit(rest.embedding) @ text)
    return torch.stack(losses)


def shapley_values(value: Callable[[tuple[bool, ...]], float], n: int) -> Tensor:
    """Exact Shapley values (n,) of a game, from all its coalitions."""
    worth = {players: value(players) for players in itertools.product((False, True), repeat=n)}
    shares = torch.zeros(n, dtype=torch.float64)
    for players, before in worth.items():
        size = sum(players)
        for i in range(n):
            if not players[i]:
                after = worth[(*players[:i], True, *players[i + 1 :])]
                chance = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                shares[i] += chance * (after - before)
    return shares
