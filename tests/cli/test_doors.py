from pathlib import Path

import pytest

from tests import certificates
from vllama.cli.doors import DoorSettings, open_doors
from vllama.controller.events import Events
from vllama.controller.manifest import ManifestInvalid
from vllama.gateway.tls import CertificateUnusable


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        (DoorSettings(forwarded_allow_ips="*"), ValueError, r"'\*' is no address or network.*name the proxies"),
        (DoorSettings(cors_origins="chat.example"), ValueError, "is no origin; write for example"),
        (DoorSettings(tls_key=Path("x.pem")), ValueError, "--tls-key is of no use without --tls-cert"),
        (DoorSettings(tls_cert=Path("x.pem")), CertificateUnusable, r"x\.pem cannot be read: No such file"),
        (DoorSettings(api_keys=Path("x.yaml")), ManifestInvalid, "there is no such file; `vllama keys add"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, settings: DoorSettings, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        open_doors(settings, tmp_path, Events())


def test_without_a_word_all_is_as_if_there_were_no_doors(tmp_path: Path) -> None:
    doors = open_doors(DoorSettings(), tmp_path, Events())
    assert doors.guard.keyring.ring is None
    assert doors.guard.admin_loopback
    assert not doors.guard.proxies.believes("127.0.0.1")
    assert doors.origins is None
    assert doors.certificate is None
    assert [say() for say in doors.conditions] == [None]


def test_each_word_counts(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: {}")
    certificate, key = certificates.write(tmp_path, certificates.issued())
    settings = DoorSettings(
        admin_loopback=False, forwarded_allow_ips="10.0.0.1", cors_origins="*", tls_cert=certificate, tls_key=key
    )
    doors = open_doors(settings, tmp_path, Events())
    assert settings.scheme == "https"
    assert doors.guard.keyring.ring == {}
    assert not doors.guard.admin_loopback
    assert doors.guard.proxies.believes("10.0.0.1")
    assert doors.origins is not None
    assert [condition.type for say in doors.conditions if (condition := say())] == ["KeysValid", "CertificateValid"]
