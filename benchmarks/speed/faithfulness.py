"""What deletion and insertion cost in plain forward passes of the same batch.

Times, in one process and in turn, as many plain forward passes as a protocol has points in both
directions, `DeletionInsertion` by each protocol, and a loop as one writes it by hand: image by
image and point by point, pixels painted in NumPy.

    python -m cci_captum.benchmarks.speed.faithfulness --model ViT-B-32 --batch-size 8
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import open_clip
import torch
from torch import Tensor

from cci_captum.benchmarks.faithfulness import PROTOCOLS, DeletionInsertion
from cci_captum.benchmarks.speed.timing import ImageScores, median_seconds


def _by_hand(forward_func: ImageScores, images: Tensor, maps: Tensor) -> None:
    """Deletion with noise and insertion from black, 11 points each, an image at a time."""
    rng = np.random.default_rng(0)
    for image, one in zip(images.cpu().numpy(), maps.cpu().numpy(), strict=True):
        order = np.argsort(-one, axis=None)
        noise, black = rng.standard_normal(image.shape), np.zeros_like(image)
        for before, after in ((image, noise), (black, image)):
            for fraction in PROTOCOLS["grad-eclip"].fractions:
                first = np.unravel_index(order[: round(fraction * order.size)], one.shape)
                painted = before.copy()
                painted[:, first[0], first[1]] = after[:, first[0], first[1]]
                forward_func(torch.from_numpy(painted)[None].to(images))


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32", help="open_clip model name (random weights)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    model = open_clip.create_model(args.model).to(device).eval()
    forward_func = ImageScores(model.visual, model.visual.output_dim).to(device)
    images = torch.randn(args.batch_size, 3, *model.visual.image_size, device=device)
    maps = torch.rand(args.batch_size, *model.visual.grid_size, device=device)
    pixel_maps = torch.rand(args.batch_size, *model.visual.image_size, device=device)

    def plain() -> None:
        for _ in range(22):
            forward_func(images)

    def harness(name: str) -> Callable[[], object]:
        return lambda: DeletionInsertion(forward_func, name)(images, maps, target=0)

    with torch.no_grad():
        seconds = median_seconds(
            {
                "22 plain passes": plain,
                **{f'DeletionInsertion, "{name}"': harness(name) for name in PROTOCOLS},
                "by hand, image by image": lambda: _by_hand(forward_func, images, pixel_maps),
            },
            args.repeats,
            device,
        )
    reference = next(iter(seconds.values()))
    print(f"{args.model}, {args.batch_size} images, {device}, fp32,")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.repeats} repeats\n")
    print(f"{'':36}{'seconds':>10}{'ratio':>8}")
    for name, value in seconds.items():
        print(f"{name:36}{value:10.3f}{value / reference:8.2f}")


if __name__ == "__main__":
    main()
