"""A websocket between a client and an engine, from the offer to whoever leaves first."""

import asyncio
import base64
import hashlib
import json
from dataclasses import replace

import pytest

from tests.gateway.house import LIMITS, MODEL, House, live, until
from tests.gateway.wire.ear import CREATED, Mouth, a_mouth, an_ear, masked, offer, open_to
from vllama.domain.units import MIB
from vllama.simulator.websocket import frame

BY_URL, BY_EVENT = "?model=tiny", ""
UPDATE = {"type": "session.update", "model": "tiny"}
COMMIT = {"type": "input_audio_buffer.commit"}


async def connected(here: House, query: str = BY_URL) -> Mouth:
    """Open, by either way to say which model is meant."""
    mouth = await a_mouth(here, query)
    assert (await mouth.hear_event())["type"] == "session.created"
    if query == BY_EVENT:
        mouth.say(UPDATE)
    await until(lambda: here.in_flight == 1)
    return mouth


@pytest.mark.parametrize("query", [BY_URL, BY_EVENT])
def test_events_pass_both_ways_and_keep_the_model_in_flight(query: str) -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here, query)
            mouth.say(UPDATE)
            mouth.say(COMMIT)
            await until(lambda: COMMIT in ear.events())
            updates = [event for event in ear.events() if event != COMMIT]
            assert updates == [UPDATE | {"model": MODEL}] * (1 if query == BY_URL else 2)
            for text in (b'{"type":"transcription.delta","delta":"\xc3\xa9"}', b"x" * 70_000):
                ear.say(text)
                assert await mouth.hear() == (1, text)
            assert here.in_flight == 1
            assert not here.control.board.close(MODEL)
            mouth.say((1000).to_bytes(2), opcode=8)
            await until(lambda: any(message.opcode == 8 for message in ear.messages))
            ear.say((1000).to_bytes(2), opcode=8)
            ear.writers[-1].close()
            assert await mouth.hear_end() == frame(8, (1000).to_bytes(2))
            await until(lambda: here.in_flight == 0)

    live(test)


def test_the_handshakes_are_what_they_must_be() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            key = base64.b64encode(b"0123456789abcdef").decode()
            more = "Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer k\r\nX-Mine: 1\r\n"
            reader, writer = await here.raw(offer("?model=tiny&a=b", key=key, more=more))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            accept = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            assert f"\r\nsec-websocket-accept: {accept.decode().lower()}\r\n" in head
            assert "\r\nx-vllama-state: hit\r\n" in head
            assert "extensions" not in head
            sent = ear.heads[0].decode().lower().split("\r\n")
            assert sent[0] == "get /v1/realtime?model=tiny&a=b http/1.1"
            assert f"host: 127.0.0.1:{ear.port}" in sent
            assert "x-mine: 1" in sent
            assert not any(line.startswith("authorization") for line in sent)
            assert sum(line.startswith("sec-websocket-key: ") for line in sent) == 1
            assert f"sec-websocket-key: {key.lower()}" not in sent
            assert not any("extensions" in line for line in sent)
            writer.close()

    live(test)


@pytest.mark.parametrize("chosen", [b"realtime", None])
def test_a_subprotocol_is_the_engines_to_choose(chosen: bytes | None) -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            plain = ear.handshake
            further = b"" if chosen is None else b"sec-websocket-protocol: %b\r\n" % chosen
            ear.handshake = lambda head: plain(head, further)  # type: ignore[method-assign]
            mouth = await a_mouth(here, BY_URL, more="Sec-WebSocket-Protocol: realtime, other\r\n")
            assert b"Sec-WebSocket-Protocol: realtime, other\r\n" in ear.heads[0]
            assert (b"sec-websocket-protocol: realtime\r\n" in mouth.head) is (chosen is not None)
            mouth.writer.close()

    live(test)


