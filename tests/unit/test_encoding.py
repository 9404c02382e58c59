"""JSON is decoded in any thread, also that of a type which nobody has decoded before."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from codexd.encoding import convert, decode_json, json_decoder

# Types that hold others, each decoded for the first time by four threads at once.
DRIVER = """
import sys, threading
from typing import Any
from msgspec import defstruct
{names}

def make():
    inner = defstruct("Inner", [("a", int, 0), ("b", dict[str, Any], {{}})])
    many = [(f"f{{n}}", "int | None", None) for n in range(30)]
    outer = defstruct("Outer", [*many, ("inner", inner | None, None), ("more", list[inner], [])])
    return inner, outer, defstruct("Other", [("more", list[outer], [])])

sys.setswitchinterval(1e-6)
seen = []
for _ in range(600):
    inner, outer, other = make()
    ways = [
        lambda: decode_json(b'{{"f1":1,"inner":{{"a":2}}}}', outer).inner.a,
        lambda: decode_json(b'{{"more":[{{"inner":{{"a":2}}}}]}}', other).more[0].inner.a,
        lambda: convert({{"a": 2}}, inner).a,
        lambda: convert({{"more": [{{"a": 2}}]}}, outer).more[0].a,
    ]
    begin = threading.Barrier(len(ways))
    def one(way):
        begin.wait()
        seen.append(way())
    threads = [threading.Thread(target=one, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(len(seen), set(seen))
"""
OURS = "from codexd.encoding import convert, decode_json"


def test_a_type_that_two_threads_decode_first_kills_nobody() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER.format(names=OURS)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "2400 {2}\n"), ended.stderr


def test_what_is_no_such_value_is_refused() -> None:
    assert json_decoder(list[int]) is json_decoder(list[int])
    assert decode_json(b"[1]", list[int]) == [1]
    assert convert("1", int, strict=False) == 1
    with pytest.raises(msgspec.ValidationError):
        convert("1", int)
    with pytest.raises(msgspec.ValidationError):
        decode_json(b'["1"]', list[int])
