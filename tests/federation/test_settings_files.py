"""Files of settings that nobody would write, and those that a run wrote."""

from pathlib import Path

import pytest

from fedmend.errors import ConfigError
from fedmend.federation import RunFolder, read_config

EVERYTHING = Path(__file__).with_name("everything.toml")


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


DEEP = "[" * 100_000 + "]" * 100_000
EXTREME = [
    f"seed = {'7' * 5000}",
    f"seed = 0x{'f' * 5000}",
    f"seed = {DEEP}",
    "seed = 1e999",
    "seed = 1979-05-27",
    f"[training]\nlr = 0x{'f' * 5000}",
    f"[training]\nepochs = {10**30}",
    f"[aggregation]\nkind = 'fedavg'\ntrim = {'[' * 60}{']' * 60}",
    "[attack]\n" + ".".join("a" * 60) + " = 1",
    f"[data]\nsource = '{'x' * 10**6}'\nalpha = '{'x' * 10**6}'",
]


@pytest.mark.parametrize("text", EXTREME, ids=lambda text: text[:30])
def test_extreme_numbers_and_nesting_are_refused_in_a_short_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(write(tmp_path, text))
    told = str(caught.value)
    assert len(told) < 1000
    assert told.startswith(str(tmp_path))


@pytest.mark.parametrize(
    "text", [f'{{"seed": {"7" * 5000}}}', f'{{"seed": {DEEP}}}', '{"seed": NaN}', "[1]", "{"]
)
def test_json_is_refused_likewise(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("attacked", [True, False])
def test_the_settings_of_a_run_can_be_fed_back(tmp_path: Path, attacked: bool) -> None:
    text = EVERYTHING.read_text(encoding="utf-8")
    config = read_config(write(tmp_path, text if attacked else text.split("[[attack]]")[0]))
    run = RunFolder.open(tmp_path / "run", config, resume=False)
    assert read_config(str(run.config_file)) == config
