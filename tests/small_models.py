"""Small random open_clip models, and images and texts to go with them; how many threads run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers import NAMES
from open_clip import CLIP, CustomTextCLIP
from oracles import Spec
from torch import Tensor
from toy import CONTEXT_LENGTH, EMBEDDING, VOCABULARY, ToyTokenizer, randomize

from cci_captum import ZeroShotClassifier

# Tensors as small as the tests' only lose by threads, most of all on a busy machine.
THREADS = int(os.environ.get("CCI_CAPTUM_TEST_THREADS", "1"))
torch.set_num_threads(THREADS)


@pytest.fixture
def no_shared_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What forked processes share is not asked for: one that is killed would stop the others."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a lock that all forked processes share")

    monkeypatch.setattr("tqdm.std.TqdmDefaultWriteLock.acquire", refuse)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For all tests of a module, from the first on: of what is compared bit by bit."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True)
def same_number_of_threads() -> Iterator[None]:
    """Programs under test set it for their process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _make_clip(
    seed: int = 0,
    *,
    quick_gelu: bool = False,
    logit_bias: float | None = None,
    custom_text: bool = False,
    **vision: Any,
) -> tuple[CLIP | CustomTextCLIP, Spec]:
    """An open_clip model in eval mode, and its Spec; ``vision`` overrides the vision config."""
    cfg = {
        "layers": 3,
        "width": 32,
        "head_width": 8,
        "patch_size": 8,
        "image_size": 32,
        "mlp_ratio": 2.0,
    }
    cfg |= vision
    text = {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": VOCABULARY,
        "width": 16,
        "heads": 2,
        "layers": 2,
    }
    make = CustomTextCLIP if custom_text else CLIP
    model = make(EMBEDDING, cfg, text, quick_gelu=quick_gelu, init_logit_bias=logit_bias)
    randomize(model, seed)
    spec = Spec(
        vision_heads=cfg["width"] // cfg["head_width"],
        text_heads=2,
        pool=cfg.get("pool_type", "tok"),
        final_ln_after_pool=cfg.get("final_ln_after_pool", False),
        quick_gelu=quick_gelu,
        eps=(cfg.get("norm_kwargs") or {}).get("eps", 1e-5),
    )
    return model.eval(), spec


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., tuple[Any, Spec]]:
    """The factory of small random models: ``model, spec = make_clip(seed, pool_type="avg")``."""
    return _make_clip


@pytest.fixture(scope="session")
def make_images() -> Callable[..., Tensor]:
    """The factory of images (B, 3, H, W) of the model's size, standard normal, seeded."""

    def make(model: Any, batch: int = 3, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(1000 + seed)
        return torch.randn(batch, 3, *model.visual.image_size, generator=generator)

    return make


@pytest.fixture(scope="session")
def tokenizer() -> ToyTokenizer:
    """Maps a list of strings to token ids (n, 12) int64."""
    return ToyTokenizer()


# What a test gets that asks for no other: its own, to do with as it likes.


@pytest.fixture
def model(make_clip: Callable[..., tuple[Any, Spec]]) -> Any:
    return make_clip(seed=8)[0]


@pytest.fixture
def images(make_images: Callable[..., Tensor], model: Any) -> Tensor:
    """Four of the model's size."""
    return make_images(model, batch=4, seed=9)


@pytest.fixture
def classifier(model: Any, tokenizer: ToyTokenizer) -> ZeroShotClassifier:
    return ZeroShotClassifier(model, tokenizer, NAMES)
