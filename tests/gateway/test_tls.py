"""The certificate, in files that change."""

import asyncio
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests import certificates
from vllama.controller.events import Events
from vllama.gateway.tls import Certificate, CertificateUnusable


def shown(context: ssl.SSLContext, name: str) -> tuple[set[str], str | None]:
    """The names in what a client is shown, and the protocol that was agreed on."""
    ours, theirs = socket.socketpair()
    client = certificates.trusting()
    client.set_alpn_protocols(["h2", "http/1.1"])

    def serve() -> None:
        with ours, context.wrap_socket(ours, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs, client.wrap_socket(theirs, server_hostname=name) as connection:
        found = connection.getpeercert()
        protocol = connection.selected_alpn_protocol()
    thread.join()
    assert found is not None
    return {str(each[1]) for each in found["subjectAltName"]}, protocol


def test_it_is_shown_and_only_http_1_1_is_spoken(tmp_path: Path) -> None:
    certificate = Certificate(*certificates.write(tmp_path, certificates.issued()), events=Events())
    names, protocol = shown(certificate.context, "localhost")
    assert "localhost" in names
    assert protocol == "http/1.1"
    assert certificate.context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert certificate.condition().ok


def test_chain_and_key_may_be_in_one_file(tmp_path: Path) -> None:
    path, key = certificates.write(tmp_path, certificates.issued())
    path.write_bytes(path.read_bytes() + key.read_bytes())
    assert shown(Certificate(path, path, events=Events()).context, "localhost")


def test_a_new_one_is_taken_once_its_key_is_there_too(tmp_path: Path) -> None:
    path, key = certificates.write(tmp_path, certificates.issued())
    events = Events()
    certificate = Certificate(path, key, events=events)
    (tmp_path / "new").mkdir()
    new_path, new_key = certificates.write(tmp_path / "new", certificates.issued("new.example"))
    new_path.replace(path)
    asyncio.run(certificate.look())
    asyncio.run(certificate.look())
    assert "the key does not belong to the certificate" in certificate.condition().message
    assert not certificate.condition().ok
    assert "localhost" in shown(certificate.context, "localhost")[0]
    new_key.replace(key)
    asyncio.run(certificate.look())
    assert certificate.condition().ok
    assert "new.example" in shown(certificate.context, "new.example")[0]
    path.unlink()
    asyncio.run(certificate.look())
    assert f"{path} cannot be read: No such file" in certificate.condition().message
    assert "new.example" in shown(certificate.context, "new.example")[0]
    assert [event.reason for event in events] == ["CertificateInvalid", "CertificateRenewed", "CertificateInvalid"]


def test_what_cannot_be_used_is_said_and_nobody_is_asked(tmp_path: Path) -> None:
    path, key = certificates.write(tmp_path, certificates.issued())
    good = key.read_bytes()
    locked = load_pem_private_key(good, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")
    )
    modern = load_pem_private_key(good, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    cases = [
        (locked, "has a password"),
        (modern, "has a password"),
        (b"", "that is no certificate"),
        (path, "that is no"),
    ]
    for content, said in cases:
        key.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        with pytest.raises(CertificateUnusable, match=said):
            Certificate(path, key, events=Events())
    key.unlink()
    with pytest.raises(CertificateUnusable, match=r"tls\.key cannot be read: No such file"):
        Certificate(path, key, events=Events())
