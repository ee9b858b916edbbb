"""Without the packages of the extras: what works all the same, and what the rest says."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from packaging.requirements import Requirement
from PIL import Image

from cci_captum._extras import _EXTRAS, MissingExtraError, needed_by

COMMAND = "import sys; from cci_captum.benchmarks.cli import main; sys.exit(main(sys.argv[1:]))"


def without(packages: list[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A new process in which these packages cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({packages}))\n"
    command = [sys.executable, "-c", block + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def extras() -> dict[str, set[str]]:
    """The packages of each extra, as setup.cfg has them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return {
        name: {Requirement(line).name for line in lines.split()}
        for name, lines in config["options.extras_require"].items()
    }


@pytest.mark.parametrize(
    ("package", "code", "message"),
    [
        (
            "pandas",
            "from cci_captum.benchmarks.comparison import compare",
            'compare needs pandas: pip install "cci-captum[benchmark]"',
        ),
        (
            "pyarrow",
            "from cci_captum.benchmarks.comparison import FolderStore",
            'compare needs pyarrow: pip install "cci-captum[benchmark]"',
        ),
        (
            "scipy",
            "import cci_captum.benchmarks.statistics",
            'cci_captum.benchmarks.statistics needs scipy: pip install "cci-captum[benchmark]"',
        ),
    ],
)
def test_a_missing_extra_is_named(package: str, code: str, message: str) -> None:
    done = without([package], code)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"cci_captum._extras.MissingExtraError: {message}"


@pytest.mark.exhaustive
def test_data_need_no_extra() -> None:
    done = without([*_EXTRAS], "from cci_captum.benchmarks.data import SOURCES")
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
@pytest.mark.parametrize(("command", "missing"), [("compare", ["pandas"]), ("demo", [*_EXTRAS])])
def test_a_command_says_it_in_one_line(command: str, missing: list[str], tmp_path: Path) -> None:
    done = without(missing, COMMAND, command, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        'cci-captum: error: compare needs pandas: pip install "cci-captum[benchmark]"\n'
    )
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_other_errors_of_an_import_stay_as_they_are() -> None:
    missing = pytest.raises(ModuleNotFoundError, match=r"^No module named 'nowhere'$")
    with missing, needed_by("compare"):
        import nowhere
    with pytest.raises(ImportError, match="cannot import name") as caught, needed_by("compare"):
        from pandas import nowhere  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)


def test_the_extras_named_are_those_of_setup_cfg() -> None:
    known = extras()
    brought = {
        package.removesuffix("-cpu"): extra
        for extra in ("faiss", "benchmark", "hf")
        for package in known[extra]
    }
    assert brought == _EXTRAS


def test_all_is_every_extra_but_the_other_faiss() -> None:
    known = extras()
    assert known["all"] == known["faiss"] | known["benchmark"] | known["hf"]
    assert known["benchmark"] | known["hf"] < known["test"] < known["dev"]
    assert not known["faiss"] & known["test"]  # with a GPU the other one is installed


@pytest.mark.exhaustive  # a process that imports everything
def test_what_needs_no_extra_works_without(tmp_path: Path) -> None:
    photo, picture = tmp_path / "photo.png", tmp_path / "maps.png"
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    code = """
import torch
from cci_captum import CCI, ZeroShotClassifier, load_clip
from cci_captum.baselines import METHODS
from cci_captum.benchmarks.cli import main
from cci_captum.benchmarks.faithfulness import DeletionInsertion

clip = load_clip("tiny")
classifier = ZeroShotClassifier(clip.model, clip.tokenizer, ["a cat", "a dog"], "{}")
images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
few = {"rise": {"n_masks": 8}, "m2ib": {"steps": 1}, "cluster-lime": {"n_samples": 8},
       "cluster-kernelshap": {"n_samples": 8}, "shapley-cci": {"n_samples": 44}}
for name, method in METHODS.items():
    given = {"masks": images[:, 0] > 0.5} if method.needs_masks else {}
    maps = method(classifier, **few.get(name, {})).attribute(images, target=1, **given)
    assert maps.shape == images.shape, name
curves = DeletionInsertion(classifier, "tokens")(images, maps[:, 0], 1)
assert curves.deletion.score.isfinite().all()
try:
    curves.to_frame()
except ImportError as error:
    print(error)
photo, picture = sys.argv[1:]
for arguments in (
    ["explain", photo, "--text", "a cat", "--out", picture], ["methods"], ["env"],
):
    assert main(arguments) == 0, arguments
for command in ("demo", "explain", "compare", "methods", "env"):
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert not end.code, command
"""
    done = without([*_EXTRAS, "google.protobuf"], code, str(photo), str(picture))
    assert done.returncode == 0, done.stderr
    assert 'to_frame needs pandas: pip install "cci-captum[benchmark]"' in done.stdout
    assert picture.stat().st_size > 0