def test_an_alias_is_renamed_in_every_update_and_nothing_else_is() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)
            said = [
                {"type": "session.update", "model": "small one", "x": 1.10},
                {"type": "session.update", "model": MODEL},
                {"type": "session.update", "model": "nope"},
                {"type": "session.update"},
                {"type": "other", "model": "tiny", "about": "session.update"},
            ]
            for event in said:
                mouth.say(event)
            mouth.say(b'{"type":"session.update","model":', opcode=1)
            mouth.say(b"\xff\x00session.update", opcode=2)
            await until(lambda: len(ear.messages) == 7)
            texts = [message.payload for message in ear.messages]
            assert [json.loads(text) for text in texts[:5]] == [said[0] | {"model": MODEL}, *said[1:]]
            assert texts[5:] == [b'{"type":"session.update","model":', b"\xff\x00session.update"]
            mouth.writer.close()

    live(test)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_frames_pass_however_they_are_cut(step: int) -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)
            wire = b"".join(
                (masked(1, b'{"a":"'), masked(9, b"ping"), masked(0, b"\xc3"), masked(2, b"y" * 20_000), masked(1, b""))
            )
            for start in range(0, len(wire), step):
                mouth.writer.write(wire[start : start + step])
                if start < 200:
                    await asyncio.sleep(0)
            await until(lambda: len(ear.raw) == len(wire))
            assert ear.raw == wire
            answer = b"".join((frame(1, b"z" * 300), frame(10, b"ping"), frame(2, b"w" * 70_000)))
            for start in range(0, len(answer), step):
                ear.writers[-1].write(answer[start : start + step])
                if start < 200:
                    await asyncio.sleep(0)
            assert await asyncio.wait_for(mouth.reader.readexactly(len(answer)), 10) == answer
            mouth.writer.close()

    live(test)


def test_sound_before_the_model_is_named_is_kept_in_order() -> None:
    async def test(here: House) -> None:
        async with an_ear(here, opened=False) as ear:
            mouth = await a_mouth(here, BY_EVENT)
            assert (await mouth.hear_event())["type"] == "session.created"
            mouth.say(b"p", opcode=9)
            assert await mouth.hear() == (10, b"p")
            sounds = [{"type": "input_audio_buffer.append", "audio": "A" * size} for size in (10, 50_000)]
            for event in (sounds[0], UPDATE, sounds[1], COMMIT):
                mouth.say(event)
            await until(lambda: here.waiting == 1)
            open_to(here, ear)
            await until(lambda: len(ear.messages) == 4)
            assert ear.events() == [sounds[0], UPDATE | {"model": MODEL}, sounds[1], COMMIT]
            ear.say(b"{}")
            assert await mouth.hear() == (1, b"{}"), "and no second greeting"
            mouth.writer.close()

    live(test)


def test_who_names_no_such_model_may_name_another() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await a_mouth(here, BY_EVENT)
            await mouth.hear_event()
            mouth.say({"type": "session.update", "model": "nope"})
            refused = await mouth.hear_event()
            assert (refused["type"], refused["code"]) == ("error", "model_not_found")
            assert "There is no model 'nope'" in refused["error"]
            mouth.say(UPDATE)
            await until(lambda: ear.events() == [UPDATE | {"model": MODEL}])
            mouth.writer.close()

    live(test)


@pytest.mark.parametrize("query", [BY_URL, BY_EVENT])
@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        ("unknown model", 404, "model_not_found"),
        ("lacks the task", 400, "task_not_supported"),
        ("403", 400, "task_not_supported"),
        ("500", 502, "engine_gone"),
        ("nonsense", 502, "engine_gone"),
        ("wrong key", 400, "task_not_supported"),
        ("nobody there", 502, "engine_gone"),
        ("queue full", 429, "queue_full"),
    ],
)
def test_what_cannot_be_is_said_before_or_after_the_greeting(query: str, what: str, status: int, code: str) -> None:
    async def test(here: House) -> None:
        model = "nope" if what == "unknown model" else "tiny"
        async with an_ear(here, opened=what != "queue full") as ear:
            match what:
                case "lacks the task":
                    here.control.known_tasks[MODEL] = frozenset({"generate"})
                case "403" | "500":
                    ear.answer = b"HTTP/1.1 %b X\r\ncontent-length: 0\r\n\r\n" % what.encode()
                case "nonsense":
                    ear.answer = b"SSH-2.0\r\n\r\n"
                case "wrong key":
                    ear.answer = b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n"
                case "nobody there":
                    ear.port = 1
                    open_to(here, ear)
                case "queue full":
                    here.control.specs[0] = replace(here.control.specs[0], max_queue=0)
            if query == BY_URL:
                reader, writer = await here.raw(offer(f"?model={model}"))
                answer = await asyncio.wait_for(reader.readuntil(b"}}"), 10)
                assert int(answer.split()[1]) == status
                assert code.encode() in answer
                writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                assert b'{"status":"ok"}' in await asyncio.wait_for(reader.read(), 10)
                writer.close()
            else:
                mouth = await a_mouth(here)
                await mouth.hear_event()
                mouth.say({"type": "session.update", "model": model})
                assert (await mouth.hear_event())["code"] == code
                mouth.writer.close()

    live(test)


