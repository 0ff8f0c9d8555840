import torch
from benchmarks.guard.scan_aware import ScanAware
from tiny_attacker import data, net

from fedmend import Case, scan
from fedmend.detection import Differential
from fedmend.evaluation import attack_success_rate
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining


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
