from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import planted
from fedmend.cli import case_loading
from fedmend.cli.case_loading import LoadedCase, choose_images, load_case
from fedmend.cli.data_options import DataChoice
from fedmend.cli.model_options import ModelChoice
from fedmend.data import ImageSet, load_images, open_images, stratified
from fedmend.errors import CheckpointError, DataError
from fedmend.seeds import generator


def loaded(files: Any, reference: bool = True, count: int | None = None, seed: int = 3) -> LoadedCase:
    suspect, other = Path(files.model("clean")), Path(files.model("reference"))
    return load_case(
        suspect,
        other if reference else None,
        ModelChoice(planted.ARCHITECTURE),
        DataChoice(files.images, count=count),
        "cpu",
        seed,
    )


def same(first: ImageSet, second: ImageSet) -> bool:
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


def test_a_case_holds_both_models_and_the_images_of_its_seed(files: Any, world: planted.World) -> None:
    case, everything = loaded(files, count=80), load_images(files.images)
    for model, original in ((case.suspect, world.clean), (case.reference, world.reference)):
        assert model is not None
        assert not model.training
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), original.parameters(), strict=True))
    assert same(case.chosen, everything.subset(stratified(everything, 80, generator(3, "images"))))
    assert torch.bincount(case.chosen.labels).tolist() == [20, 20, 20, 20]
    assert case.chosen.class_names == planted.NAMES
    assert not same(case.chosen, loaded(files, count=80, seed=4).chosen)


def test_a_case_without_a_reference(files: Any) -> None:
    assert loaded(files, reference=False).reference is None


def test_the_options_about_a_file_apply_to_the_suspect_and_not_to_a_plain_reference(
    files: Any, world: planted.World, tmp_path: Path
) -> None:
    averaged = {f"net.{name}": value for name, value in world.backdoored.state_dict().items()}
    state = {f"raw.{name}": value for name, value in world.clean.state_dict().items()} | averaged
    torch.save({"a": state, "b": state | {"raw.0.bias": torch.zeros(8)}}, tmp_path / "m.pt")
    choice = ModelChoice(planted.ARCHITECTURE, key="a", strip_prefix="net.")
    reference = Path(files.model("reference"))
    case = load_case(tmp_path / "m.pt", reference, choice, DataChoice(files.images), "cpu", 3)
    assert all(map(torch.equal, case.suspect.parameters(), world.backdoored.parameters()))


def test_repair_images_are_drawn_by_a_seed_of_their_own(files: Any) -> None:
    case, everything = loaded(files), load_images(files.images)
    expected = everything.subset(stratified(everything, 40, generator(3, "repair images")))
    assert same(case.repair_images(40, 3), expected)
    assert same(case.repair_images(1000, 3), everything)


def test_only_the_chosen_images_are_decoded(files: Any, tmp_path: Path) -> None:
    """Values that are no pixels in all the others do no harm."""
    with np.load(files.images) as given:
        labels = given["labels"]
        pixels = given["images"] / 255.0
    chosen = stratified(open_images(files.images), 80, generator(0, "images")).numpy()
    others = np.setdiff1d(np.arange(len(labels)), chosen)
    pixels[others] = 7.0
    np.savez(tmp_path / "spoiled.npz", images=pixels, labels=labels)
    images = open_images(tmp_path / "spoiled.npz")
    assert torch.equal(choose_images(images, 80, 0).images, load_images(files.images).images[chosen])
    with pytest.raises(DataError, match="divide"):
        choose_images(images, 100, 0)


@pytest.mark.parametrize(
    ("classes", "available", "count"),
    [(2, 100, 80), (2, 30, 30), (2, 10, 10), (43, 1000, 600), (220, 700, 660)],
)
def test_the_default_number_of_images(classes: int, available: int, count: int) -> None:
    """40 per class, at most 600, at least three per class, and what there is."""
    labels = torch.arange(available) % classes
    names = tuple(str(index) for index in range(classes))
    images = ImageSet(torch.zeros(available, 1, 2, 2, dtype=torch.uint8), labels, names)
    assert len(choose_images(images, None, 0)) == count


def test_the_choice_of_images_is_passed_on(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices: list[DataChoice] = []

    def record(*given: Any) -> None:
        choices.append(next(each for each in given if isinstance(each, DataChoice)))
        raise DataError("seen")

    monkeypatch.setattr("fedmend.cli.scan_command.load_case", record)
    (tmp_path / "classes.txt").write_text("b\na\n")
    scan = files.scan(files.model("clean"), tmp_path / "out")
    for size in ("24", "24x32"):
        run([*scan, "--resize", size, "--classes", str(tmp_path / "classes.txt")])
    assert [each.resize for each in choices] == [(24, 24), (24, 32)]
    assert choices[0].classes == ("b", "a")


def test_images_are_scaled_and_classes_ordered(files: Any) -> None:
    order = planted.NAMES[::-1]
    choice = DataChoice(files.images, resize=(planted.SIDE, planted.SIDE), classes=order)
    suspect = Path(files.model("clean"))
    case = load_case(suspect, None, ModelChoice(planted.ARCHITECTURE), choice, "cpu", 0)
    assert case.to_scan().class_names == order
    wrong = replace(choice, resize=(planted.SIDE, 2 * planted.SIDE))
    with pytest.raises(CheckpointError, match="for other images"):
        load_case(suspect, None, ModelChoice(planted.ARCHITECTURE), wrong, "cpu", 0)


@pytest.mark.parametrize("size", ["", "x", "24x", "-3", "3x4x5", "2.5"])
def test_sizes_that_can_not_be_used(
    refused: Callable[..., None], files: Any, tmp_path: Path, size: str
) -> None:
    refused([*files.scan(files.model("clean"), tmp_path / "out"), "--resize", size], "expected a height")


def test_fewer_images_of_a_model_that_costs_much() -> None:
    images = ImageSet(torch.zeros(700, 1, 4, 4, dtype=torch.uint8), torch.arange(700) % 2, ("a", "b"))
    assert case_loading._affordable(images, 10**9) == 700
    assert case_loading._affordable(images, 2 * 10**10) == 100
    assert case_loading._affordable(images, 10**15) == 10


def test_fewer_large_images() -> None:
    images = ImageSet(torch.zeros(20, 1, 2048, 2048, dtype=torch.uint8), torch.arange(20) % 2, ("a", "b"))
    assert case_loading._affordable(images, 1) == 16
