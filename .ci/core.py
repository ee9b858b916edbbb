"""What cci-captum does where nothing but its own requirements is installed; writes photo.png."""

from importlib.util import find_spec

import numpy as np
import torch
from PIL import Image

from cci_captum import CCI, ZeroShotClassifier, load_clip
from cci_captum.baselines import GradECLIP
from cci_captum.benchmarks.faithfulness import DeletionInsertion
from cci_captum.html import map_view

extras = ("pandas", "pyarrow", "sentencepiece", "google.protobuf", "faiss")
found = [name for name in extras if find_spec(name.partition(".")[0])]
assert not found, f"a required package brought {', '.join(found)}: this checks nothing"

clip = load_clip("tiny")
pixels = torch.rand(12, 12, 3, generator=torch.Generator().manual_seed(0)).mul(255).byte()
photo = Image.fromarray(pixels.numpy()).resize((120, 96))
photo.save("photo.png")
images = torch.stack([clip.preprocess(photo)])
classifier = ZeroShotClassifier(clip.model, clip.tokenizer, ["a cat", "a dog"])
for method in (CCI, GradECLIP):
    attributions = method(classifier).attribute(images, target=0)
    assert attributions.shape == images.shape and attributions.std() > 0, method
curves = DeletionInsertion(classifier, "tokens")(images, attributions, target=0)
assert curves.deletion.score.isfinite().all()
assert "<script>" in map_view([photo], {"a cat": [np.eye(4)]})  # its files are in the wheel
print("explained", *attributions.shape)
