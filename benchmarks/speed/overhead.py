"""What CCI costs in plain forward passes of the same batch.

Times, in one process and in turn, K + 1 plain forward passes of a batch, CCI on that batch in
each of its settings, CCI on `ImageTextSimilarity` with a text an image, whose text encoder is no
part of the plain passes, and image-by-image code with scikit-learn's K-means as a reader of the
paper would write it. Prints ratios: absolute times differ between machines, ratios less so.

    python -m cci_captum.benchmarks.speed.overhead --model ViT-B-32 --batch-size 8 --dtype bfloat16
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import open_clip
import torch
from torch import Tensor

from cci_captum import CCI, ImageTextSimilarity, KMeans
from cci_captum.vision_towers import find_vision_tower

from .timing import ImageScores, add_options, describe, median_seconds, set_up


def _image_by_image(forward_func: ImageScores, images: Tensor, n_clusters: int) -> None:
    """The loop that a reader of the paper writes: one image, one cluster, one pass at a time."""
    from sklearn.cluster import KMeans as SklearnKMeans

    tower = find_vision_tower(forward_func)
    for image in images:
        with tower.record(-1) as recording:
            forward_func(image[None])
        embeddings = recording.tokens[0].float().cpu().numpy()
        labels = SklearnKMeans(n_clusters, n_init=3, random_state=0).fit_predict(embeddings)
        for cluster in range(n_clusters):
            mask = torch.from_numpy(labels == cluster)[None].to(images.device)
            with tower.hide(mask):
                forward_func(image[None])


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=5)
    parser.add_argument("--clusters", type=int, default=7)
    args = parser.parse_args(argv)
    forward_func, _, images = set_up(args)

    def plain() -> None:
        for _ in range(args.clusters + 1):
            forward_func(images)

    def cci(hide: str, batch_size: int | None = None) -> Callable[[], object]:
        method = CCI(forward_func, clustering=KMeans(args.clusters), hide=hide)  # type: ignore[arg-type]
        return lambda: method.effects(images, internal_batch_size=batch_size)

    similarity = CCI(ImageTextSimilarity(forward_func.model), clustering=KMeans(args.clusters))
    tokenizer = open_clip.get_tokenizer(args.model)
    texts = tokenizer([f"photo {index}" for index in range(len(images))]).to(images.device)

    with torch.no_grad():
        seconds = median_seconds(
            {
                f"{args.clusters + 1} plain passes": plain,
                "CCI, mask": cci("mask"),
                "CCI, mask, in one batch": cci("mask", args.batch_size * args.clusters),
                "CCI, drop": cci("drop"),
                "CCI, mask, a text an image": lambda: similarity.effects(images, texts),
                "image by image, scikit-learn": lambda: _image_by_image(
                    forward_func, images, args.clusters
                ),
            },
            args.repeats,
            images.device,
        )
    reference = next(iter(seconds.values()))
    print(f"{describe(args)}; K = {args.clusters}\n")
    print(f"{'':32}{'seconds':>10}{'ratio':>8}")
    for name, value in seconds.items():
        print(f"{name:32}{value:10.3f}{value / reference:8.2f}")


if __name__ == "__main__":
    main()
