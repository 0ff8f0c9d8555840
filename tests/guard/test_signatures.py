"""Signed histories; the package that signs is optional."""

from collections.abc import Callable
from pathlib import Path

import pytest
from guarded_nets import net

pytest.importorskip("model_signing", exc_type=ImportError)

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmend.errors import ConfigError, DataError, OutputError
from fedmend.guard import Guard, History, check_signature

Make = Callable[..., Guard]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Files of a private and its public key."""
    return new_keys(tmp_path, "own")


def new_keys(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_every_decision_is_signed(guard: Make, keys: tuple[Path, Path], tmp_path: Path) -> None:
    made = guard({"signing_key": keys[0]})
    for number in (1, 2):
        made.review(net(seed=number), number)
        check_signature(History(Path(made.history)), keys[1])
    with pytest.raises(DataError, match=r"manifest.sig is no signature of .*manifest.json with this key"):
        check_signature(History(Path(made.history)), new_keys(tmp_path, "other")[1])


def test_a_history_that_somebody_else_wrote_on_is_refused(guard: Make, keys: tuple[Path, Path]) -> None:
    signed = guard({"signing_key": keys[0]})
    signed.review(net(seed=1), 1)
    stranger = guard()  # without the key
    stranger.review(net(seed=2), 2)
    History(Path(signed.history)).check()  # the digests match
    with pytest.raises(DataError, match=r"manifest.sig is no signature"):
        signed.review(net(seed=4), 4)
    with pytest.raises(DataError, match=r"manifest.sig is no signature"):
        guard({"signing_key": keys[0]})


@pytest.mark.parametrize("write", ["append", "manifest_of", "confirm"])
def test_a_process_killed_while_it_signs_goes_on(
    guard: Make, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """Before the line; after the line and before the manifest; after the manifest."""
    made = guard({"signing_key": keys[0]})
    with monkeypatch.context() as patched:
        if write == "append":
            patched.setattr("os.fsync", lambda _: None)
            patched.setattr("fedmend.guard.signatures.write_atomically", lambda *_: 1 / 0)
        elif write == "manifest_of":
            patched.setattr("os.fsync", fails_after_the_line(Path(made.history)))
        else:
            patched.setattr("fedmend.guard.signatures.Signer.confirm", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.review(net(seed=1), 1)
    assert guard({"signing_key": keys[0]}).review(net(seed=1), 1).action == "accept"
    history = History(Path(made.history))
    check_signature(history, keys[1])
    assert history.check().lines == 2
    assert not list(history.path.glob("*.next"))


@pytest.mark.parametrize("lacks", ["manifest", "signature"])
def test_a_signed_decision_stands_where_only_its_line_could_be_written(
    guard: Make, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    made = guard({"signing_key": keys[0]})
    history = History(Path(made.history))

    def full(*_: object) -> None:
        raise OutputError("No space left on device")

    with monkeypatch.context() as patched:
        unwritten = "history.History.finish" if lacks == "manifest" else "signatures.Signer.confirm"
        patched.setattr(f"fedmend.guard.{unwritten}", full)
        assert made.review(net(seed=1), 1).action == "accept"
    if lacks == "manifest":
        check_signature(history, keys[1])
        with monkeypatch.context() as patched:
            patched.setattr("fedmend.guard.history.write_bytes", full)
            with pytest.raises(OutputError):
                made.review(net(seed=2), 2)
        check_signature(history, keys[1])
    assert made.review(net(seed=2), 2).action == "accept"
    check_signature(history, keys[1])
    assert history.check().lines == 3
    assert not list(history.path.glob("*.next"))


def fails_after_the_line(folder: Path) -> Callable[[int], None]:
    """An fsync that fails once the second line is in its file."""

    def fsync(_: int) -> None:
        if (folder / "decisions.jsonl").read_bytes().count(b"\n") == 2:
            raise ZeroDivisionError

    return fsync


@pytest.mark.parametrize("content", [None, b"no key"], ids=["missing", "damaged"])
def test_a_file_without_a_key_is_refused(guard: Make, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "private.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"private\.pem"):
        guard({"signing_key": file})
    with pytest.raises(ConfigError, match=r"there is no file .*none.pub"):
        check_signature(History(tmp_path), tmp_path / "none.pub")
