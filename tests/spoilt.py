"""Documents with something wrong in them, for property-based tests of what reads them."""

import copy

from hypothesis import strategies as st

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([1 << 63, -10**30, 10**400, 0.5, -1e-9, 1e300]),
    st.floats(), st.sampled_from(["", "0", "a\nb", "\ud800", "../x", "true", "x" * 5000]), st.text("a0-{\u00e9", max_size=3))
JSON_VALUES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.just("a"), inner)))
DEEP = st.integers(900, 1100).map(lambda depth: "[" * depth + "]" * depth)


def places(value: object, above: tuple = ()) -> list[tuple]:
    """The way to everything in a document."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above] * bool(above) + [place for key, child in children for place in places(child, (*above, key))]


@st.composite
def changed(draw, document: dict, values=JSON_VALUES) -> tuple[dict, tuple]:
    """A document in which something is another value or gone, or something more is there; and where."""
    document = copy.deepcopy(document)
    *way, key = place = draw(st.sampled_from(places(document)))
    parent = document
    for step in way:
        parent = parent[step]
    how = draw(st.sampled_from(["change", "change", "remove", "add"]))
    if how == "remove":
        del parent[key]
    elif how == "add" and isinstance(parent, dict):
        parent["no_such_key"], place = draw(values), (*way, "no_such_key")
    else:
        parent[key] = draw(values)
    return document, place


def torn(whole: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that begin, end or go on wrongly."""
    where = st.integers(0, len(whole))
    spoilt = st.tuples(where, st.binary(min_size=1, max_size=3)).map(
        lambda change: whole[: change[0]] + change[1] + whole[change[0] + len(change[1]) :])
    return st.one_of(st.binary(max_size=60), where.map(lambda end: whole[:end]), spoilt)


def sentence_of(refused: Exception, *parts: object) -> None:
    """One line, short, that names the parts."""
    said = str(refused)
    assert all(str(part) in said for part in parts) and "\n" not in said and len(said) < 1000
