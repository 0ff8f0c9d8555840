"""Which tests pytest-xdist gives to one worker, and which it begins with."""

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share a fixture of their module go to one worker, which makes it once; slow ones begin."""
    if hasattr(config, "workerinput"):  # else modules would be torn apart
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if _shares(item) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(item.config.rootpath).as_posix()))


def _shares(item: pytest.Item) -> bool:
    found = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    return any(definitions[-1].scope == "module" for definitions in found)
