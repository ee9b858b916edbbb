"""Explaining in several threads at once: as good as in one, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oracles
import pytest
import torch
from families import FAMILIES
from helpers import close
from selection import quick_first
from torch import Tensor, nn

from cci_captum import CCI, KMeans, find_vision_tower
from cci_captum.baselines import GAME, ClusterLime, GradCAM, GradECLIP
from cci_captum.vision_towers.hooks import eager

SECONDS = 20  # after which a thread that waits for the other gives up

NAMES = ["open_clip ViT, class token", "timm Eva, rotary", "transformers SiglipModel"]
METHODS: dict[str, Callable[..., Any]] = {
    "CCI, mask": lambda *of: CCI(*of, clustering=KMeans(3)),
    "CCI, drop": lambda *of: CCI(*of, clustering=KMeans(3), hide="drop"),
    "Grad-ECLIP": GradECLIP,
    "GAME": lambda *of: GAME(*of, layers="all"),
    "GradCAM": GradCAM,
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(functions)) as pool:
        return [job.result() for job in [pool.submit(function) for function in functions]]


def compiles() -> bool:
    """Whether torch.compile compiles what it has not seen yet."""
    seen = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append(graph)
        return graph.forward

    torch._dynamo.reset()
    torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2))
    return bool(seen)


def same_map(actual: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0
    close(actual, expected)


def explained(name: str, method: str, model: nn.Module, seed: int) -> Callable[[], Tensor]:
    """A call of a method on images of this seed."""
    family = FAMILIES[name]

    def forward(images: Tensor) -> Tensor:
        return family.run(model, images)

    explain = METHODS[method](forward, model)
    return lambda: explain.patch_map(family.images(3, seed), target=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_two_threads_explain_the_same_model(name: str, method: str) -> None:
    """In step: each pass of one thread is in the midst of a pass of the other."""
    model = FAMILIES[name].make(2)
    calls = [explained(name, method, model, seed) for seed in (0, 1)]
    alone = [call() for call in calls]
    together = threading.Barrier(2, timeout=SECONDS)
    tower = find_vision_tower(model)

    def wait(barrier: threading.Barrier) -> None:
        barrier.wait()

    for index in (0, -1):
        tower.block(index).module.register_forward_pre_hook(lambda *_: wait(together))
    for found, expected in zip(in_threads(*calls), alone, strict=True):
        same_map(found, expected)


@torch.no_grad()
def test_patches_are_hidden_from_the_thread_that_hides_them_alone() -> None:
    family = FAMILIES[NAMES[0]]
    model, images = family.make(2), family.images(2)
    plain = family.run(model, images)
    mask = torch.rand(2, 15, generator=torch.Generator().manual_seed(0)) < 0.5
    tower = find_vision_tower(model)

    def hidden() -> Tensor:
        with torch.no_grad(), tower.hide(~mask):
            return family.run(model, images)

    expected = hidden()
    with tower.hide(mask):
        found, seen = in_threads(hidden, torch.no_grad()(lambda: family.run(model, images)))
    same_map(found, expected)
    same_map(seen, plain)
    assert oracles.relative_error(found, plain) > 1e-2


@torch.no_grad()
def test_a_forward_func_that_runs_the_model_in_another_thread() -> None:
    family = FAMILIES[NAMES[0]]
    model = family.make(2)

    def forward(images: Tensor) -> Tensor:
        return in_threads(torch.no_grad()(lambda: family.run(model, images)))[0]

    for method in (CCI, GradECLIP):
        with pytest.raises(RuntimeError, match=r"did not run the vision tower .*same thread"):
            method(forward, model).attribute(family.images(2), target=0)


@pytest.mark.parametrize("leaves_first", [0, 1])
def test_the_stance_of_the_compiler_is_restored(leaves_first: int) -> None:
    assert compiles()
    entered = [threading.Event(), threading.Event()]
    left = threading.Event()

    def call(number: int) -> bool:
        if number == 1:
            entered[0].wait(SECONDS)
        with eager():
            entered[number].set()
            entered[1].wait(SECONDS)
            if number != leaves_first:
                left.wait(SECONDS)
        left.set()
        return True

    assert all(in_threads(lambda: call(0), lambda: call(1)))
    assert compiles()


@pytest.mark.parametrize("models", quick_first(["the same", "two"]))
def test_two_threads_explain_compiled_models(models: str) -> None:
    name = NAMES[0]
    first = FAMILIES[name].make(2)
    second = first if models == "the same" else FAMILIES[name].make(3)
    calls = [
        explained(name, method, model, seed)
        for seed, (method, model) in enumerate([("CCI, mask", first), ("Grad-ECLIP", second)])
    ]
    alone = [call() for call in calls]
    for model in (first, second)[: 1 if first is second else 2]:
        find_vision_tower(model).block(-1).module.compile(backend="eager")
        FAMILIES[name].run(model, FAMILIES[name].images(3))
    for found, expected in zip(in_threads(*calls), alone, strict=True):
        same_map(found, expected)
    assert compiles()


def test_the_random_state_is_left_alone() -> None:
    """LIME draws with the process's generator, one thread after the other."""
    family = FAMILIES[NAMES[0]]
    model = family.make(2)
    both = threading.Barrier(2, timeout=0.02)

    def forward(images: Tensor) -> Tensor:
        try:
            both.wait()  # a pass of the other, if it draws meanwhile
        except threading.BrokenBarrierError:
            both.reset()
        return family.run(model, images)

    def call() -> Tensor:
        explain = ClusterLime(forward, model, clustering=KMeans(3), n_samples=3)
        return explain.patch_map(family.images(1), target=0)

    alone = call()
    torch.manual_seed(5)
    expected = torch.random.get_rng_state()
    for found in in_threads(call, call):
        same_map(found, alone)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_faiss_keeps_its_threads() -> None:
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    of_threads = in_threads(faiss.omp_get_max_threads)[0]
    points = torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(0))
    kmeans = KMeans(3, backend="faiss")
    expected = kmeans(points)
    found = in_threads(*[lambda: kmeans(points)] * 3)
    assert all(torch.equal(labels, expected) for labels in found)
    assert faiss.omp_get_max_threads() == before
    assert in_threads(faiss.omp_get_max_threads)[0] == of_threads


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_checkpointed_blocks_on_a_gpu() -> None:
    """Autograd runs them again in a thread of its own, with the hooks of the thread that asked."""
    family = FAMILIES["timm ViT, class token"]
    model, images = family.make(2).cuda(), family.images(2).cuda()
    methods = [GAME(model, layers="all"), GradECLIP(model)]
    expected = [method.patch_map(images, target=1) for method in methods]
    model.set_grad_checkpointing(True)
    for method, plain in zip(methods, expected, strict=True):
        same_map(method.patch_map(images, target=1), plain)
