import torch
from benchmarks.guard.scan_aware import ScanAware
from torch import nn

from fedmend import Case, scan
from fedmend.attacks import AttackData
from fedmend.detection import Differential
from fedmend.evaluation import attack_success_rate
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.pixels import to_float
from fedmend.triggers import Patch


def data() -> tuple[AttackData, Patch]:
    """Four classes, a bright quarter each, and copies with a small patch in the middle, sent to class 0."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(40)
    images = torch.randint(0, 60, (160, 1, 8, 8), generator=rng, dtype=torch.uint8)
    for label in range(4):
        rows, columns = (
            slice(4 * (label // 2), 4 * (label // 2) + 3),
            slice(5 * (label % 2), 5 * (label % 2) + 3),
        )
        images[labels == label, :, rows, columns] = 200
    mask = torch.zeros(1, 8, 8)
    mask[:, 3:5, 3:5] = 1
    trigger = Patch(mask, mask.clone())
    stamped = (255 * trigger.apply(to_float(images[40:]))).to(torch.uint8)
    return AttackData(images, labels, stamped, torch.zeros(120, dtype=torch.int64), labels), trigger


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))


def test_it_unlearns_what_its_own_scan_finds_and_keeps_its_trigger() -> None:
    given, trigger = data()
    training = LocalTraining(epochs=6, batch_size=16, lr=0.005)
    start = net()
    training(start, given.images, given.labels, 0)
    plain, aware = net(), net()
    for model in (plain, aware):
        model.load_state_dict(start.state_dict())
    training(plain, *given.mixed, 1)
    ScanAware(turns=3, part=1.0)(aware, given, training, 1)
    lead = {}
    for name, model in (("plain", plain), ("aware", aware)):
        asr = attack_success_rate(model.eval(), trigger, AllToOne(0), given.images, given.labels)
        assert asr > 0.9, name
        report = scan(
            Case(model, start.eval(), given.images, given.labels), Differential(effort="quick"), seed=0
        )
        lead[name] = report.findings[0].suspicious
    assert lead["aware"] < lead["plain"]


def test_what_it_scans_is_the_part_of_its_update_that_it_expects() -> None:
    given, _ = data()
    before, after = net(), net()
    with torch.no_grad():
        for parameter in after.parameters():
            parameter += 1
    case = ScanAware(part=0.25, images_per_class=3)._case(after, before, given, 0)
    moved = [new - old for new, old in zip(case.suspect.parameters(), before.parameters(), strict=True)]
    assert all(torch.allclose(each, torch.full_like(each, 0.25)) for each in moved)
    assert case.labels is not None
    assert case.labels.bincount().tolist() == [3] * 4
