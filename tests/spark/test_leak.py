"""A leak between the sides of a split, planted: the page tells it, and what is left is the truth."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirabelle.pipeline import Job

# Labels are drawn, so whoever is honest is right half the time.
TRUTH = 0.5
LEARNT, FRESH, COPIED = 120, 100, 60


def blocks(random: np.random.Generator) -> np.ndarray:
    return random.integers(0, 256, (4, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Pictures of nothing in two labels; of those judged on some are copies of learnt ones, slightly changed.

    Copies have the registration of what they are of; source ``ap`` has the label ``a`` alone.
    """
    random, root = np.random.default_rng(5), tmp_path / "leaking"
    for number in range(LEARNT):
        label, pixels = "ab"[number % 2], blocks(random)
        source = "ap" if label == "a" and number < 60 else "web"
        save(pixels, root / "Training" / label / source / f"R{number}" / "one.png")
        if number < COPIED:
            changed = pixels + random.integers(-4, 5, pixels.shape)
            save(changed, root / "Test" / label / "web" / f"R{number}" / "two.png")
    for number in range(FRESH):
        source = "ap" if number % 2 == 0 and number < 40 else "web"
        save(blocks(random), root / "Test" / "ab"[number % 2] / source / f"F{number}" / "one.png")
    return root


def test_it_is_told_and_the_honest_figure_is_the_truth(
    pipeline: Callable[..., Job], leaking: Path, tmp_path: Path
) -> None:
    layout = "images.layout={split}/{label}/{source}/{registration}/{name}"
    # At four fifths of the variance a random network's features are a few numbers, and much looks the same.
    settings = ["reduce.components=40", "classify.features=full", "classify.params={regParam: 0.0001}"]
    job = pipeline(f"images.root={leaking}", layout, *settings)
    facts = json.loads(Path(job.folder("classifier"), "classifier.json").read_text())
    assert facts["metrics"]["accuracy"] > TRUTH + 0.1
    page = Path(dict(job.summary)["report"]).read_text()
    told = re.findall(r"<p>([\d,]+) of 160 images judged on ([^.]*).*?Without them accuracy is ([\d.]+)", page, re.S)
    found = {
        kind: (int(rows), float(accuracy) / 100)
        for rows, sentence, accuracy in told
        for kind in ("almost the same", "registration", "source")
        if kind in sentence
    }
    assert set(found) == {"almost the same", "registration", "source"}, told
    assert found["almost the same"][0] == pytest.approx(COPIED, abs=6)
    assert found["registration"][0] == COPIED
    assert found["source"][0] == 20
    noise = 2 * (TRUTH * (1 - TRUTH) / FRESH) ** 0.5
    for kind in ("almost the same", "registration"):
        assert abs(found[kind][1] - TRUTH) < noise, found
