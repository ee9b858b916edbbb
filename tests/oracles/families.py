"""Plain float64 computations of every family's image features, with hidden patches simply absent.

Weights come out of the ``state_dict``, one image and one head at a time, matrix
products written out, no call into the libraries' layers, no hooks, no masks. Settings that the
weights do not tell (heads, epsilons, the kind of pool, rotary options) are read off the modules.
A hidden patch's token never enters the first block; a kept one keeps its own position.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .plain import (
    Weights,
    gelu,
    gelu_tanh,
    layer_norm,
    linear,
    quick_gelu,
    silu,
    softmax,
    to_unit,
    under,
    weights_of,
)

Layer = int | str
Activation = Callable[[Tensor], Tensor]


# Every library's blocks, under the same names.

_RENAMED = [  # the libraries' names, old and new, and ours
    (r"^(ln_1|layer_norm1|layernorm_before)\.", "norm1."),
    (r"^(ln_2|layer_norm2|layernorm_after)\.", "norm2."),
    (r"^(self_attn|attention\.attention|attention)\.", "attn."),
    (r"^attn\.(out_proj|o_proj|output\.dense|proj)\.", "out."),
    (r"^attn\.(query|q_proj|q)\.", "q."),
    (r"^attn\.(key|k_proj|k)\.", "k."),
    (r"^attn\.(value|v_proj|v)\.", "v."),
    (r"^attn\.(q|k|v)_bias$", r"\1.bias"),
    (r"^attn\.(q|k|v)_proj_weight$", r"\1.weight"),
    (r"^attn\.(norm|ln_inner)\.", "inner."),
    (r"^attn\.ln_(q|k)\.", r"attn.\1_norm."),
    (r"^attn\.head_scale$", "head_scale"),
    (r"^ln_attn\.", "outer."),
    (r"^(ls_1\.gamma|ls1\.gamma|gamma_1|layer_scale1\.lambda1)$", "scale1"),
    (r"^(ls_2\.gamma|ls2\.gamma|gamma_2|layer_scale2\.lambda1)$", "scale2"),
    (r"^(mlp\.(c_fc|fc1|fc1_x|weights_in|up_proj)|intermediate\.dense)\.", "fc1."),
    (r"^(mlp\.(c_proj|fc2|weights_out|down_proj)|output\.dense)\.", "fc2."),
    (r"^mlp\.(fc1_g|gate_proj)\.", "gate."),
    (r"^mlp\.(norm|ln)\.", "mlp_norm."),
]


def rename(weights: Weights) -> Weights:
    """A block's weights under our names; joint projections of q, k and v taken apart."""
    renamed = {}
    for name, value in weights.items():
        for pattern, ours in _RENAMED:
            name = re.sub(pattern, ours, name)
        renamed[name] = value
    for joint, parts in (("in_proj_", "qkv"), ("qkv.", "qkv"), ("kv.", "kv")):
        for kind in ("weight", "bias"):
            name = f"attn.{joint}{kind}"
            if name in renamed:
                value = renamed.pop(name)
                for part, rows in zip(parts, value.chunk(len(parts)), strict=True):
                    renamed[f"{part}.{kind}"] = rows
    return renamed


