"""The audit of worst foils against its definition in plain Python, and planted truth."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from cci_captum import CCI, ClusterEffects, KMeans
from cci_captum.attribution.finite import NotFiniteError
from cci_captum.diagnosis import WorstFoils, worst_foil_audit


def effects_of(drops: list[list[list[float]]], **options) -> ClusterEffects:
    """Effects with these drops (B, K, C), of outputs that are all zero."""
    hidden = -torch.tensor(drops, dtype=torch.float64)
    batch, count, classes = hidden.shape
    labels = torch.arange(count).repeat(batch, 1)[:, None]
    return ClusterEffects(
        labels=labels,
        outputs=torch.zeros(batch, classes, dtype=torch.float64),
        masked_outputs=hidden,
        image_shape=(3, 8, 8 * count),
        **options,
    )


def by_definition(drops, target: int, present, tolerance: Fraction, judged=None) -> dict:
    """The paper's sentences for one image, on exact numbers."""
    judged = drops if judged is None else judged
    top = max(present, key=lambda r: (drops[r][target], -r))

    def margin(rows, r):
        return rows[r][target] - max(d for f, d in enumerate(rows[r]) if f != target)

    near = [r for r in present if drops[r][target] >= drops[top][target] - tolerance]
    best = max(near, key=lambda r: (margin(drops, r), r == top, -r))
    foils = [(d, -f) for f, d in enumerate(judged[top]) if f != target]
    return {
        "top": top,
        "drops": drops[top][target],
        "foils": -max(foils)[1],
        "margins": margin(judged, top),
        "mean_margins": judged[top][target] - sum(d for d, _ in foils) / len(foils),
        "reranked": best,
        "reranked_margins": margin(judged, best),
    }


