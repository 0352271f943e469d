"""How long fuzzing goes on, and what it feeds decoders with: frames that are nearly right, and any bytes."""

import json
import os

from hypothesis import settings
from hypothesis import strategies as st


def examples(few: int, steps: int = 50) -> settings:
    """Few examples where every change is tested; as many as `MM_FUZZ_EXAMPLES` says where it is set."""
    return settings(max_examples=int(os.environ.get("MM_FUZZ_EXAMPLES", few)), stateful_step_count=steps)


odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.decimals().map(str),
    st.sampled_from(["", "-0", "1e999999999", "-1e-999999999", "NaN", "sNaN", "Infinity", "1_0", "٣", "0x1"]),
    st.text(max_size=8),
    st.lists(st.nothing(), max_size=0),
    st.just({}),
    st.just([[[[[[]]]]]]),
)


def places(value, path=()):
    """Paths of everything within a value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def changed(value, path, odd):
    """The value with something else at one place."""
    if not path:
        return odd
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], odd)
    return copy


@st.composite
def nearly(draw, values, odd=odd_values):
    """One of some values, odd in a place or two."""
    value = draw(st.sampled_from(values))
    for _ in range(draw(st.integers(0, 2))):
        value = changed(value, draw(st.sampled_from(list(places(value)))), draw(odd))
    return value


@st.composite
def damaged(draw, texts):
    """One of some texts, cut, with bytes flipped, a piece said twice, or followed by more."""
    text = bytearray(draw(st.sampled_from(texts)))
    for _ in range(draw(st.integers(0, 3))):
        at, span = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        piece = text[at : at + span]
        how = draw(st.sampled_from(["cut", "drop", "twice", "flip", "put"]))
        if how == "cut":
            del text[at:]
        elif how == "drop":
            del text[at : at + span]
        elif how == "twice":
            text[at:at] = piece
        elif how == "flip":
            text[at : at + span] = bytes(byte ^ draw(st.integers(1, 255)) for byte in piece)
        else:
            text[at:at] = draw(st.binary(max_size=8))
    return bytes(text)


def doubled_key(text, key, value):
    """A JSON object that says one of its keys once more, at its end."""
    return text.rstrip()[:-1] + b',"%s":%s}' % (key.encode(), json.dumps(value).encode())
