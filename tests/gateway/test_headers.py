from vllama.gateway.headers import to_app, to_engine

SENT = [
    (b"host", b"vllama:80"),
    (b"authorization", b"Bearer k"),
    (b"connection", b"keep-alive, X-Mine, host"),
    (b"x-mine", b"1"),
    (b"content-length", b"3"),
    (b"transfer-encoding", b"chunked"),
    (b"expect", b"100-continue"),
    (b"x-twice", b"a"),
    (b"x-twice", b"\xe9"),
    (b"upgrade", b"h2c"),
]
KEPT = [(b"authorization", b"Bearer k"), (b"x-twice", b"a"), (b"x-twice", b"\xe9")]


def test_what_speaks_of_the_connection_stays_there_and_the_rest_passes_in_order() -> None:
    assert to_engine(SENT) == KEPT


def test_the_application_is_told_the_host_whatever_connection_says() -> None:
    assert to_app(SENT) == [(b"host", b"vllama:80"), *KEPT]
