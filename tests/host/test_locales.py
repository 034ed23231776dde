"""The English texts in locales/ are those of the schemas; tests/core/test_locales.py holds the others to them."""

from tests.support import locales


def test_english_says_what_the_schemas_say(host):
    """After a change of a text: `python -m tests.support.locales`, then the same place in the other languages."""
    expected = locales.node_definitions(host.pack_module("nodes").NODES)

    assert locales.read("en", locales.NODES) == expected
    assert list(locales.read("en", locales.NODES)) == list(expected)