OLD = (
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\n"
    "sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/v1/realtime?model=tiny", ""),
        ("/v1/realtime?model=tiny", "connection: upgrade\r\nupgrade: h2c\r\n"),
        ("/v1/realtime", "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"),
        ("/v1/realtime", OLD),
    ],
)
def test_what_offers_no_websocket_is_told_what_it_takes(target: str, headers: str) -> None:
    async def test(here: House) -> None:
        here.open()
        reader, writer = await here.raw(f"GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b'"code":"websocket_expected"' in await reader.readuntil(b"}}")
        writer.close()

    live(test)


def test_other_upgrades_are_left_alone() -> None:
    async def test(here: House) -> None:
        here.open()
        upgrade = {"connection": "upgrade", "upgrade": "websocket"}
        assert (await here.http.get("/livez", headers=upgrade)).status_code == 200
        assert (await here.chat(headers={"connection": "upgrade", "upgrade": "h2c"})).status_code == 200
        assert here.upstream.exchanges[0].header("upgrade") is None
        answer = await here.http.post("/v1/realtime")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")

    live(test)


@pytest.mark.parametrize("query", [BY_URL, BY_EVENT])
@pytest.mark.parametrize("abruptly", [True, False])
def test_a_client_that_goes_takes_its_place_in_the_queue_along(query: str, abruptly: bool) -> None:
    async def test(here: House) -> None:
        if query == BY_URL:
            _, writer = await here.raw(offer(query))
        else:
            mouth = await a_mouth(here)
            mouth.say(UPDATE)
            writer = mouth.writer
        await until(lambda: here.waiting == 1)
        if abruptly:
            writer.transport.abort()
        else:
            writer.close()
        await until(lambda: here.waiting == 0)

    live(test)


@pytest.mark.parametrize("abruptly", [True, False])
def test_a_client_that_goes_is_gone_for_the_engine_too(abruptly: bool) -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)
            if abruptly:
                mouth.writer.transport.abort()
            else:
                mouth.writer.close()
            await asyncio.wait_for(ear.gone.wait(), 10)
            assert ear.messages[-1].opcode == 8
            assert int.from_bytes(ear.messages[-1].payload[:2]) == 1001
            await until(lambda: here.in_flight == 0)

    live(test)


@pytest.mark.parametrize("begun", [b"", frame(1, b"x" * 100)[:50]])
def test_an_engine_that_dies_ends_it_with_a_word_where_there_is_room_for_one(begun: bytes) -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)
            ear.writers[-1].write(begun)
            ear.writers[-1].close()
            end = await mouth.hear_end()
            expected = b"" if begun else frame(8, (1011).to_bytes(2) + b"The engine went away.")
            assert end == expected
            await until(lambda: here.in_flight == 0)

    live(test)


def test_an_engine_that_sends_no_frames_is_cut_off() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)
            ear.writers[-1].write(b"HTTP/1.1 500 Oh\r\n\r\n")
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await mouth.hear()
            await until(lambda: here.in_flight == 0)
            await asyncio.wait_for(ear.gone.wait(), 10)
            mouth.writer.close()

    live(test)


def test_a_client_that_sends_no_frames_is_told_and_closed() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)
            mouth.writer.write(b"GET / HTTP/1.1\r\n\r\n")
            end = await mouth.hear_end()
            assert end[:4] == frame(8, bytes(len(end) - 2))[:2] + (1002).to_bytes(2)
            await asyncio.wait_for(ear.gone.wait(), 10)
            assert not any(b"HTTP" in message.payload for message in ear.messages)

    live(test)


