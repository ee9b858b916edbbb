"""What holds on a GPU: every family, method, protocol and command, against the CPU and float64.

Skipped without one. `.ci/gpu` runs these, the other tests, and the timings on a GPU machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import oracles
import pytest
import torch
from families import FAMILIES, Family
from oracles import families as oracle

from cci_captum import CCI, ImageTextSimilarity, KMeans, ZeroShotClassifier, find_vision_tower
from cci_captum.baselines import METHODS
from cci_captum.benchmarks import cli
from cci_captum.benchmarks.comparison import compare
from cci_captum.benchmarks.data import Scenes
from cci_captum.benchmarks.faithfulness import PROTOCOLS, DeletionInsertion
from cci_captum.models.loading import load_clip

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

NAMES = ["fox", "ship", "igloo", "lemon", "jar"]
HALF = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Convolutions in float32 proper: cuDNN takes TF32 where it may, with 10 bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(params=FAMILIES.values(), ids=lambda family: family.name)
def family(request) -> Family:
    return request.param


def half_hidden(family: Family, batch: int = 3) -> torch.Tensor:
    """(B, N) bool: a third to two thirds of the patches of each image."""
    h, w = family.grid
    generator = torch.Generator().manual_seed(0)
    fractions = torch.linspace(0.33, 0.67, batch)[:, None]
    return torch.rand(batch, h * w, generator=generator).argsort(1) < fractions * h * w


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    both = torch.stack([one.float().cpu().flatten(), other.float().cpu().flatten()])
    return float(torch.corrcoef(both)[0, 1])


@torch.no_grad()
def test_hiding_is_the_float64_computation(family):
    """Masks may be on either device; recorded tokens are those of the CPU."""
    model, images, mask = family.make(0), family.images(), half_hidden(family)
    expected = oracle.features(model, images, mask)
    with find_vision_tower(model).record(-1) as recording:
        family.run(model, images)
    tokens = recording.tokens
    model = model.cuda()
    tower = find_vision_tower(model)
    with tower.record(-1) as recording:
        family.run(model, images.cuda())
    assert oracles.relative_error(recording.tokens.cpu(), tokens) < 1e-5
    for strategy in ("mask", "drop"):
        for device in ("cuda", "cpu"):
            with tower.hide(mask.to(device), strategy):
                features = family.run(model, images.cuda())
            assert oracles.relative_error(features.cpu(), expected) < 1e-5, (strategy, device)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@torch.no_grad()
def test_hiding_in_half_precision(family, dtype):
    """The fused kernels of half precision take masks too, as weights and under autocast."""
    model, images, mask = family.make(0), family.images(), half_hidden(family)
    expected = oracle.features(model, images, mask)
    model, images = model.cuda(), images.cuda()
    tower = find_vision_tower(model)
    for strategy in ("mask", "drop"):
        with torch.autocast("cuda", dtype=dtype), tower.hide(mask.cuda(), strategy):
            features = family.run(model, images)
        assert torch.isfinite(features).all()
        assert correlation(features, expected) > 0.99, strategy


@pytest.mark.parametrize("name", [n for n in METHODS if not METHODS[n].needs_masks])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_every_method(name, dtype, make_clip, make_images, tokenizer):
    """On the GPU in this dtype, against the CPU in float32, for classes and for texts."""
    options: dict[str, object] = {}
    if name.startswith(("cci", "cluster")):
        options["clustering"] = Halves()
    model, _ = make_clip(seed=5)
    images = make_images(model)

    def explain() -> torch.Tensor:
        parameter = next(model.parameters())
        classifier = ZeroShotClassifier(model, tokenizer, NAMES)
        method = METHODS[name](classifier, **options)
        maps = method.attribute(images.to(parameter), [0, 1, 4])
        assert maps.device.type == parameter.device.type
        assert maps.dtype == torch.float32
        return maps

    expected = explain()
    model.to("cuda", dtype)
    found = explain()
    assert torch.isfinite(found).all()
    if name == "random" and dtype != torch.float32:
        return  # of another image
    if name in ("cluster-lime", "cluster-kernelshap"):  # Captum draws samples on the device
        return
    if dtype == torch.float32:
        assert oracles.relative_error(found.cpu(), expected) < 1e-3
    else:
        assert correlation(found, expected) > 0.9
    text = tokenizer(["a", "b", "c"]).cuda()
    method = METHODS[name](ImageTextSimilarity(model), **options)
    maps = method.attribute(images.to(next(model.parameters())), None, text)
    assert torch.isfinite(maps).all()


class Halves:
    """Two clusters, the first half of the patches and the second."""

    n_clusters = 2

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        _, patches, _ = embeddings.shape
        second = torch.arange(patches, device=embeddings.device) >= patches // 2
        return second.long().expand(len(embeddings), -1)


def test_memory_is_bounded_by_internal_batch_size(make_clip, tokenizer):
    model, _ = make_clip(seed=0, image_size=128, width=64, layers=4)
    classifier = ZeroShotClassifier(model.cuda(), tokenizer, NAMES)
    images = torch.randn(64, 3, 128, 128, device="cuda")

    def peak(size: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        CCI(classifier, clustering=KMeans(3)).effects(images, internal_batch_size=size)
        return torch.cuda.max_memory_allocated() - before

    peak(2)
    assert peak(2) < peak(64) / 4


@pytest.mark.parametrize("name", PROTOCOLS)
def test_curves_are_those_of_the_cpu(name, make_clip, make_images, tokenizer):
    """The order of ties and the noise too, which are drawn from the image, not from the device."""
    protocol = PROTOCOLS[name]
    if protocol.resolution == "original":
        pytest.skip("photos are perturbed on the CPU")
    model, _ = make_clip(seed=2)
    images = make_images(model)
    maps = torch.randint(4, (3, 4, 4), generator=torch.Generator().manual_seed(1)).float()

    def areas() -> dict[str, torch.Tensor]:
        device = next(model.parameters()).device
        classifier = ZeroShotClassifier(model, tokenizer, NAMES)
        curves = DeletionInsertion(classifier, protocol)(
            images.to(device), maps.to(device), [0, 1, 4]
        )
        return {key: torch.as_tensor(value).cpu().double() for key, value in curves.auc().items()}

    expected = areas()
    model.cuda()
    for key, value in areas().items():
        assert (value - expected[key]).abs().max() < 1e-4, key


def test_a_comparison_is_that_of_the_cpu():
    scenes = Scenes(4, seed=3)
    tables = []
    for device in ("cpu", "cuda"):
        clip = load_clip("tiny", device=device)
        classifier = ZeroShotClassifier(
            clip.model, clip.tokenizer, scenes.class_names, scenes.templates
        )
        found = compare(
            ["grad-eclip", "gradcam", "clip-surgery", "rollout"],
            scenes,
            ["grad-eclip", "tokens"],
            forward_func=classifier,
            preprocess=clip.preprocess,
        )
        tables.append(found.results)
    for column in ("deletion_probability", "insertion_probability", "energy"):
        difference = (tables[0][column] - tables[1][column]).abs().max()
        assert difference < 5e-3, (column, difference)
    assert (tables[0]["predicted"] == tables[1]["predicted"]).all()


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_clusters_of_planted_blobs(backend):
    if backend == "faiss":
        pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(7, (8, 196), generator=generator)
    centres = 8 * torch.randn(8, 7, 64, generator=generator)
    points = centres.take_along_dim(truth[..., None], dim=1)
    points = points + torch.randn(points.shape, generator=generator)
    labels = KMeans(7, backend=backend)(points.cuda())
    assert labels.is_cuda
    for found, planted in zip(labels.cpu(), truth, strict=True):
        pairs = {(int(a), int(b)) for a, b in zip(found, planted, strict=True)}
        assert len(pairs) == len(planted.unique())


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--device", "cuda"],
        ["compare", "--data", "scenes", "--n", "4", "--method", "cci", "--device", "cuda"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands(arguments, tmp_path):
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) in (0, None)
    assert any((tmp_path / "out").iterdir())
