"""A report as files: JSON of a published schema, with the tensors beside it."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

import planted
from fedmend.detection import Case, ContrastivePaper, ScanReport, scan
from fedmend.detection.provenance import ArchitectureRecord, DataRecord, FileRecord, Provenance
from fedmend.detection.scan_report import json_schema
from fedmend.errors import DataError

PUBLISHED = resources.files("fedmend.detection") / "scan.schema.json"
PROVENANCE = Provenance(
    command=("scan", "a.pt", "--data", "b.npz"),
    suspect=FileRecord("a.pt", "0a", 7),
    reference=None,
    architecture=ArchitectureRecord("convnet", {"width": 2}, "fedmend.models.conv_net", "1b"),
    data=DataRecord("b.npz", "test", {}, FileRecord("b.npz", "2c", 8), 40, "3d", (1, 5), "4e"),
)


@pytest.fixture(scope="module")
def report(world: planted.World) -> ScanReport:
    case = Case(world.backdoored, world.reference, world.images[:12], world.labels[:12], planted.NAMES)
    return replace(scan(case, ContrastivePaper(alpha=0.1, beta=0.03, steps=2)), provenance=PROVENANCE)


def valid(content: Any) -> None:
    jsonschema.validate(content, json.loads(PUBLISHED.read_text(encoding="utf-8")))


def test_the_published_schema_is_that_of_the_code() -> None:
    """If this fails: write ``json.dumps(json_schema(), indent=2)`` to the file; an incompatible change needs a new
    version in the field ``schema``."""
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == json_schema()
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_reports_follow_the_schema(report: ScanReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    saved = json.loads((tmp_path / "scan.json").read_text(encoding="utf-8"))
    for content in (saved, json.loads(report.to_json())):
        valid(content)
        for path, wrong in (
            (("verdict",), "fine"),
            (("findings", 0, "targets", 0, "trigger"), {}),
            (("new",), 1),
        ):
            broken = json.loads(json.dumps(content))
            place = broken
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = wrong
            with pytest.raises(jsonschema.ValidationError):
                valid(broken)


def test_saving_loses_nothing_and_keeps_tensors_out_of_the_json(report: ScanReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    assert "base64" not in (tmp_path / "scan.json").read_text(encoding="utf-8")
    assert (tmp_path / "scan.safetensors").stat().st_size > 8 * planted.SIDE**2
    for path in (tmp_path, tmp_path / "scan.json"):
        assert ScanReport.load(path).to_json() == report.to_json()
    assert ScanReport.load(tmp_path).provenance == PROVENANCE


def test_the_folder_may_be_text(report: ScanReport, tmp_path: Path) -> None:
    report.save(str(tmp_path / "new"))
    assert ScanReport.load(str(tmp_path / "new")).to_json() == report.to_json()


def test_a_report_without_tensors_leaves_none_of_an_earlier_one(report: ScanReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    bare = replace(report, findings=(), examples=())
    bare.save(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.json"]
    assert ScanReport.load(tmp_path).to_json() == bare.to_json()


def test_an_earlier_report_is_kept_unless_it_is_given_up(report: ScanReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    bare = replace(report, findings=(), examples=())
    bare.save(tmp_path)
    assert ScanReport.load(tmp_path).to_json() == bare.to_json()
    assert ScanReport.load(tmp_path / "earlier-1").to_json() == report.to_json()


def test_damaged_or_foreign_tensors_are_noticed(report: ScanReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    tensors = tmp_path / "scan.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="damaged or of another scan"):
        ScanReport.load(tmp_path)
    tensors.unlink()
    with pytest.raises(DataError, match="holds the report's tensors: No such file"):
        ScanReport.load(tmp_path)


@pytest.mark.parametrize("tensors", [5, {}, {"file": "scan.safetensors"}])
def test_damaged_references_are_noticed(report: ScanReport, tmp_path: Path, tensors: object) -> None:
    report.save(tmp_path)
    path = tmp_path / "scan.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"tensors": tensors}), encoding="utf-8")
    with pytest.raises(DataError, match="of another scan"):
        ScanReport.load(path)
    content["examples"][0]["images"]["tensor"] = "nothing"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="not a fedmend scan report"):
        ScanReport.load(path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "5", '{"tensors": 1}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scan.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        ScanReport.load(tmp_path)
    with pytest.raises(DataError, match="can't read"):
        ScanReport.load(tmp_path / "none")


def test_provenance_tells_what_differs() -> None:
    def changed(**changes: Any) -> Provenance:
        return replace(PROVENANCE, **changes)

    assert list(PROVENANCE.differences(changed(command=(), suspect=FileRecord("moved.pt", "0a", 7)))) == []
    images = changed(data=replace(PROVENANCE.data, chosen=(2, 5), chosen_sha256="5f"))
    assert list(PROVENANCE.differences(images)) == ["the scanned images"]
    for name, other in {
        "the suspect": changed(suspect=FileRecord("a.pt", "00", 7)),
        "the reference": changed(reference=FileRecord("r.pt", "00", 7)),
        "the data": changed(data=replace(PROVENANCE.data, file=FileRecord("b.npz", "00", 8))),
        "the architecture": changed(architecture=replace(PROVENANCE.architecture, arguments={})),
        "the architecture's source file": changed(architecture=replace(PROVENANCE.architecture, sha256="00")),
        "the data's labels or class names": changed(data=replace(PROVENANCE.data, listing_sha256="00")),
    }.items():
        assert list(PROVENANCE.differences(other)) == [name]


def test_every_report_has_its_date(report: ScanReport) -> None:
    assert report.date.endswith("+00:00")
    assert torch.equal(ScanReport.from_json(report.to_json()).examples[0].images, report.examples[0].images)
