"""Training of the embedded tiny CLIP: loss, resuming, enlarging, export."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cci_captum.benchmarks.markdown import table
from cci_captum.benchmarks.scenes import SceneGenerator
from cci_captum.benchmarks.scenes.captions import Vocabulary
from cci_captum.benchmarks.tiny_clip import train
from cci_captum.benchmarks.tiny_clip.evaluate import Rate, crossed
from cci_captum.benchmarks.tiny_clip.export import export, resize_positions
from cci_captum.tiny import CLASS_NAMES, load_tiny, loader

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = train.TrainConfig(
    steps=4, batch_size=4, warmup=2, image_sizes=(32, 96), first_share=0.5, learning_rate=1e-3
)

SHIPPED = {"batch_size": 2, "warmup": 150, "image_sizes": (64, 96), "first_share": 0.9}


def run(folder: Path, *stops: int, config: train.TrainConfig = CONFIG) -> train.Trainer:
    """Train, with a new trainer after every stop, as after a restart."""
    for stop in stops:
        trainer = train.Trainer(config, folder, device="cpu", save_every=1)
        trainer.accuracy = lambda artwork="train", count=0: 0.0  # type: ignore[method-assign]
        trainer.run(until=stop, progress=False)
    return trainer


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> train.Trainer:
    return run(tmp_path_factory.mktemp("run"), CONFIG.steps)


@pytest.mark.exhaustive
def test_a_resumed_run_ends_with_the_same_weights(
    uninterrupted: train.Trainer, tmp_path: Path
) -> None:
    resumed = run(tmp_path, 1, 2, CONFIG.steps)  # the pictures grow at step 2
    assert resumed.step == CONFIG.steps
    expected = uninterrupted.model.state_dict()
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in uninterrupted.history]


def test_a_stop_while_saving_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, 1)

    def stopped(state: object, path: Path) -> None:
        path.write_bytes(b"half a checkpoint")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.torch, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 2)
    assert train.Trainer(CONFIG, tmp_path, device="cpu").step == 1


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 1)
    with pytest.raises(
        ValueError, match=r"config: expected that of the run .*'seed': 0.*'seed': 1"
    ):
        train.Trainer(replace(CONFIG, seed=1), tmp_path, device="cpu")
    with pytest.raises(ValueError, match="variant: expected one of"):
        train.Trainer(replace(CONFIG, variant="other"), tmp_path, device="cpu")


@pytest.mark.exhaustive
def test_the_command_stops_goes_on_and_takes_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.Trainer, "accuracy", lambda *arguments: 0.0)
    weights = tmp_path / "tiny-shortcut.safetensors"
    command = ["--variant", "shortcut", "--batch-size", "2", "--device", "cpu"]
    command += ["--precision", "fp32", "--save-every", "1", "--out", str(tmp_path)]
    train.main([*command, "--steps", "2", "--until", "1"])
    assert not weights.exists()
    train.main([*command, "--steps", "3"])
    assert weights.exists()
    trainer = train.Trainer(replace(CONFIG, variant="shortcut", steps=3, **SHIPPED), tmp_path)
    assert trainer.step == 3
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 3 / 150)


@pytest.mark.exhaustive
def test_an_exported_model_is_the_trained_model(
    uninterrupted: train.Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = uninterrupted.vocabulary
    state = uninterrupted.model.state_dict()
    export(state, words.token_ids, tmp_path / "tiny.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]
    monkeypatch.setattr(loader, "_FOLDER", tmp_path)
    model, _, tokenizer = load_tiny()
    texts = ["a photo of a penguin.", "two strawberries on polka dots"]
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    uninterrupted.model.eval()
    with torch.no_grad():
        for ours, trained in (
            (model.encode_image(images), uninterrupted.model.encode_image(images)),
            (
                model.encode_text(tokenizer(texts)),
                uninterrupted.model.encode_text(words.encode(texts)),
            ),
        ):
            assert torch.allclose(ours, trained, atol=5e-3, rtol=5e-3)  # the file is fp16


def plain_clip_loss(logits: Tensor) -> float:
    """Radford et al. (2021), figure 3, one element at a time."""
    n = len(logits)
    total = 0.0
    for scores in (logits, logits.T):
        for i in range(n):
            denominator = sum(math.exp(float(scores[i, j])) for j in range(n))
            total -= math.log(math.exp(float(scores[i, i])) / denominator)
    return total / (2 * n)


def test_the_loss_is_clips_where_no_caption_repeats() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = train.contrastive_loss(logits, torch.arange(5))
    assert float(loss) == pytest.approx(plain_clip_loss(logits), abs=1e-12)


def test_all_images_of_a_caption_are_its_positives() -> None:
    # Images 0 and 2 share caption 0. The best logits reach the entropy of the targets: 0 from
    # image to text, log 2 for the caption with two images and 0 for the other.
    perfect = torch.tensor([[50.0, -50.0], [-50.0, 50.0], [50.0, -50.0]])
    loss = train.contrastive_loss(perfect, torch.tensor([0, 1, 0]))
    assert float(loss) == pytest.approx((0 + math.log(2) / 2) / 2, abs=1e-6)
    one_left_out = torch.tensor([[50.0, -50.0], [-50.0, 50.0], [-50.0, -50.0]])
    assert train.contrastive_loss(one_left_out, torch.tensor([0, 1, 0])) > 10


def test_enlarging_positions_keeps_the_token_and_the_picture() -> None:
    line = (torch.arange(8.0) + 0.5) / 8
    picture = torch.stack([line[:, None].expand(8, 8), line[None].expand(8, 8)], -1).reshape(64, 2)
    positions = torch.cat([torch.tensor([[7.0, 9.0]]), picture])
    assert torch.equal(resize_positions(positions, 8), positions)
    enlarged = resize_positions(positions, 12)
    assert torch.equal(enlarged[0], positions[0])
    line = (torch.arange(12.0) + 0.5) / 12
    # Bicubic weights are not exact on a ramp, but within a tenth of a step of it.
    inner = enlarged[1:].view(12, 12, 2)[3:-3, 3:-3]
    assert torch.allclose(inner[:, :, 0], line[3:-3, None].expand(6, 6), atol=0.1 / 12)
    assert torch.allclose(inner[:, :, 1], line[None, 3:-3].expand(6, 6), atol=0.1 / 12)


def test_the_vocabulary_holds_every_caption_and_keeps_the_order_of_tokens() -> None:
    words = Vocabulary()
    scenes = SceneGenerator(16, seed=9).scenes(range(500))
    texts = [f"a photo of {scene.caption}." for scene in scenes]
    tokens = words.encode(texts)
    assert torch.equal(words.token_ids[tokens], loader.tokenizer()(texts))
    assert torch.equal(words.token_ids, words.token_ids.sort().values)
    assert int(tokens.max()) == len(words) - 1
    with pytest.raises(ValueError, match=r"texts: expected only words of the vocabulary.*zebra"):
        words.encode(["a zebra"])


def test_the_learning_rate_warms_up_and_falls_to_one_percent() -> None:
    config = train.TrainConfig(steps=1000, warmup=100, learning_rate=1.0)
    assert config.rate(0) == pytest.approx(0.01)
    assert config.rate(99) == config.rate(100) == pytest.approx(1.0)
    assert config.rate(550) == pytest.approx(0.505)
    assert config.rate(1000) == pytest.approx(0.01)


def test_report_helpers() -> None:
    names, behind = crossed(CLASS_NAMES, ["snow", "mud"], 3)
    assert len(names) == len(behind) == 33 * 2 * 3
    assert len(set(zip(names, behind, strict=True))) == 66
    assert table(["a", "b"], [[1, Rate(1, 2)]]).splitlines()[2] == "| 1 | 50.0 (1.3 to 98.7) |"
