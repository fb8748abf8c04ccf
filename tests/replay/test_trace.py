import gzip

import pytest

from tests.replay.worlds import requests
from vllama.replay.trace import Request, TraceError, parse_trace, read_trace, write_trace

TEXT = "at_s,model,busy_s\n0,org/a,1.5\n2.25,org/b,30\n"


@pytest.mark.parametrize("name", ["day.csv", "day.csv.gz"])
def test_what_is_written_is_read_again(tmp_path, name):
    trace = requests((0, "org/a", 1.5), (2.25, 'odd, "name"', 30), (1_700_000_000.125, "org/a", 0))
    write_trace(trace, tmp_path / name)
    assert read_trace(tmp_path / name) == trace


def test_a_packed_file_is_the_same_every_time(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_trace(requests((0, "a", 1)), tmp_path / name)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"at_s,model,busy_s\n0,a,1\n"


def test_as_other_programs_write_it(tmp_path):
    """A byte order mark, CRLF, columns of their own in another order, blank lines, requests by their end."""
    path = tmp_path / "day.csv"
    path.write_bytes("\ufeffmodel,status,busy_s,at_s\r\norg/b,200,30,2.25\r\n\r\n org/a ,200,1.5,0\r\n".encode())
    assert read_trace(path).requests == (Request(0, "org/a", 1.5), Request(2.25, "org/b", 30))
    assert read_trace(path).models == ("org/a", "org/b")
    assert read_trace(path).span_s == 2.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "day:1: no column at_s; the first line must be `at_s,model,busy_s`"),
        ("at_s,model\n", "day:1: no column busy_s"),
        (TEXT + "3,org/a\n", "day:4: 2 columns, where the header has 3"),
        (TEXT + "3,,1\n", "day:4: no model"),
        (TEXT + "soon,org/a,1\n", "day:4: at_s is 'soon', which is not a number of seconds"),
        (TEXT + "3,org/a,-1\n", "day:4: busy_s is -1; a number of seconds from 0 on is needed"),
        (TEXT + "nan,org/a,1\n", "day:4: at_s is nan"),
        (TEXT + "3,org/a,inf\n", "day:4: busy_s is inf"),
    ],
)
def test_mistakes_are_told_with_their_line(text, said):
    with pytest.raises(TraceError) as raised:
        parse_trace(text, "day")
    assert said in str(raised.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "day.csv")
    (tmp_path / "day.gz").write_bytes(b"at_s,model,busy_s\n")
    with pytest.raises(TraceError, match=r"day\.gz"):
        read_trace(tmp_path / "day.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(TEXT.encode())[:20])
    with pytest.raises(TraceError, match="cut off"):
        read_trace(tmp_path / "cut.gz")
    (tmp_path / "latin.csv").write_bytes("at_s,model,busy_s\n0,mod\xe8le,1\n".encode("latin-1"))
    with pytest.raises(TraceError, match="not a CSV file"):
        read_trace(tmp_path / "latin.csv")
