"""Make what a deployment on this machine needs: a certificate for the SuperLink, and a key pair for each SuperNode."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAYS = 30


def make_credentials(folder: Path, nodes: int) -> None:
    """Write ``ca.crt``, ``server.crt``, ``server.key`` for 127.0.0.1, and ``node-N`` and ``node-N.pub`` from 0 on."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    signed = _certificate(authority, "fedmend example CA", authority, is_authority=True)
    _write(folder / "ca.crt", signed.public_bytes(serialization.Encoding.PEM))
    certificate = _certificate(server, "localhost", authority, is_authority=False)
    _write(folder / "server.crt", certificate.public_bytes(serialization.Encoding.PEM))
    _write(folder / "server.key", _private(server, serialization.PrivateFormat.PKCS8))
    for number in range(nodes):
        key = ec.generate_private_key(ec.SECP384R1())
        _write(folder / f"node-{number}", _private(key, serialization.PrivateFormat.OpenSSH))
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        _write(folder / f"node-{number}.pub", public)


def _certificate(
    key: ec.EllipticCurvePrivateKey, name: str, authority: ec.EllipticCurvePrivateKey, is_authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedmend example CA")])
    here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
        )
        .sign(authority, hashes.SHA384())
    )


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
