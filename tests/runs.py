"""Words of `cci-captum run compare` and the tables that it leaves, for tests of commands."""

from __future__ import annotations

from pathlib import Path

from cci_captum.benchmarks import cli

ASKED = ["--method", "gradcam", "--protocol", "tokens", "--ties", "none", "--batch-size", "2"]
TABLES = ["curves", "errors", "failures", "maps", "results", "samples"]


def run(*words: object) -> int:
    return cli.main(["run", *map(str, words)])


def compare(out: Path, *more: object) -> list[object]:
    return ["compare", "--device", "cpu", "--n", 6, *ASKED, "--out", out, *more]


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / f"{name}.parquet").read_bytes() for name in TABLES}
