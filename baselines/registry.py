"""Every method by its name, with what a comparison has to know about it.

Facts only, no torch: the classes are imported when they are asked for.
"""

from __future__ import annotations

from ._shared_options import (
    ATMAN,
    BASELINE,
    CLIP_SURGERY,
    CLUSTERS,
    GATED,
    NORMALIZATION,
    SAMPLES,
    SCORE,
    SEED,
    hide,
    key_similarity,
    revision,
    single_head,
)
from .method import Method
from .options import Choice, Flag, Integer, Layer, Number, Option

_METHODS = (
    Method(
        name="cci",
        title="CCI",
        paper="Agarwal et al. 2026, arXiv 2511.12978",
        path="cci_captum.cci:CCI",
        forward_passes="K + 1",
        options=(
            *CLUSTERS,
            NORMALIZATION,
            hide("mask"),
            SCORE,
        ),
    ),
    Method(
        name="grad-eclip",
        title="Grad-ECLIP",
        paper="Zhao et al. 2025, arXiv 2502.18816",
        path="cci_captum.baselines.grad_eclip:GradECLIP",
        forward_passes="1",
        needs_gradients=True,
        options=(
            single_head(True),
            key_similarity("of the patches' keys and the query, a weight"),
            SCORE,
        ),
    ),
    Method(
        name="maskclip",
        title="MaskCLIP",
        paper="Zhou et al. 2022, arXiv 2112.01071",
        path="cci_captum.baselines.mask_clip:MaskCLIP",
        forward_passes="1",
        needs_text=True,
        options=(key_similarity("of the patches' keys and the class token's, a factor"),),
    ),
    Method(
        name="gradcam",
        title="GradCAM",
        paper="Selvaraju et al. 2017, arXiv 1610.02391",
        path="cci_captum.baselines.grad_cam:GradCAM",
        forward_passes="1",
        needs_gradients=True,
        options=(
            Option(
                "layer",
                "layer",
                Layer(names=("input",), none="auto"),
                None,
                "which tokens: a block's, what enters the first, or, auto, what enters the last",
                "layer {}",
            ),
            single_head(False),
            Option("relu", "relu", Flag(), True, "keep positive values only", "without ReLU"),
            Option(
                "average",
                "average",
                Choice(names=("tokens", "patches")),
                "tokens",
                "over which gradients are averaged",
                "average over {}",
            ),
            SCORE,
        ),
    ),
    Method(
        name="self-attention",
        title="Self-attention",
        paper="Caron et al. 2021, arXiv 2104.14294",
        path="cci_captum.baselines.self_attention:SelfAttention",
        forward_passes="1",
        options=(single_head(True),),
    ),
    Method(
        name="rollout",
        title="Rollout",
        paper="Abnar and Zuidema 2020, arXiv 2005.00928",
        path="cci_captum.baselines.attention_rollout:AttentionRollout",
        forward_passes="1",
    ),
    Method(
        name="game",
        title="GAME",
        paper="Chefer et al. 2021, arXiv 2103.15679",
        path="cci_captum.baselines.game:GAME",
        forward_passes="1",
        needs_gradients=True,
        options=(
            Option(
                "layers",
                "layers",
                Choice(names=("last", "all")),
                "last",
                "of attention that are followed",
                "{} layers",
            ),
            SCORE,
        ),
    ),
    Method(
        name="legrad",
        title="LeGrad",
        paper="Bousselham et al. 2025, arXiv 2404.03214",
        path="cci_captum.baselines.legrad:LeGrad",
        forward_passes="1",
        needs_gradients=True,
        needs_text=True,
        options=(
            Option(
                "blocks",
                "n_blocks",
                Integer(none="all"),
                2,
                "whose attention counts, the last ones",
                "{} blocks",
            ),
            Option(
                "read-out",
                "read_out",
                Choice(names=("mean", "model")),
                "mean",
                "of a layer's score: from the mean of its tokens, or as the model reads its own",
                "read-out: {}",
            ),
        ),
    ),
    Method(
        name="atman",
        title="AtMan",
        paper="Deiseroth et al. 2023, arXiv 2301.08110",
        path="cci_captum.baselines.atman:AtMan",
        forward_passes="N + 1",
        options=ATMAN,
    ),
    Method(
        name="rise",
        title="RISE",
        paper="Petsiuk et al. 2018, arXiv 1806.07421",
        path="cci_captum.baselines.rise:RISE",
        forward_passes="4000",
        resolution="pixel",
        options=(
            Option("masks", "n_masks", Integer(), 4000, "random masks", "{} masks"),
            Option(
                "p",
                "p",
                Number(above=0, most=1),
                0.5,
                "probability that a mask's cell is kept",
                "p = {}",
            ),
            Option("grid", "grid", Integer(), 7, "cells along a mask's side", "grid {}"),
            Option("seed", "seed", SEED, 0, "of the masks", "seed {}"),
            BASELINE,
            SCORE,
        ),
    ),
    Method(
        name="clip-surgery",
        title="CLIP Surgery",
        paper="Li et al. 2023, arXiv 2304.05653",
        path="cci_captum.baselines.clip_surgery:CLIPSurgery",
        forward_passes="1",
        needs_text=True,
        options=(*CLIP_SURGERY, revision("2025-03-01")),
    ),
    *(
        Method(
            name=f"clip-surgery-{day}",
            title=f"CLIP Surgery {day}",
            paper=f"the same, code as of {day}",
            path="cci_captum.baselines.clip_surgery:CLIPSurgery",
            forward_passes="1",
            needs_text=True,
            preset=(("revision", day),),
            options=CLIP_SURGERY,
        )
        for day in ("2023-04-12", "2023-04-13")
    ),
    Method(
        name="m2ib",
        title="M2IB",
        paper="Wang et al. 2023, arXiv 2312.17174",
        path="cci_captum.baselines.m2ib:M2IB",
        forward_passes="1 + 100 of 2 blocks",
        needs_gradients=True,
        needs_text=True,
        options=(
            Option(
                "layer",
                "layer",
                Layer(none="auto"),
                None,
                "before the bottleneck; auto is the third from the end",
                "layer {}",
            ),
            Option("beta", "beta", Number(), 0.1, "weight of the divergence", "beta {}"),
            Option("steps", "steps", Integer(), 10, "of Adam", "{} steps"),
            Option("learning-rate", "lr", Number(), 1.0, "of Adam", "learning rate {}"),
            Option("samples", "n_samples", Integer(), 10, "of the noise, a step", "{} samples"),
            Option("seed", "seed", SEED, 0, "of the noise", "seed {}"),
        ),
    ),
    Method(
        name="shapley-cci",
        title="Shapley CCI",
        paper="Shapley 1953; Lundberg and Lee 2017, arXiv 1705.07874, on CCI's hidden clusters",
        path="cci_captum.shapley:ShapleyCCI",
        forward_passes="128",
        options=(
            *CLUSTERS,
            NORMALIZATION,
            hide("drop"),
            Option(
                "samples",
                "n_samples",
                Integer(least=2, none="all"),
                1024,
                "most passes of an image; fewer than all 2^K sets give an estimate",
                "{} samples",
            ),
            Option("seed", "seed", SEED, 0, "of the sets", "seed {}"),
            SCORE,
        ),
    ),
    Method(
        name="gate-gradient",
        title="Gate gradient",
        paper="this package: the limit of CCI's hidden clusters, all patches at once",
        path="cci_captum.gate_gradient:GateGradient",
        forward_passes="1",
        needs_gradients=True,
        options=(SCORE,),
    ),
    Method(
        name="gated-cci",
        title="Gated CCI",
        paper="this package: gate gradient, values, and regions hidden and shown",
        path="cci_captum.baselines.gated_cci:GatedCCI",
        forward_passes="1 + 2 of each cluster",
        needs_gradients=True,
        needs_text=True,
        options=GATED,
    ),
    Method(
        name="cluster-ablation",
        title="Cluster ablation",
        paper="Captum's FeatureAblation on CCI's clusters",
        path="cci_captum.baselines.cluster_ablation:ClusterAblation",
        forward_passes="K + 2",
        options=(*CLUSTERS, BASELINE, SCORE),
    ),
    Method(
        name="cluster-lime",
        title="Cluster LIME",
        paper="Ribeiro et al. 2016, arXiv 1602.04938, on CCI's clusters",
        path="cci_captum.baselines.cluster_lime:ClusterLime",
        forward_passes="101",
        options=(*CLUSTERS, BASELINE, *SAMPLES, SCORE),
    ),
    Method(
        name="cluster-kernelshap",
        title="Cluster KernelSHAP",
        paper="Lundberg and Lee 2017, arXiv 1705.07874, on CCI's clusters",
        path="cci_captum.baselines.cluster_kernel_shap:ClusterKernelShap",
        forward_passes="101",
        options=(*CLUSTERS, BASELINE, *SAMPLES, SCORE),
    ),
    Method(
        name="random",
        title="Random",
        paper="lower reference",
        path="cci_captum.baselines.random:Random",
        forward_passes="1",
        options=(Option("seed", "seed", SEED, 0, "of the maps", "seed {}"),),
    ),
    Method(
        name="ground-truth",
        title="Ground truth",
        paper="upper reference",
        path="cci_captum.baselines.ground_truth:GroundTruth",
        forward_passes="0",
        resolution="pixel",
        needs_masks=True,
    ),
)

REFERENCES = ("random", "ground-truth")
"""The worst and the best that a method can be expected to do: not methods, beside all of them."""

METHODS: dict[str, Method] = {method.name: method for method in _METHODS}


def find_method(name: str) -> Method:
    """The method of that name.

    Args:
        name: A key of `METHODS`, such as "grad-eclip".

    Raises:
        ValueError: If there is none; lists all.

    Example:
        >>> from cci_captum.baselines.registry import find_method
        >>> find_method("grad-eclip").title
        'Grad-ECLIP'
    """
    if name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
