"""Draw the planted triggers (Figure 2) and the recovered ones (Figure 3), into figures/.

python benchmarks/paper_a/figures.py mnist-short
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.paper_a.federations import SHAPES, branches
from benchmarks.paper_a.lines import load
from benchmarks.paper_a.measuring import METHODS, SHOWN, TRIGGERS
from benchmarks.paper_a.paper import METHODS as NAMES
from benchmarks.paper_a.scales import SCALES, Scale
from benchmarks.paper_a.training import images_of, runs_of

from fedmend.checkpoints import read_patch
from fedmend.triggers import trigger_from_table

HERE = Path(__file__).resolve().parent
SIDE = 1.1


def figure_2(scale: Scale) -> Figure:
    """Each planted trigger on black, and on a test image."""
    named = {each.name: each for each in branches(scale, runs_of(scale))}
    triggers = [
        trigger_from_table(named[f"{kind}-{shape}-0"].config.attack[0].trigger, scale.image_shape)
        for kind in ("sba", "dba")
        for shape in SHAPES
    ]
    clean = images_of(scale.dataset)[1].images[0].float() / 255
    figure = Figure((SIDE * len(triggers), SIDE * 2), layout="constrained")
    axes = figure.subplots(2, len(triggers))
    for column, trigger in enumerate(triggers):
        for row, image in enumerate((torch.zeros_like(clean), clean)):
            show(axes[row, column], trigger.apply(image[None])[0])
    return figure


def figure_3(scale: Scale) -> Figure:
    """What each method recovered of the plus signs, mask times pattern: SBA above, DBA below."""
    judged = {(line["name"], line["method"]) for line in load(scale.name) if line["level"] is None}
    figure = Figure((SIDE * len(METHODS), SIDE * len(SHOWN) + 0.3), layout="constrained")
    axes = figure.subplots(len(SHOWN), len(METHODS))
    for row, name in enumerate(SHOWN):
        for column, method in enumerate(METHODS):
            file = TRIGGERS / f"{scale.name}-{name}-{method}.safetensors"
            axis = axes[row, column]
            if row == 0:
                axis.set_title(NAMES.get(method, method), fontsize=7)
            if file.exists():
                patch = read_patch(file)
                show(axis, patch.mask * patch.pattern)
            else:
                text = "no patch" if (name, method) in judged else "not run"
                axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=7)
                axis.set_axis_off()
    return figure


def show(axis: Axes, image: Tensor) -> None:
    """Draw an image (C, H, W) in [0, 1]."""
    pixels = image.clamp(0, 1).permute(1, 2, 0)
    axis.imshow(pixels.expand(-1, -1, 3).numpy(), interpolation="nearest")
    axis.set_axis_off()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scale", choices=SCALES)
    scale = SCALES[parser.parse_args().scale]
    mpl.rcParams["svg.hashsalt"] = "fedmend"
    folder = HERE / "figures"
    folder.mkdir(exist_ok=True)
    for number, draw in ((2, figure_2), (3, figure_3)):
        draw(scale).savefig(folder / f"figure-{number}-{scale.name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
