import click
import pytest

from fedmend.cli.byte_count import ByteCount


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GiB", 2**32), ("500MB", 5 * 10**8), ("1.5g", 15 * 10**8), ("2 kib", 2048), ("7", 7)],
)
def test_sizes(text: str, count: int) -> None:
    assert ByteCount().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["", "0", "-1GB", "4 apples", "1e9", "nan", "9999999TiB"])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a size such as 4GiB"):
        ByteCount().convert(text, None, None)