def rotate(x: Tensor, angles: Tensor, half: bool) -> Tensor:
    """Rotate the pairs of each row of x (L, d) by angles (L, d / 2)."""
    d = x.shape[1]
    pairs = [(i, i + d // 2) if half else (2 * i, 2 * i + 1) for i in range(d // 2)]
    rotated = torch.empty_like(x)
    for i, (a, b) in enumerate(pairs):
        cos, sin = angles[:, i].cos(), angles[:, i].sin()
        rotated[:, a] = x[:, a] * cos - x[:, b] * sin
        rotated[:, b] = x[:, b] * cos + x[:, a] * sin
    return rotated


def _attend(q: Tensor, k: Tensor, v: Tensor, m: Tensor | None) -> Tensor:
    """Attention whose keys have weights m (L,); None are 1."""
    a = softmax(q @ k.T / math.sqrt(q.shape[1]))
    if m is not None:
        a = a * m
        a = a / a.sum(-1, keepdim=True)
    return a @ v


def project_out(context: Tensor, w: Weights, eps: float) -> Tensor:
    """The output projection of weighted values (L, D), and what some blocks put before it."""
    if "head_scale" in w:
        scale = w["head_scale"].flatten()
        context = context * scale.repeat_interleave(context.shape[-1] // len(scale))
    return linear(layer_norm(context, w, "inner", eps), w, "out")


@dataclass(frozen=True)
class Block:
    """One block: weights under our names, and what they do not say."""

    w: Weights
    heads: int
    eps: float
    activation: Activation
    post_norm: bool = False
    half: bool = False  # rotary pairs are a half apart, not neighbours

    def attention(
        self, x: Tensor, prefix: int, angles: Tensor | None, m: Tensor | None = None
    ) -> Tensor:
        """Self-attention of x (L, D), whose keys have weights m (L,), or 1.

        Patches turn by angles (H, N, d / 2), the prefix does not.
        """
        w, outputs = self.w, []
        size = len(w["q.weight"]) // self.heads
        q, k, v = (linear(x, w, name).split(size, 1) for name in "qkv")
        shared = len(q) // len(k)  # heads that share their keys and values
        for h in range(self.heads):
            query_key = []
            for part, name in ((q[h], "attn.q_norm"), (k[h // shared], "attn.k_norm")):
                part = layer_norm(part, w, name, self.eps)
                if angles is not None:
                    turned = rotate(part[prefix:], angles[h], self.half)
                    part = torch.cat([part[:prefix], turned])
                query_key.append(part)
            outputs.append(_attend(query_key[0], query_key[1], v[h // shared], m))
        return project_out(torch.cat(outputs, 1), w, self.eps)

    def mlp(self, x: Tensor) -> Tensor:
        """Plain, or gated (SwiGLU) with both halves in one matrix or in two."""
        w, y = self.w, linear(x, self.w, "fc1")
        if "gate.weight" in w:
            y = silu(linear(x, w, "gate")) * y
        elif len(w["fc1.weight"]) == 2 * w["fc2.weight"].shape[1]:
            gate, y = y.chunk(2, 1)
            y = silu(gate) * y
        else:
            y = self.activation(y)
        return linear(layer_norm(y, w, "mlp_norm", self.eps), w, "fc2")

    def __call__(
        self, x: Tensor, prefix: int, angles: Tensor | None, m: Tensor | None = None
    ) -> Tensor:
        w = self.w
        if self.post_norm:
            x = x + layer_norm(self.attention(x, prefix, angles, m), w, "norm1", self.eps)
            return x + layer_norm(self.mlp(x), w, "norm2", self.eps)
        y = self.attention(layer_norm(x, w, "norm1", self.eps), prefix, angles, m)
        x = x + layer_norm(y, w, "outer", self.eps) * w.get("scale1", 1.0)
        return x + self.mlp(layer_norm(x, w, "norm2", self.eps)) * w.get("scale2", 1.0)


@dataclass(frozen=True)
class Tower:
    """One family's model, written plainly.

    Attributes:
        embed: Image (3, H, W) -> prefix tokens (P, D) and patch tokens (N, D), ready for block 0.
        blocks: The blocks.
        read_out: All kept tokens (P + kept, D) of the last block, P, and their weights, None for
            1 -> feature (E,).
        project: One token's own feature (L, D) -> (L, E); None where there is none.
        angles: Rotary angles of each block and head, (depth, H, N, d / 2); None without.
    """

    embed: Callable[[Tensor], tuple[Tensor, Tensor]]
    blocks: list[Block]
    read_out: Callable[..., Tensor]
    project: Callable[[Tensor], Tensor] | None
    angles: Tensor | None = None

    def states(
        self, image: Tensor, hidden: Tensor | None, m: Tensor | None = None
    ) -> tuple[list[Tensor], int, Tensor]:
        """Kept tokens before the first block and after each, the number of prefix tokens, mask.

        m (P + kept,) are their weights as keys.
        """
        prefix, patches = self.embed(image.detach().double().cpu())
        kept = torch.ones(len(patches), dtype=torch.bool) if hidden is None else ~hidden.cpu()
        x = torch.cat([prefix, patches[kept]])
        states = [x]
        for i, block in enumerate(self.blocks):
            angles = None if self.angles is None else self.angles[i][:, kept]
            x = block(x, len(prefix), angles, m) if len(x) else x
            states.append(x)
        return states, len(prefix), kept


def features(model: nn.Module, images: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Image features or logits (B, E) of images (B, 3, H, W) without the patches hidden (B, N)."""
    tower = plain_tower(model)
    rows = []
    for i, image in enumerate(images):
        states, prefix, _ = tower.states(image, None if hidden is None else hidden[i])
        rows.append(tower.read_out(states[-1], prefix))
    return torch.stack(rows)


def gated_features(model: nn.Module, images: Tensor, gates: Tensor) -> Tensor:
    """Image features or logits (B, E) where patches count as much as gates (B, N) say.

    A patch with a gate of 0 is absent. Others have the gate as the weight of their key in every
    attention, and in the average that is read out; a maximum is over patches that have been drawn
    towards that average as far as their gates are below 1. One image may have many rows of gates.
    """
    tower, rows = plain_tower(model), []
    embedded = [tower.embed(image.detach().double().cpu()) for image in images]
    for i, gate in enumerate(gates.detach().double().cpu()):
        tokens = prefix, _ = embedded[i % len(embedded)]
        m = torch.cat([gate.new_ones(len(prefix)), gate[gate != 0]])
        states, _, _ = replace(tower, embed=lambda _, tokens=tokens: tokens).states(
            images[0], gate == 0, m
        )
        rows.append(tower.read_out(states[-1], len(prefix), m))
    return torch.stack(rows)


def patch_tokens(
    model: nn.Module,
    images: Tensor,
    hidden: Tensor | None = None,
    gates: Tensor | None = None,
) -> dict[Layer, Tensor]:
    """Patch tokens (B, N, D) of every layer, zeros where hidden, with gates (B, N) or without.

    Layers are "input", each block's index, and "projected" where patches have a feature each.
    """
    tower = plain_tower(model)
    layers: dict[Layer, list[Tensor]] = {}
    for i, image in enumerate(images):
        m = None
        if gates is not None:
            prefix = len(tower.embed(image.detach().double().cpu())[0])
            m = torch.cat([torch.ones(prefix), gates[i]]).double()
        states, prefix, kept = tower.states(image, None if hidden is None else hidden[i], m)
        names = ["input", *range(len(tower.blocks))]
        tokens = {name: x[prefix:] for name, x in zip(names, states, strict=True)}
        if tower.project is not None:
            tokens["projected"] = to_unit(tower.project(states[-1][prefix:]))
        for layer, x in tokens.items():
            full = x.new_zeros(len(kept), x.shape[1])
            full[kept] = x
            layers.setdefault(layer, []).append(full)
    return {layer: torch.stack(rows) for layer, rows in layers.items()}


def plain_tower(model: Any) -> Tower:
    """The plain twin of a model of any family."""
    module = type(model).__module__
    if module.startswith("transformers."):
        return _transformers(model)
    if module.startswith("timm."):
        return _timm(model, lambda x: x)
    visual = model.visual
    finish = to_unit if type(model).__name__ == "CoCa" else (lambda x: x)  # CoCa's are normalised
    if type(visual).__name__ == "TimmModel":
        head = weights_of(visual.head)
        return _timm(visual.trunk, lambda x: linear(x, head, "proj") if head else x)
    return _open_clip(visual, finish)


def _convolve(image: Tensor, weight: Tensor, bias: Tensor | float) -> Tensor:
    """Convolve an image (C, H, W) with kernels as large as their stride: (D, h, w)."""
    d, _, down, across = weight.shape
    h, w = image.shape[1] // down, image.shape[2] // across
    result = image.new_empty(d, h, w)
    for i in range(h):
        for j in range(w):
            patch = image[:, i * down : (i + 1) * down, j * across : (j + 1) * across]
            result[:, i, j] = weight.reshape(d, -1) @ patch.reshape(-1) + bias
    return result


def _raster(maps: Tensor) -> Tensor:
    """(D, h, w) -> (h * w, D)."""
    return maps.flatten(1).T


def _mean(x: Tensor, m: Tensor | None) -> Tensor:
    """The mean of the rows with weights m, or 1; zero where there is none."""
    if not len(x):
        return x.new_zeros(x.shape[1])
    return x.mean(0) if m is None else m @ x / m.sum()


def _from(m: Tensor | None, start: int) -> Tensor | None:
    """The weights of the tokens from there on."""
    return None if m is None else m[start:]


def _attention_pool(
    query: Tensor, tokens: Tensor, w: Weights, heads: int, eps: float, m: Tensor | None
) -> Tensor:
    """Queries (Q, D) attend to tokens (L, C), or to a zero token where there is none: (Q, D)."""
    if not len(tokens):
        tokens, m = tokens.new_zeros(1, tokens.shape[1]), None
    q, k, v = linear(query, w, "q"), linear(tokens, w, "k"), linear(tokens, w, "v")
    outputs = []
    for qh, kh, vh in zip(*(x.chunk(heads, 1) for x in (q, k, v)), strict=True):
        outputs.append(_attend(qh, kh, vh, m))
    return linear(torch.cat(outputs, 1), w, "out")


def _attn(weights: Weights) -> Weights:
    """An attention pool's weights under our names."""
    return rename({f"attn.{name}": value for name, value in weights.items()})


# open_clip's own


def _open_clip(visual: Any, finish: Callable[[Tensor], Tensor]) -> Tower:
    w, eps = weights_of(visual), getattr(visual.ln_post, "eps", 1e-5)

    def embed(image: Tensor) -> tuple[Tensor, Tensor]:
        patches = _raster(_convolve(image, w["conv1.weight"], 0.0))
        x = torch.cat([w["class_embedding"][None], patches]) + w["positional_embedding"]
        x = layer_norm(x, w, "ln_pre", eps)
        return x[:1], x[1:]

    blocks = [
        Block(
            rename(under(w, f"transformer.resblocks.{i}.")),
            block.attn.num_heads,
            eps,
            quick_gelu if type(block.mlp.gelu).__name__ == "QuickGELU" else gelu,
        )
        for i, block in enumerate(visual.transformer.resblocks)
    ]

    def pooled_by(name: str, x: Tensor, m: Tensor | None) -> Tensor:
        part = under(w, f"{name}.")
        query = layer_norm(part["query"], part, "ln_q", eps)
        x = layer_norm(x, part, "ln_k", eps)
        heads = getattr(visual, name).attn.num_heads
        return _attention_pool(query, x, _attn(under(part, "attn.")), heads, eps, m)

    def pool(x: Tensor, prefix: int, m: Tensor | None) -> Tensor:
        return x[0] if visual.pool_type == "tok" else _mean(x[prefix:], _from(m, prefix))

    def read_out(x: Tensor, prefix: int, m: Tensor | None = None) -> Tensor:
        if visual.attn_pool is None and visual.final_ln_after_pool:
            x = layer_norm(pool(x, prefix, m), w, "ln_post", eps)
        elif visual.attn_pool is None:
            x = pool(layer_norm(x, w, "ln_post", eps), prefix, m)
        elif visual.attn_pool_contrastive is None:
            x = pool(layer_norm(pooled_by("attn_pool", x, m), w, "ln_post", eps), 1, None)
        else:
            x = layer_norm(x, w, "ln_post", eps)
            if visual.attn_pool_type == "cascade":
                x, m = pooled_by("attn_pool", x, m), None
            x = pooled_by("attn_pool_contrastive", x, m)[0]
        return finish(x @ w["proj"])

    def project(x: Tensor) -> Tensor:
        return layer_norm(x, w, "ln_post", eps) @ w["proj"]

    return Tower(embed, blocks, read_out, None if visual.attn_pool else project)


# timm: VisionTransformer and Eva


def _timm(trunk: Any, finish: Callable[[Tensor], Tensor]) -> Tower:
    w = weights_of(trunk)
    first = trunk.blocks[0]
    eps = first.norm1.eps
    # The blocks' and the attention pool's, where they are not gated.
    activation = gelu_tanh if type(first.mlp.act).__name__ == "GELUTanh" else gelu

    def embed(image: Tensor) -> tuple[Tensor, Tensor]:
        patches = _raster(_timm_stem(image, trunk, w))
        tokens = [w[name][0] for name in ("cls_token", "dist_token", "reg_token") if name in w]
        prefix = torch.cat(tokens) if tokens else patches[:0]
        if "pos_embed" in w and trunk.no_embed_class:
            patches = patches + w["pos_embed"][0]
        elif "pos_embed" in w:
            x = torch.cat([prefix, patches]) + w["pos_embed"][0]
            prefix, patches = x[: len(prefix)], x[len(prefix) :]
        return layer_norm(prefix, w, "norm_pre", eps), layer_norm(patches, w, "norm_pre", eps)

    blocks = [
        Block(
            rename(under(w, f"blocks.{i}.")),
            block.attn.num_heads,
            eps,
            activation,
            post_norm="Post" in type(block).__name__,
            half=getattr(block.attn, "rotate_half", False),
        )
        for i, block in enumerate(trunk.blocks)
    ]

    def attention_pool(x: Tensor, m: Tensor | None) -> Tensor:
        part = under(w, "attn_pool.")
        x = _attention_pool(part["latent"][0], x, _attn(part), trunk.attn_pool.num_heads, eps, m)
        y = linear(layer_norm(x, part, "norm", eps), part, "mlp.fc1")
        return (x + linear(activation(y), part, "mlp.fc2"))[0]

    def pool(x: Tensor, prefix: int, m: Tensor | None) -> Tensor:
        kind, patches, of_patches = trunk.global_pool, x[prefix:], _from(m, prefix)
        if kind == "map":
            with_prefix = getattr(trunk, "pool_include_prefix", True)
            return attention_pool(x, m) if with_prefix else attention_pool(patches, of_patches)
        if kind == "token":
            return x[0]
        with_prefix = getattr(trunk, "pool_include_prefix", False)
        average = _mean(x, m) if with_prefix else _mean(patches, of_patches)
        if of_patches is not None:
            patches = of_patches[:, None] * patches + (1 - of_patches)[:, None] * average
        highest = patches.amax(0) if len(patches) else average
        return {"avg": average, "max": highest, "avgmax": (average + highest) / 2}[kind]

    def head(x: Tensor) -> Tensor:
        x = layer_norm(x, w, "fc_norm", eps)
        return finish(linear(x, w, "head") if "head.weight" in w else x)

    def read_out(x: Tensor, prefix: int, m: Tensor | None = None) -> Tensor:
        x = layer_norm(x, w, "norm", eps)
        if "head_dist.weight" in w:  # DeiT's second class token has a classifier of its own
            return (linear(x[0], w, "head") + linear(x[1], w, "head_dist")) / 2
        return head(pool(x, prefix, m))

    def project(x: Tensor) -> Tensor:
        return head(layer_norm(x, w, "norm", eps))

    angles = _rotary_angles(trunk) if getattr(trunk, "rope", None) is not None else None
    own = trunk.global_pool != "map" and "head_dist.weight" not in w
    return Tower(embed, blocks, read_out, project if own else None, angles)


def _timm_stem(image: Tensor, trunk: Any, w: Weights) -> Tensor:
    """Patch embeddings (D, h, w): one convolution, or MobileCLIP's three with batch norms."""
    if "patch_embed.proj.weight" in w:
        bias = w.get("patch_embed.proj.bias", 0.0)
        return _convolve(image, w["patch_embed.proj.weight"], bias)
    for i, layer in enumerate(trunk.patch_embed.backbone):
        part = under(w, f"patch_embed.backbone.{i}.")
        image = _convolve(image, part["conv.weight"], part.get("conv.bias", 0.0))
        if "bn.weight" in part:
            mean, var, scale, shift = (
                part[f"bn.{name}"][:, None, None]
                for name in ("running_mean", "running_var", "weight", "bias")
            )
            image = gelu((image - mean) / (var + layer.bn.eps).sqrt() * scale + shift)
    return image


def _rotary_angles(trunk: Any) -> Tensor:
    """Rotary angles (depth, H, N, d / 2) of the patches, from their rows and columns."""
    rope, (rows, columns) = trunk.rope, trunk.patch_embed.grid_size
    depth, heads = len(trunk.blocks), trunk.blocks[0].attn.num_heads
    d = trunk.embed_dim // heads
    y, x = (
        t.flatten().double()
        for t in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    )
    kind = type(rope).__name__
    if kind == "RotaryEmbeddingDinoV3":  # centres of the patches, from -1 to 1
        y, x = ((t + 0.5) / size * 2 - 1 for t, size in ((y, rows), (x, columns)))
        bands = 2 * math.pi / rope.temperature ** (torch.arange(d // 4).double() * 4 / d)
    elif kind == "RotaryEmbeddingCat":
        y, x = y + rope.grid_offset, x + rope.grid_offset
        if rope.ref_feat_shape is not None:
            reference = rope.ref_feat_shape
            y, x = y / rows * reference[0], x / columns * reference[1]
        bands = 1 / rope.temperature ** (torch.arange(d // 4).double() * 4 / d)
    axes = (x, y) if rope.grid_indexing == "xy" else (y, x)
    if kind == "RotaryEmbeddingMixed":
        first, second = weights_of(rope)["freqs"]  # (depth, H, d / 2) each
        a, b = (axis[None, None, :, None] for axis in axes)
        return a * first[:, :, None] + b * second[:, :, None]
    angles = torch.cat([axis[:, None] * bands for axis in axes], 1)
    return angles.expand(depth, heads, -1, -1)


# transformers


def _transformers(model: Any) -> Tower:
    name, config = type(model).__name__, getattr(model.config, "vision_config", model.config)
    w = {
        re.sub(r"^(vit|dinov2|dinov2_with_registers|vision_model)\.", "", key): value
        for key, value in weights_of(model).items()
        if not key.startswith("text_model.")
    }
    w = {re.sub(r"^encoder\.layers?\.", "layers.", key): value for key, value in w.items()}
    eps = config.layer_norm_eps
    activation = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_pytorch_tanh": gelu_tanh}

    def embed(image: Tensor) -> tuple[Tensor, Tensor]:
        patches = _raster(_transformers_stem(image, w, config.patch_size))
        if "embeddings.class_embedding" in w:
            patches = torch.cat([w["embeddings.class_embedding"][None], patches])
        elif "embeddings.cls_token" in w:
            patches = torch.cat([w["embeddings.cls_token"][0], patches])
        if "embeddings.position_embedding.weight" in w:
            x = patches + w["embeddings.position_embedding.weight"]
        else:
            x = patches + w["embeddings.position_embeddings"][0]
        if "embeddings.register_tokens" in w:  # they have no position
            x = torch.cat([x[:1], w["embeddings.register_tokens"][0], x[1:]])
        x = layer_norm(x, w, "pre_layrnorm", eps)
        prefix = len(x) - len(patches) + ("Siglip" not in name)
        return x[:prefix], x[prefix:]

    blocks = [
        Block(
            rename(under(w, f"layers.{i}.")),
            config.num_attention_heads,
            eps,
            activation[config.hidden_act],
        )
        for i in range(config.num_hidden_layers)
    ]
    side_by_side = name.startswith("Dinov2") and name.endswith("ForImageClassification")
    final = "post_layernorm" if "post_layernorm.weight" in w else "layernorm"

    def finish(x: Tensor) -> Tensor:
        if "pooler.dense.weight" in w:
            return linear(x, w, "pooler.dense").tanh()
        for layer in ("visual_projection", "classifier"):
            if f"{layer}.weight" in w:
                return linear(x, w, layer)
        return x

    def read_out(x: Tensor, prefix: int, m: Tensor | None = None) -> Tensor:
        x = layer_norm(x, w, final, eps)
        if "head.probe" in w:
            part = under(w, "head.")
            pool = _attn(under(part, "attention."))
            x = _attention_pool(part["probe"][0], x, pool, config.num_attention_heads, eps, m)
            y = linear(layer_norm(x, part, "layernorm", eps), part, "mlp.fc1")
            return (x + linear(activation[config.hidden_act](y), part, "mlp.fc2"))[0]
        if side_by_side:
            return finish(torch.cat([x[0], _mean(x[prefix:], _from(m, prefix))]))
        return finish(x[0])

    def project(x: Tensor) -> Tensor:
        return finish(layer_norm(x, w, final, eps))

    own = "head.probe" not in w and not side_by_side
    return Tower(embed, blocks, read_out, project if own else None)


def _transformers_stem(image: Tensor, w: Weights, size: int) -> Tensor:
    """Patch embeddings (D, h, w)."""
    for name in ("patch_embedding", "patch_embeddings.projection"):
        if f"embeddings.{name}.weight" in w:
            weight = w[f"embeddings.{name}.weight"]
            bias = w.get(f"embeddings.{name}.bias", 0.0)
    if weight.ndim == 2:  # SigLIP 2's, on patches with channels last
        weight = weight.reshape(len(weight), size, size, 3).permute(0, 3, 1, 2)
    return _convolve(image, weight, bias)
