from vllama.gateway.headers import from_engine, to_engine


def test_what_speaks_of_the_connection_stays_there_and_the_rest_passes_in_order() -> None:
    sent = [
        (b"host", b"vllama:80"),
        (b"Authorization", b"Bearer k"),
        (b"connection", b"keep-alive, X-Mine"),
        (b"x-mine", b"1"),
        (b"Content-Length", b"3"),
        (b"transfer-encoding", b"chunked"),
        (b"expect", b"100-continue"),
        (b"x-twice", b"a"),
        (b"x-twice", b"\xe9"),
        (b"upgrade", b"h2c"),
    ]
    assert to_engine(sent) == [(b"Authorization", b"Bearer k"), (b"x-twice", b"a"), (b"x-twice", b"\xe9")]


def test_the_length_of_an_answer_passes() -> None:
    answered = [(b"Content-Length", b"3"), (b"Keep-Alive", b"5"), (b"Trailer", b"x"), (b"Server", b"uvicorn")]
    assert from_engine(answered) == [(b"Content-Length", b"3"), (b"Server", b"uvicorn")]
