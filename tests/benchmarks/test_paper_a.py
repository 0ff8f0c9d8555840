import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.paper_a import federations, readings_table, run, study_tables
from benchmarks.paper_a.captured_training import CapturedTraining
from benchmarks.paper_a.inversion import Inverted, Reading, invert, measured, ssim
from benchmarks.paper_a.lines import above, asr_after, calibrated, rate
from benchmarks.paper_a.mean_reading import MeanReading
from benchmarks.paper_a.scales import SCALES
from benchmarks.paper_a.tables import tables
from benchmarks.paper_a.targets import targets
from torch import nn

from fedmend import Case
from fedmend.errors import DivergedError
from fedmend.local_training import LocalTraining


def line(name: str, method: str, **changes: Any) -> dict[str, Any]:
    kind = name.split("-")[0]
    attacked = kind != "clean"
    made = {
        "scale": "mnist-short",
        "name": name,
        "study": kind,
        "kind": kind,
        "method": method,
        "level": None,
        "target": 4 if attacked else None,
        "verdict": "backdoored" if attacked else "clean",
        "found": [4] if attacked else [],
        "suspicious": 3.0,
        "measures": {"mse": 100.0 if attacked else 1.0, "reasr": 0.95 if attacked else 0.1},
        "seconds": 4.0,
        "cpu_seconds": 2.0,
        "asr": 0.99 if attacked else None,
        "accuracy": 0.985,
        "reference_asr": 0.01 if attacked else None,
        "reference_accuracy": 0.98,
        "commit": "0" * 40,
    }
    if attacked:
        made["repair"] = {"released": True, "asr": 0.005, "accuracy": 0.984}
    return made | changes