def test_an_engine_that_reads_nothing_is_not_waited_for() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)
            ear.reads.clear()
            ear.writers[-1].transport.pause_reading()  # type: ignore[attr-defined]
            while mouth.writer.transport.get_write_buffer_size() < MIB:
                mouth.say(b"z" * 100_000, opcode=2)
                await asyncio.sleep(0)
            mouth.writer.transport.abort()
            await until(lambda: here.in_flight == 0)
            ear.writers[-1].transport.resume_reading()  # type: ignore[attr-defined]
            ear.reads.set()
            await asyncio.wait_for(ear.gone.wait(), 10)

    live(test, limits=replace(LIMITS, linger_s=0.1, tunnel_idle_s=0.5))  # unread, its client is not seen to leave


def test_so_much_is_kept_before_the_engine_is_there_and_no_more() -> None:
    async def test(here: House) -> None:
        mouth = await a_mouth(here)
        await mouth.hear_event()
        for _ in range(20):
            mouth.say(b"x" * 60_000, opcode=2)
        end = await mouth.hear_end()
        assert end[2:4] == (1009).to_bytes(2)

    live(test)


@pytest.mark.parametrize("query", [BY_URL, BY_EVENT])
def test_over_one_that_is_silent_the_model_is_not_kept_for_ever(query: str) -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here, query)
            end = await mouth.hear_end()
            assert (end[0], end[2:4]) == (0x88, (1001).to_bytes(2))
            await asyncio.wait_for(ear.gone.wait(), 10)
            assert ear.messages[-1].payload[:2] == (1001).to_bytes(2)
            await until(lambda: here.in_flight == 0)

    live(test, limits=replace(LIMITS, tunnel_idle_s=0.2))


def test_pings_are_no_reason_to_keep_it() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await connected(here)

            async def ping() -> None:
                while not ear.gone.is_set():
                    ear.say(b"p", opcode=9)
                    mouth.say(b"p", opcode=10)
                    await asyncio.sleep(0.01)

            pinging = asyncio.ensure_future(ping())
            end = await mouth.hear_end()
            assert (1001).to_bytes(2) in end
            await asyncio.wait_for(pinging, 10)

    live(test, limits=replace(LIMITS, tunnel_idle_s=0.2))


def test_who_is_slow_slows_down_the_other() -> None:
    async def test(here: House) -> None:
        def held() -> int:
            connections = here.server.server_state.connections
            return sum(one.transport.get_write_buffer_size() for one in connections)  # type: ignore[attr-defined]

        async with an_ear(here) as ear:
            mouth = await connected(here)
            mouth.reader._transport.pause_reading()  # type: ignore[attr-defined]
            piece = b"z" * 100_000
            while ear.writers[-1].transport.get_write_buffer_size() < MIB:
                ear.say(piece, opcode=2)
                await asyncio.sleep(0)
                assert held() < MIB
            mouth.reader._transport.resume_reading()  # type: ignore[attr-defined]
            ear.say(b"end")
            while await mouth.hear() != (1, b"end"):
                pass
            ear.reads.clear()
            ear.writers[-1].transport.pause_reading()  # type: ignore[attr-defined]
            sent = 0
            while mouth.writer.transport.get_write_buffer_size() < MIB:
                mouth.say(piece, opcode=2)
                sent += 1
                await asyncio.sleep(0)
            assert sent < 500
            ear.writers[-1].transport.resume_reading()  # type: ignore[attr-defined]
            ear.reads.set()
            await until(lambda: len(ear.messages) == sent)
            mouth.writer.close()

    live(test)


def test_a_server_that_stops_says_so() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth, greeted = await connected(here), await a_mouth(here)
            await greeted.hear_event()
            here.stop_listening()
            for one in (mouth, greeted):
                assert (await one.hear_end())[2:4] == (1001).to_bytes(2)
            await asyncio.wait_for(ear.gone.wait(), 10)

    live(test)


def test_the_greeting_of_an_engine_that_does_not_greet_is_not_waited_for() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            ear.greets = False
            mouth = await a_mouth(here)
            greeting = await mouth.hear_event()
            assert greeting.keys() == json.loads(CREATED).keys() | {"created"}
            mouth.say(UPDATE)
            await until(lambda: ear.messages)
            for event in (b'{"type":"error"}', b'{"about":"session.created"}'):
                ear.say(event)
                assert await mouth.hear() == (1, event)
            mouth.writer.close()

    live(test)
