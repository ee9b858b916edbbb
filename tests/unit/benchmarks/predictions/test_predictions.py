"""Predictions as a run, against the model asked image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import cci_captum
from cci_captum.benchmarks.comparison import FolderStore
from cci_captum.benchmarks.data import ImageFolders, ImageNet, MapStyle, ObjectVariants, Scenes
from cci_captum.benchmarks.predictions import (
    PredictionRun,
    check_recogniser,
    load_recogniser,
)

WNIDS = ("n01440764", "n01443537", "n02123045", "n15075141")
PLACES = (0, 1, 281, 999)


@pytest.fixture
def photos(tmp_path: Path) -> ImageNet:
    """Five photos, not square; the last but one is damaged."""
    rng = np.random.default_rng(0)
    for number, wnid in enumerate((*WNIDS, WNIDS[2])):
        folder = tmp_path / "photos" / wnid
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40 + number, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    damaged = tmp_path / "photos" / WNIDS[3] / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    return ImageNet(tmp_path / "photos")


@torch.no_grad()
def test_scores_are_the_models_own() -> None:
    clip, scenes = cci_captum.load_clip("tiny"), Scenes(7, artwork="held-out", seed=3)
    model = load_recogniser("tiny")
    classifier = model.classifier(scenes)
    run = PredictionRun(scenes, classifier, model.preprocess, keep_scores=True, batch_size=3)
    table = run.all()
    assert table["index"].tolist() == list(range(7))
    unit = nn.functional.normalize
    ways = [[t.replace("{}", n) for n in scenes.class_names] for t in scenes.templates]
    texts = [unit(clip.model.encode_text(clip.tokenizer(way)).double(), dim=1) for way in ways]
    of_classes = unit(torch.stack(texts).mean(dim=0), dim=1)
    for row in table.itertuples():
        sample = scenes[row.index]
        image = clip.model.encode_image(clip.preprocess(sample.image)[None]).double()
        cosines = of_classes @ unit(image[0], dim=0)
        expected = (cosines * clip.model.logit_scale.exp()).numpy()
        assert np.abs(row.scores - expected).max() < 1e-3
        assert row.scores.dtype == np.float32 and row.scores.shape == (33,)
        assert row.predicted == expected.argmax()
        assert (row.true, row.image, row.status) == (sample.target, sample.name, "")
        assert row.background == sample.facts["background"] and row.source == sample.name


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:test_resnet"])
def test_classifiers_of_imagenet_see_photos_as_their_own_transform_does(
    name: str, photos: ImageNet
) -> None:
    torch.manual_seed(0)
    model = load_recogniser(name, "random")
    assert (model.name, model.family) == (f"{name} random", "imagenet")
    classifier = model.classifier(photos)
    table = PredictionRun(photos, classifier, model.preprocess, keep_scores=True).all()
    if name.startswith("torchvision"):
        transform = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    else:
        config = timm.data.resolve_model_data_config(timm.create_model("test_resnet"))
        transform = timm.data.create_transform(**config, is_training=False)
    assert table["true"].tolist() == [0, 1, 281, 281, 999]
    for row in table.itertuples():
        if row.index == 4:
            assert row.predicted == -1 and row.scores is None and "3.png" in row.status
            continue
        image = photos[row.index].image
        with torch.no_grad():
            expected = classifier(transform(image)[None])[0].double().numpy()
        assert np.abs(row.scores - expected).max() < 1e-3 * np.abs(expected).max()
        assert row.predicted == expected.argmax() and row.status == ""


def test_it_goes_on_from_a_store(photos: ImageNet, tmp_path: Path) -> None:
    class Counting(nn.Module):
        images = 0

        def forward(self, images: Tensor) -> Tensor:
            self.images += len(images)
            return nn.functional.one_hot(torch.arange(len(images)), 1000).float()

    def to_tensor(image: Image.Image) -> Tensor:
        return torchvision.transforms.functional.to_tensor(image.resize((8, 8)))

    model = Counting()
    store = FolderStore(tmp_path / "parts")
    run = PredictionRun(photos, model, to_tensor, batch_size=2)
    first = run.all(store)
    assert model.images == 4 and "scores" not in first
    again = PredictionRun(photos, model, to_tensor, batch_size=2).all(FolderStore(store.folder))
    assert model.images == 4
    pd.testing.assert_frame_equal(first, again)
    (store.folder / sorted(p.name for p in store.folder.glob("*-000001.parquet"))[0]).unlink()
    PredictionRun(photos, model, to_tensor, batch_size=2).all(FolderStore(store.folder))
    assert model.images == 6
    other = PredictionRun(photos, model, to_tensor, batch_size=2, keep_scores=True)
    with pytest.raises(ValueError, match="store: expected results of the same run"):
        other.all(FolderStore(store.folder))


def test_models_of_two_sizes_share_a_folder(tmp_path: Path) -> None:
    """Each sees images that are made at its size: they are of one run all the same."""
    model, store = load_recogniser("tiny"), FolderStore(tmp_path)
    classifier = model.classifier(Scenes(1))
    runs = [
        PredictionRun(
            ObjectVariants(Scenes(2), variants="grey", size=size),
            classifier,
            model.preprocess,
            model=f"of {size}",
        )
        for size in (64, 96)
    ]
    first, second = (run.all(store) for run in runs)
    assert first["image"].tolist() == second["image"].tolist()
    other = PredictionRun(runs[1].task.data, classifier, model.preprocess, model="of 64")
    with pytest.raises(ValueError, match="store: expected results of the same run"):
        store.begin(other.plan)


def test_ties_are_no_prediction() -> None:
    class Same(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 2)

    data = MapStyle([(Image.new("RGB", (4, 4)), 0)], class_names=["a", "b"])
    (row,) = PredictionRun(data, Same(), lambda image: torch.zeros(3, 4, 4)).all().itertuples()
    assert (row.true, row.predicted, row.status) == (0, -1, "")


def test_what_there_is_not(photos: ImageNet, tmp_path: Path) -> None:
    for arguments, said in (
        (("torchvision:resnet5",), "name: unknown model 'resnet5' of torchvision"),
        (("torchvision:resnet50", "V9"), "pretrained: expected weights of torchvision's resnet50"),
        (("timm:nothing_like_it",), "name: unknown model 'nothing_like_it' of timm"),
        (("timm:resnet18.nothing",), "name: unknown weights 'resnet18.nothing' of timm; close"),
        (
            ("timm:vit_base_patch16_224.augreg_in21k",),
            "name: expected a model of timm that scores the 1000 classes of ImageNet, .* 21843",
        ),
        (("timm:test_resnet", "in1k"), "pretrained: expected the tag in timm's name"),
        (("ViT-B-17", "openai"), "name: unknown model 'ViT-B-17'"),
    ):
        with pytest.raises(ValueError, match=said):
            check_recogniser(*arguments)
    model = load_recogniser("torchvision:resnet18", "random")
    (tmp_path / "other" / "cat").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "other" / "cat" / "1.png")
    with pytest.raises(ValueError, match="data: expected the 1000 classes of ImageNet, which"):
        model.classifier(ImageFolders(tmp_path / "other"))
    with pytest.raises(TypeError, match="forward_func: expected a module, got function"):
        PredictionRun(photos, lambda images: images, model.preprocess)
    run = PredictionRun(photos, nn.Flatten(), model.preprocess)
    with pytest.raises(ValueError, match="expected scores of the 1000 classes of ImageNet"):
        run.all()
