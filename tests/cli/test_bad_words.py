"""Words and settings that can't be used: one clear line, and nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refused = Callable[..., None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "convnett"}, "did you mean convnet"),
        ({"model": "no_such_module:make"}, "there is no module 'no_such_module'"),
        ({"model": "planted:smal"}, "did you mean small"),
        ({"model": "planted:NAMES"}, "is a tuple"),
        ({"device": "nonsense"}, "there is no device 'nonsense'"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ({"device": "meta"}, "there is no device 'meta'"),
        ({"method": "neural"}, "there is no detector 'neural'; did you mean neural-cleanse"),
        ({"seed": "-1"}, "Invalid value for '--seed'"),
        ({"images": "0"}, "Invalid value for '--images'"),
        ({"modle": "convnet"}, "No such option '?--modle"),
    ],
)
def test_wrong_words(
    refused: Refused, files: Any, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    refused(files.scan(files.model("clean"), tmp_path / "out", **changes), message)


def test_missing_words(refused: Refused, files: Any) -> None:
    refused(["scan"], r"Missing 'SUSPECT', '--model', '--data'; fedmend scan --help explains them")
    refused(["scan", files.model("clean")], r"Missing '--model', '--data'; fedmend scan --help")
    refused(["scan", files.model("clean"), "--data", "mnist"], "Missing '--model'; ")
    refused(["simulate"], "Missing 'CONFIG', '--out'; fedmend simulate --help")
    refused(["scna"], "No such command 'scna'")


def test_no_words_at_all_show_the_help(run: Callable[..., Any]) -> None:
    result = run([])
    assert result.code in (0, 2)
    text = result.out + result.err
    assert text.startswith("Usage: fedmend")
    assert "\n  scan " in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[federation]\nclient = 3\n", r"unknown key \[federation\] client: did you mean clients\?"),
        ("[fedration]\nclients = 3\n", "unknown key fedration: did you mean federation"),
        ("lr = 0.1\n", r"lr belongs in \[training\]"),
        ("[federation]\nclients = 'three'\n", r"\[federation\] clients: .*got 'three'"),
        ('[[attack]]\n[attack.goal]\nkind = "all-to-one"\ntarget = 99\n', "names class 99"),
        ("[attack]\nfirst_round = 2\n", r"expected an array of tables, \[\[attack\]\]"),
        ("seed = \n", "is not valid TOML"),
        (f"seed = {'7' * 5000}\n", "is not valid TOML"),
        (f"seed = {'[' * 100_000}\n", "is not valid TOML: it is nested too deeply"),
        ("[model]\nstart = 'no.safetensors'\n", "there is no file no.safetensors"),
    ],
)
def test_settings_that_cannot_be_used(
    refused: Refused, tmp_path: Path, write_toml: Callable[[Path, str], str], text: str, message: str
) -> None:
    config = write_toml(tmp_path / "config.toml", text)
    refused(["simulate", config, "--out", str(tmp_path / "run")], message)
    refused(["simulate", str(tmp_path / "no.toml"), "--out", str(tmp_path / "run")], "can't read")


def test_a_change_that_cannot_be_made(
    refused: Refused, tmp_path: Path, write_toml: Callable[[Path, str], str]
) -> None:
    config = write_toml(tmp_path / "config.toml", "seed = 1\n")
    words = ["simulate", config, "--out", str(tmp_path / "run"), "--set"]
    refused([*words, "training.lrr=1"], r"unknown key \[training\] lrr: did you mean lr")
    refused([*words, "training.lr"], "expected a change as name=value")
