"""Models whose weights are elsewhere: accelerate's offloading keeps them on "meta"."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from accelerate import cpu_offload
from PIL import Image
from torch import Tensor, nn
from toy import CONTEXT_LENGTH, EMBEDDING, VOCABULARY, randomize

from cci_captum import CCI, ImageTextSimilarity, KMeans, ZeroShotClassifier
from cci_captum.baselines import METHODS
from cci_captum.benchmarks.data import Sample
from cci_captum.benchmarks.faithfulness import CaptionRetrieval, DeletionInsertion
from cci_captum.benchmarks.tasks import Classification
from cci_captum.models.preprocessing import Preprocessing, whole

NAMES = ["fox", "ship", "jar"]
OPTIONS: dict[str, dict[str, Any]] = {
    "rise": {"n_masks": 8},
    "m2ib": {"steps": 2, "n_samples": 2},
    "cluster-lime": {"n_samples": 6, "clustering": KMeans(2)},
    "cluster-kernelshap": {"n_samples": 6, "clustering": KMeans(2)},
    "shapley-cci": {"clustering": KMeans(2)},
}
SIZES = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _clip() -> nn.Module:
    config = transformers.CLIPConfig(
        text_config=SIZES
        | {
            "hidden_size": 16,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT_LENGTH,
            "bos_token_id": 0,
            "eos_token_id": VOCABULARY - 1,
        },
        vision_config=SIZES | {"hidden_size": 32, "image_size": 32, "patch_size": 8},
        projection_dim=EMBEDDING,
    )
    return transformers.CLIPModel(config)


def _siglip() -> nn.Module:
    config = transformers.SiglipConfig(
        text_config=SIZES
        | {
            "hidden_size": 32,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT_LENGTH,
        },
        vision_config=SIZES | {"hidden_size": 32, "image_size": 32, "patch_size": 8},
    )
    return transformers.SiglipModel(config)


@pytest.fixture(scope="module", params=[_clip, _siglip], ids=["clip", "siglip"])
def models(request: Any) -> tuple[nn.Module, nn.Module]:
    """A model, and the same with its weights put aside."""
    model = request.param()
    randomize(model, seed=0)
    offloaded = copy.deepcopy(model.eval())
    # torch's own attention calls no layer for its output projection: it is fetched as a whole.
    whole = ["SiglipMultiheadAttentionPoolingHead"]
    cpu_offload(offloaded, torch.device("cpu"), preload_module_classes=whole)
    assert {p.device.type for p in offloaded.parameters()} == {"meta"}
    return model, offloaded


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_classifiers_and_similarities(models, images, tokenizer) -> None:
    whole, offloaded = (ZeroShotClassifier(model, tokenizer, NAMES)(images) for model in models)
    assert (whole - offloaded).abs().max() < 1e-5
    tokens = tokenizer(NAMES[:2])
    whole, offloaded = (ImageTextSimilarity(model)(images, tokens) for model in models)
    assert (whole - offloaded).abs().max() < 1e-6
    assert {p.device.type for p in models[1].parameters()} == {"meta"}


@pytest.mark.shared(among=3)
@pytest.mark.parametrize("models", [_clip], ids=["clip"], indirect=True)
@pytest.mark.parametrize("name", [name for name in METHODS if name != "ground-truth"])
def test_every_method(name, models, images, tokenizer) -> None:
    whole, offloaded = (
        METHODS[name]
        .cls(ZeroShotClassifier(model, tokenizer, NAMES), **OPTIONS.get(name, {}))
        .attribute(images, 1)
        for model in models
    )
    assert (whole - offloaded).abs().max() <= 1e-5 * whole.abs().max()


@pytest.mark.parametrize("models", [_siglip], ids=["siglip"], indirect=True)
@pytest.mark.parametrize("name", ["cci", "rise", "cluster-ablation"])
def test_methods_that_only_run_the_model(name, models, images, tokenizer) -> None:
    test_every_method(name, models, images, tokenizer)


def test_curves_and_retrieval(models, images, tokenizer) -> None:
    found = []
    for model in models:
        retrieval = CaptionRetrieval.from_pairs(model, tokenizer, images, [["fox"], ["ship"]])
        captions = torch.arange(2)
        harness = DeletionInsertion(retrieval, "tokens", score=retrieval.recalls)
        curves = harness(images, torch.arange(32.0).view(2, 4, 4), captions)
        found.append(curves.deletion.score)
    assert (found[0] - found[1]).abs().max() < 1e-6


class OnePhoto:
    """A data set of one grey photo."""

    name, class_names, templates, has_masks, targets = "one", tuple(NAMES), ("{}",), False, (0,)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample(name="grey", image=Image.new("RGB", (32, 32)), target=0)


def test_photos_go_where_the_model_runs(models, tokenizer) -> None:
    classifier = ZeroShotClassifier(models[1], tokenizer, NAMES)
    black = Preprocessing(lambda photo: torch.zeros(3, 32, 32), (0, 0, 0), (1, 1, 1), whole)
    task = Classification(OnePhoto(), classifier, black, "true")  # type: ignore[arg-type]
    batch, errors = task.block([0])
    assert batch is not None and not errors
    assert batch.inputs.device.type == "cpu"
    assert batch.predicted == [int(classifier(batch.inputs).argmax())]


def test_a_first_parameter_on_meta_decides_nothing(make_clip, make_images, tokenizer) -> None:
    """A part that is not used may never have been loaded."""
    model, _ = make_clip(seed=1)
    images = make_images(model, batch=2)
    expected = CCI(ZeroShotClassifier(model, tokenizer, NAMES)).attribute(images, 0)
    model.unused = nn.Parameter(torch.empty(1, device="meta"))
    _first(model._parameters, "unused")
    assert next(model.parameters()).device.type == "meta"
    found = CCI(ZeroShotClassifier(model, tokenizer, NAMES)).attribute(images, 0)
    assert torch.equal(found, expected)


def _first(values: dict[str, Any], name: str) -> None:
    """Move an entry to the front."""
    others = {key: value for key, value in values.items() if key != name}
    first = values[name]
    values.clear()
    values |= {name: first} | others