def random_drops(seed: int, shape=(60, 5, 4)) -> torch.Tensor:
    """Eighths, which floats hold exactly, few enough that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, shape, generator=generator).double() / 8


@pytest.mark.parametrize("tolerance", [0.0, 0.25, 10.0])
@pytest.mark.parametrize("judged", [False, True])
def test_is_the_definition(tolerance: float, judged: bool) -> None:
    drops, others = random_drops(0), random_drops(1)
    targets = torch.arange(60) % 4
    absent = torch.arange(60) % 3 == 0  # of these the last cluster does not exist
    drops[absent, 4] = others[absent, 4] = 0.0
    clusters = torch.arange(5).repeat(60, 1)
    clusters[absent, 4] = -1
    labels = torch.arange(5).repeat(60, 1)
    labels[absent, 4] = 0
    both = [
        ClusterEffects(
            labels=labels[:, None],
            outputs=torch.zeros(60, 4, dtype=torch.float64),
            masked_outputs=-values,
            image_shape=(3, 8, 40),
            clusters=clusters,
        )
        for values in (drops, others)
    ]
    audit = worst_foil_audit(
        both[0], targets, judged_by=both[1] if judged else None, tolerance=tolerance
    )
    assert len(audit) == 60 and audit.tolerance == tolerance
    exact = [[[Fraction(v) for v in row] for row in image] for image in drops.tolist()]
    other = [[[Fraction(v) for v in row] for row in image] for image in others.tolist()]
    fails = repaired = 0
    for image in range(60):
        expected = by_definition(
            exact[image],
            int(targets[image]),
            range(4 if absent[image] else 5),
            Fraction(tolerance),
            other[image] if judged else None,
        )
        for name, value in expected.items():
            got = getattr(audit, name)[image].item()
            assert got == pytest.approx(float(value), abs=1e-12), (image, name)
        fails += expected["margins"] < 0
        repaired += expected["margins"] < 0 <= expected["reranked_margins"]
        assert bool(audit.fails[image]) == (expected["margins"] < 0)
    assert audit.failure_rate == pytest.approx(fails / 60)
    assert int(audit.repaired.sum()) == repaired and fails > repaired
    assert audit.repair_rate == pytest.approx(repaired / fails)
    assert repaired > 0 or tolerance == 0


def test_a_planted_foil_is_found_and_reranking_finds_the_specific_cluster() -> None:
    """Cluster 0 carries class 2 more than class 1; cluster 1 carries class 1 alone, slightly less.

    Its mean margin is positive: what a contrast to the mean of foils does not see.
    """
    shared, specific = [0.0, 1.0, 1.5, 0.0, 0.0, 0.0], [0.0, 0.99, 0.0, 0.0, 0.0, 0.0]
    effects = effects_of([[shared, specific, [0.0] * 6]])
    audit = worst_foil_audit(effects, 1)
    assert audit.top.item() == 0 and audit.foils.item() == 2
    assert audit.margins.item() == pytest.approx(-0.5) and audit.fails.item()
    assert audit.mean_margins.item() == pytest.approx(0.7)
    assert audit.reranked.item() == 1 and audit.repaired.item()
    assert audit.reranked_margins.item() == pytest.approx(0.99)
    assert not worst_foil_audit(effects, 1, tolerance=0.005).repaired.item()
    assert worst_foil_audit(effects, 2).failure_rate == 0.0
    assert math.isnan(worst_foil_audit(effects, 2).repair_rate)


def test_ties() -> None:
    """Clusters: the first. Foils: the lowest. A margin of 0 passes, and needs no other cluster."""
    audit = worst_foil_audit(effects_of([[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]), 1)
    assert (audit.top.item(), audit.foils.item(), audit.margins.item()) == (0, 0, 0.0)
    assert not audit.fails.item() and audit.reranked.item() == 0
    audit = worst_foil_audit(effects_of([[[1.0, 2.0], [1.0, 0.0], [1.0, 0.0]]]), 0)
    assert (audit.top.item(), audit.reranked.item()) == (0, 1)


def test_on_a_model(make_clip, make_images) -> None:
    """Hidden by hand through drops(c), class by class; scaled outputs scale margins."""
    model, _ = make_clip(seed=3)
    images = make_images(model, batch=3)

    effects = CCI(model.encode_image, model, clustering=KMeans(3)).effects(images)
    targets = [1, 0, 2]
    audit = worst_foil_audit(effects, targets)
    classes = effects.outputs.shape[1]
    every = torch.stack([effects.drops(c) for c in range(classes)], dim=2)
    for image, target in enumerate(targets):
        drops = every[image][every[image][:, target].argmax()]
        foils = [float(drops[c]) for c in range(classes) if c != target]
        assert float(audit.margins[image]) == pytest.approx(float(drops[target]) - max(foils))
    scaled = ClusterEffects(
        labels=effects.labels,
        outputs=4 * effects.outputs,
        masked_outputs=4 * effects.masked_outputs,
        image_shape=effects.image_shape,
    )
    assert torch.equal(worst_foil_audit(scaled, targets, tolerance=0.08).margins, 4 * audit.margins)


def test_table() -> None:
    audit = worst_foil_audit(
        effects_of([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 1.0], [0.0, 2.0]]]), [0, 0]
    )
    table = audit.table(["cat", "dog"])
    assert table["fails"].tolist() == [True, False] and table["margin"].tolist() == [-1.0, 2.0]
    assert table["worst_foil_name"].tolist() == ["dog", "dog"]
    assert table["target_name"].tolist() == ["cat", "cat"]
    assert len(audit.table().columns) == 10
    with pytest.raises(ValueError, match="class_names: expected a name for class 1, got 1 names"):
        audit.table(["cat"])


def test_not_finite_of_any_class() -> None:
    drops = torch.zeros(2, 2, 3)
    drops[1, 0, 2] = math.nan
    with pytest.raises(NotFiniteError, match=r"worst_foil_audit: .*images \[1\]"):
        worst_foil_audit(effects_of(drops.tolist()), 0)


@pytest.mark.parametrize(
    ("error", "message", "targets", "options"),
    [
        (TypeError, "targets: expected ints", 0.5, {}),
        (TypeError, "targets: expected ints", [True, False], {}),
        (ValueError, "targets: expected one class, or 2, of 0 to 2", [0], {}),
        (ValueError, "targets: expected one class, or 2, of 0 to 2", [0, 3], {}),
        (ValueError, "targets: expected one class, or 2, of 0 to 2", -1, {}),
        (ValueError, "tolerance: expected a finite number of 0 or more", 0, {"tolerance": -0.1}),
        (ValueError, "tolerance: expected a finite number", 0, {"tolerance": math.nan}),
        (TypeError, "judged_by: expected ClusterEffects, got int", 0, {"judged_by": 3}),
    ],
)
def test_refusals(error: type[Exception], message: str, targets, options: dict) -> None:
    with pytest.raises(error, match=message):
        worst_foil_audit(effects_of(torch.zeros(2, 2, 3).tolist()), targets, **options)


def test_effects_that_do_not_fit() -> None:
    effects = effects_of(torch.zeros(2, 2, 3).tolist())
    with pytest.raises(ValueError, match=r"judged_by: .*\(2, 2, 3\), got \(2, 2, 4\)"):
        worst_foil_audit(effects, 0, judged_by=effects_of(torch.zeros(2, 2, 4).tolist()))
    others = effects_of(torch.zeros(2, 2, 3).tolist())
    others.labels.copy_(1 - others.labels)
    with pytest.raises(ValueError, match=r"judged_by: .*of other clusters"):
        worst_foil_audit(effects, 0, judged_by=others)
    one = effects_of(torch.zeros(2, 2, 1).tolist())
    with pytest.raises(ValueError, match=r"effects: expected outputs \(B, C\) of two classes"):
        worst_foil_audit(one, 0)
    with pytest.raises(TypeError, match="effects: expected ClusterEffects, got Tensor"):
        worst_foil_audit(torch.zeros(2, 2, 3), 0)
    assert isinstance(worst_foil_audit(effects, 0), WorstFoils)
