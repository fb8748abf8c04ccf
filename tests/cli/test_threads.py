"""Threads that are there before they are needed."""

import threading

from vllama.cli.threads import all_at_once


def test_all_of_them_are_there_at_once():
    pool = all_at_once(5)
    names = [each.name for each in threading.enumerate() if each.name.startswith("blocking")]
    assert len(names) == 5
    assert pool.submit(lambda: 7).result(10) == 7
    pool.shutdown()


def test_where_the_system_gives_no_more_we_do_with_those_that_there_are(monkeypatch):
    begin, begun = threading.Thread.start, []

    def start(thread):
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    pool = all_at_once(5)
    assert len(begun) == 2
    pool.shutdown()