def write(folder: Path, lines: list[dict[str, Any]], name: str = "mnist-short.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return folder


def statuses(folder: Path) -> dict[str, str]:
    return {each.name.removeprefix("mnist-short, "): each.status for each in targets(folder)}


@pytest.mark.parametrize("name", SCALES)
def test_a_cell_has_thirty_models_of_each_kind(name: str) -> None:
    scale = SCALES[name]
    made = federations.branches(scale, Path("runs"))
    assert len({each.name for each in made}) == len(made)
    counts = {kind: sum(each.study == kind for each in made) for kind in ("sba", "dba", "clean")}
    assert counts == {"sba": 30, "dba": 30, "clean": 30}
    assert len({each.config.seed for each in made}) == len(made)
    for each in made:
        assert each.backdoored == ("clean" not in each.name)
        assert each.trunk in federations.trunks(scale, Path("runs"))


def test_an_attack_begins_after_its_trunk_and_as_the_paper_says() -> None:
    full = {each.name: each.config for each in federations.branches(SCALES["mnist"], Path("runs"))}
    assert [full[name].federation.rounds for name in ("sba-one-0", "50-0", "100-0")] == [60, 150, 250]
    assert [full[name].attack[0].first_round for name in ("sba-one-0", "50-0", "100-0")] == [21, 57, 94]
    assert full["100-0"].federation.clients_per_round == 30
    assert full["dirichlet-0.1-0"].data.alpha == 0.1
    assert full["from-start-0"].attack[0].first_round == 1
    assert full["from-start-0"].model.start is None


def test_the_first_jobs_are_the_paper_s_method_and_ours_on_each_kind() -> None:
    jobs = list(run.jobs(SCALES["mnist-short"]))
    assert len({job.key for job in jobs}) == len(jobs)
    first = [job.key[:2] for job in jobs[:9]]
    assert first == [
        (name, method)
        for name in ("sba-one-0", "dba-one-0", "clean-0")
        for method in ("contrastive-paper", "mean-reading", "fedmend")
    ]
    assert {run.study_of(job) for job in jobs} == set(run.STUDIES)


def test_what_has_a_line_is_done(tmp_path: Path) -> None:
    assert run.done(tmp_path / "none.jsonl") == set()
    write(tmp_path, [line("sba-one-0", "fedmend"), line("sba-one-0", "fedmend", level=0.4)])
    assert run.done(tmp_path / "mnist-short.jsonl") == {
        ("sba-one-0", "fedmend", None),
        ("sba-one-0", "fedmend", 0.4),
    }


def test_nothing_measured(tmp_path: Path) -> None:
    assert {each.status for each in targets(tmp_path)} == {"not run"}
    assert tables(tmp_path).count("**Not run.**") == 2 + len(SCALES)


@pytest.mark.parametrize(
    ("name", "changes", "missed"),
    [
        ("sba-one-0", {}, set()),
        ("sba-one-0", {"verdict": "clean"}, {"SBA called backdoored"}),
        ("clean-0", {"verdict": "backdoored"}, {"honest models called backdoored"}),
        (
            "dba-one-0",
            {"repair": {"released": True, "asr": 0.0101, "accuracy": 0.984}},
            {"DBA, ASR after repair"},
        ),
        (
            "dba-one-0",
            {"repair": {"released": False}},
            {"DBA, ASR after repair", "accuracy lost by repair"},
        ),
        (
            "sba-one-0",
            {"repair": {"released": True, "asr": 0.0, "accuracy": 0.9819}},
            {"accuracy lost by repair"},
        ),
    ],
)
def test_one_model_is_enough_for_a_miss(
    tmp_path: Path, name: str, changes: dict[str, Any], missed: set[str]
) -> None:
    lines = [line(each, "fedmend") for each in ("sba-one-0", "dba-one-0", "clean-0") if each != name]
    write(tmp_path, [*lines, line(name, "fedmend", **changes)])
    found = statuses(tmp_path)
    assert {target for target, status in found.items() if status == "missed"} == missed
    assert found["white squares up to 12x12, ASR after repair"] == "not run"


def test_an_unreleased_model_keeps_its_asr() -> None:
    assert asr_after(line("sba-one-0", "fedmend")) == pytest.approx(0.5)
    assert asr_after(line("sba-one-0", "fedmend", repair={"released": False})) == pytest.approx(99)
    assert asr_after(line("sba-one-0", "tabor", repair=None)) == pytest.approx(99)


def test_rates_have_exact_intervals() -> None:
    assert rate(30, 30) == "30/30 (88 to 100 %)"
    assert rate(0, 0) == "–"


def test_calibrated_thresholds_lie_above_every_clean_model() -> None:
    clean = [
        line("clean-0", "contrastive-paper", measures={"mse": mse, "reasr": reasr})
        for mse, reasr in ((2.0, 0.3), (40.0, 0.1))
    ]
    assert calibrated(clean) == (40.0, 0.3)
    assert above(clean, *calibrated(clean)) == 0
    attacked = [line("sba-one-0", "contrastive-paper", measures={"mse": 41.0, "reasr": 0.31})]
    assert above(attacked, 40.0, 0.3) == 1
    assert above(attacked, 41.0, 0.3) == above(attacked, 40.0, 0.31) == 0


def test_tables_show_each_part(tmp_path: Path) -> None:
    lines = [
        line(name, method)
        for name in ("sba-one-0", "dba-one-0", "clean-0", "clean-1", "clean-2", "clean-3")
        for method in ("contrastive-paper", "fedmend")
    ]
    lines += [
        line("sba-one-0", "fedmend", level=0.4, verdict="inconclusive"),
        line("size-8-0", "fedmend", study="size"),
        line("50-0", "fedmend", study="clients", kind="sba"),
        line("k-label-0", "fedmend", study="partition", kind="sba"),
        line("clean-k-label-0", "fedmend", study="partition", kind="clean"),
    ]
    text = tables(write(tmp_path, lines))
    assert "**Incomplete**: 1 of 30 sba, 1 of 30 dba, 4 of 30 clean" in text
    assert (
        "| the paper's, as written | 100 % | 1/1 (3 to 100 %) | 100 % | 1/1 (3 to 100 %) | 0/4 (0 to 60 %) | 2/2 |"
        in text
    )
    assert "| 98.0 | – | 1 inconclusive | – | – |" in text
    assert "| 8x8 | 99.00 | fails |" in text
    assert "| 50 | 99.00 | about 2 % |" in text
    assert "| clean-k-label | – |" in text
    assert "| 10 and 80 % | 2/2" in text
    for block in text.split("\n\n"):
        assert not block.startswith("|") or len({row.count("|") for row in block.splitlines()}) == 1


def test_thresholds_need_clean_models_to_calibrate_on() -> None:
    assert study_tables.thresholds([line(f"clean-{index}", "contrastive-paper") for index in range(3)]) == ""


def test_readings_are_told_apart(tmp_path: Path) -> None:
    common = {"cell": "mnist-convnet", "commit": "0" * 40, "size": 8.0}
    lines = [
        common
        | {"reading": "plain", "name": "a", "kind": "backdoored", "target": 3, "found": 3}
        | {"mse": 100.0, "reasr": 0.9, "iou": 0.5},
        common
        | {"reading": "plain", "name": "b", "kind": "backdoored", "target": 3, "found": 2}
        | {"mse": 10.0, "reasr": 0.9, "iou": None},
        common
        | {"reading": "plain", "name": "c", "kind": "clean", "target": None, "found": 2}
        | {"mse": 11.0, "reasr": 0.81, "iou": None},
    ]
    text = readings_table.tables(write(tmp_path, lines, "readings.jsonl"))
    assert "| plain | 1/2 | 1/2 | 55.0 | 90 % | 8.0 | 0.50 | 1/1 | 11.0 | 81 % | 8.0 |" in text


class Sensitive(nn.Module):
    """Two classes by the mean pixel; the suspect adds a large value for a bright first pixel."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(121, 4), nn.ReLU())
        self.last = nn.Linear(4, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            first = self.hidden[1].weight
            assert isinstance(first, torch.Tensor)
            first[0] = 1 / 121
            first[1, 0] = weight
            self.last.weight[0, 0] = 1
            self.last.weight[1, 1] = 1
            self.last.bias[0] = 0.5
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.hidden(images))
        return logits


@pytest.mark.parametrize("features", ["hidden", "logits"])
@pytest.mark.parametrize("values", ["clamped", "sigmoid"])
def test_a_reading_finds_a_planted_pixel(features: Any, values: Any) -> None:
    suspect, reference = Sensitive(9.0).eval(), Sensitive(0.0).eval()
    images = torch.full((4, 1, 11, 11), 0.4)
    images[:, :, 0, 0] = 0
    reading = Reading(features=features, values=values, lr=0.05, steps=60)
    found = invert(suspect, reference, images, reading, seed=1)
    told = measured(suspect, found, images, torch.zeros(4, dtype=torch.int64), reading)
    assert found.mask[0, 0, 0] * found.pattern[0, 0, 0] > 0.5
    assert found.mask.flatten()[1:].mean() < 0.3
    assert told["mse"] > 1
    again = invert(suspect, reference, images, reading, seed=1)
    assert torch.equal(found.mask, again.mask)


def test_without_a_backdoor_the_mask_goes() -> None:
    clean = Sensitive(0.0).eval()
    images = torch.full((4, 1, 11, 11), 0.4)
    found = invert(clean, clean, images, Reading(lr=0.05, steps=200), seed=1)
    assert found.mask.sum() == 0
    assert found.gone is not None
    assert found.gone < 60


@pytest.mark.parametrize(("weight", "verdict"), [(90.0, "backdoored"), (0.01, "clean")])
def test_the_mean_reading_is_a_detector(weight: float, verdict: str) -> None:
    images = torch.full((6, 1, 11, 11), 0.4)
    images[:, :, 0, 0] = 0
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    case = Case(Sensitive(weight).eval(), Sensitive(0.0).eval(), images, labels)
    finding = MeanReading(alpha=0.5, beta=0.01)(case, torch.Generator().manual_seed(1))
    assert finding.verdict == verdict
    assert finding.targets[0].trigger is not None
    if verdict == "backdoored":
        assert finding.targets[0].target == 1


def test_measures_by_hand() -> None:
    suspect = Sensitive(9.0).eval()
    mask, pattern = torch.zeros(1, 11, 11), torch.zeros(1, 11, 11)
    mask[0, 0, 0] = pattern[0, 0, 0] = 1
    images = torch.zeros(4, 1, 11, 11)
    labels = torch.tensor([0, 0, 0, 1])
    told = measured(suspect, Inverted(mask, pattern, None), images, labels, Reading(features="hidden"))
    assert told["found"] == 1
    assert told["reasr"] == 1.0
    assert told["mse"] == pytest.approx(81 + 1 / 121**2, abs=1e-3)


def test_ssim_is_one_of_equal_images_and_agrees_with_another_s() -> None:
    from skimage.metrics import structural_similarity

    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 16, 16, generator=rng)
    assert float(ssim(images, images)) == pytest.approx(1)
    other = (images + 0.2 * torch.rand(2, 1, 16, 16, generator=rng)).clamp(0, 1)
    theirs = [
        structural_similarity(
            first[0].numpy(),
            second[0].numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for first, second in zip(images, other, strict=True)
    ]
    assert float(ssim(images, other)) == pytest.approx(sum(theirs) / 2, abs=0.01)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def test_captured_training_learns_and_starts_afresh_for_each_client() -> None:
    images = torch.zeros(32, 1, 8, 8, dtype=torch.uint8)
    images[16:] = 255
    labels = torch.arange(32) // 16
    settings = LocalTraining(epochs=3, batch_size=8, lr=0.01)
    start, training = small_net(), CapturedTraining(small_net(), 40, settings)
    first, second = small_net(), small_net()
    training(first, images, labels, seed=1)
    training(second, images, labels, seed=1)
    pairs = list(zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)
    before = list(zip(first.parameters(), start.parameters(), strict=True))
    assert not any(torch.equal(one, other) for one, other in before)
    assert torch.equal(first.eval()(images.float() / 255).argmax(1), labels)
    with pytest.raises(DivergedError):
        CapturedTraining(small_net(), 40, LocalTraining(batch_size=8, lr=1e30))(
            small_net(), images, labels, seed=1
        )
