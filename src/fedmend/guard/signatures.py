"""Signatures of a history's manifest with a key of the operator's, so that nobody else can write one.

The manifest holds the digests of the last decision and of all models that are kept, so signing it signs them. Needs the
extra ``fedmend[signing]`` (model-signing); keys are elliptic, as PEM files, and nothing leaves the machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedmend.errors import ConfigError, DataError
from fedmend.files import naming, write_atomically
from fedmend.guard.history import History
from fedmend.guard.ledger import Ledger
from fedmend.user_code import in_one_line


def signature_of(history: History) -> Path:
    """The file of the signature."""
    return history.path / "manifest.sig"


class Signer:
    """Signs a history's manifest, and knows its own signatures.

    Args:
        private_key: a PEM file with an elliptic key, such as ``openssl ecparam -name prime256v1 -genkey -noout``
            writes.

    Raises:
        ConfigError: the extra isn't installed, or the file holds no such key.
    """

    def __init__(self, private_key: Path) -> None:
        self._signing, self._verifying = _packages()
        self._private, self._public = private_key, _public_part(private_key)

    def prepare(self, history: History, manifest: bytes) -> None:
        """Sign a manifest that is about to be written; the earlier signature stays until :meth:`confirm`.

        Raises:
            OutputError: the signature can't be written.
        """
        config = self._signing.Config().use_elliptic_key_signer(private_key=self._private)
        with _as_file(manifest) as file:
            write_atomically(_next(history), lambda path: config.sign(file, path))

    def confirm(self, history: History) -> None:
        """Put the prepared signature in the place of the earlier one, after its manifest was written."""
        with naming(signature_of(history)):
            _next(history).replace(signature_of(history))

    def require(self, history: History, ledger: Ledger) -> bool:
        """Refuse a history that this key didn't sign.

        Args:
            history: as it was found.
            ledger: what its lines add up to, to a last one after which a process may have been killed.

        Returns:
            Whether its signature is the prepared one; :meth:`confirm` puts it in place, after the manifest.

        Raises:
            DataError: the signature is missing, or of another manifest or key.
        """
        if not ledger.lines and not signature_of(history).exists():
            return False
        with _as_file(self._public) as public, _as_file(history.manifest_of(ledger)) as manifest:
            for signature in (signature_of(history), _next(history)):
                with suppress(Exception):  # it raises whatever its parts raise
                    self._verifying.Config().use_elliptic_key_verifier(public_key=public).verify(
                        manifest, signature
                    )
                    return signature == _next(history)
        raise _not_signed(history)


def check_signature(history: History, public_key: Path) -> None:
    """Refuse a history whose manifest isn't signed by the key that belongs to ``public_key``, a PEM file.

    Raises:
        ConfigError: the extra isn't installed, or there is no such file.
        DataError: the signature is missing, or of another manifest or key.
    """
    _, verifying = _packages()
    if not public_key.is_file():
        raise ConfigError(f"there is no file {public_key}; expected a public key as PEM")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(
            history.manifest, signature_of(history)
        )
    except Exception as error:  # it raises whatever its parts raise
        raise _not_signed(history) from error


@contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """A file with this content, which signs and verifies like one of another name."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.json"
        file.write_bytes(content)
        yield file


def _next(history: History) -> Path:
    return history.path / "manifest.sig.next"


def _not_signed(history: History) -> DataError:
    return DataError(
        f"{signature_of(history)} is no signature of {history.manifest} with this key; restore both, or give the key "
        "that the history was signed with"
    )


def _packages() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        raise ConfigError("signatures need model-signing; pip install 'fedmend[signing]'") from error
    return signing, verifying


def _public_part(private_key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(private_key.read_bytes(), password=None)
        public: bytes = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except OSError as error:
        raise ConfigError(f"can't read {private_key}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{private_key} holds no private key without a password, as PEM: {in_one_line(error)}"
        ) from error
    return public
