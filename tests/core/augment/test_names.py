"""One entry per person: which spellings are the same, which are near, which are not, and who is held out."""

import time

import pytest

from f2d_core.augment.names import NEAR, SAME, cleaned, parse_names, read_names
from f2d_core.augment.texts import EXAMPLE_NAMES
from f2d_core.errors import SettingsError


def rule_of(a, b, near=True):
    """How the second is taken for the first: a rule, or None."""
    merged = parse_names(f"{a}\n{b}", near=near).merged
    assert all(m.into == cleaned(a) and m.line == 2 for m in merged)
    return merged[0].rule if merged else None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Marie Curie", "marie  CURIE"),
        ("Marie Curie", "Curie, Marie"),
        ("Marie Curie", "Curie Marie"),
        ("Marie Curie", "Marie Curie (physicist)"),
        ("Frédéric Chopin", "Frederic Chopin"),
        ("Frédéric Chopin", "Fre\u0301de\u0301ric Chopin"),
        ("Søren Kierkegaard", "Soren Kierkegaard"),
        ("Isaac Newton", "Sir Isaac Newton"),
        ("Dr. Martin Luther King Jr.", "Martin Luther King"),
        ("J. R. R. Tolkien", "JRR Tolkien"),
        ("Jean-Paul Sartre", "Jean Paul Sartre"),
        ("Sinéad O’Connor", "Sinead O'Connor"),
        ("Ａｄａ Lovelace", "Ada Lovelace"),
        ("Ελένη", "ΕΛΕΝΗ"),
    ],
)
def test_spellings_of_one_person_are_merged(a, b):
    assert rule_of(a, b, near=False) == SAME
    assert rule_of(b, a, near=False) == SAME


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Albert Einstein", "Albert Einstien"),  # exchanged
        ("Michael Faraday", "Micheal Faraday"),
        ("Napoleon", "Napolean"),  # changed
        ("Zachary Taylor", "Zachery Taylor"),  # sorted elsewhere among the words or not
        ("Ada Lovelace", "Ada Lovelac"),  # left out
        ("John F. Kennedy", "John Kennedy"),
        ("John Fitzgerald Kennedy", "John F. Kennedy"),
        ("John Ronald Reuel Tolkien", "John R. R. Tolkien"),
    ],
)
def test_near_duplicates_are_merged_unless_unwanted(a, b):
    assert rule_of(a, b) == rule_of(b, a) == NEAR
    assert rule_of(a, b, near=False) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Louis XIV", "Louis XVI"),
        ("Louis XVIII", "Louis XXVIII"),
        ("John Adams", "Joan Adams"),  # too short to be a slip
        ("Johann Bach", "Johann Sebastian Bach"),
        ("Johann Sebastian Bach", "Johann Christian Bach"),
        ("Queen Victoria", "Victoria Woodhull"),
        ("Martin Luther King", "Martin Luther"),
        ("Robert Downey Jr", "Robert Downey Sr"),
        ("Henry Ford", "Henry Fonda"),
        ("Maria Callas", "Daria Callas"),  # another first letter
        ("たかし", "だかし"),  # a mark makes another letter there
        ("Queen Victoria", "Victoria"),
    ],
)
def test_other_people_stay(a, b):
    assert rule_of(a, b) is rule_of(b, a) is None


def test_first_spelling_and_order_stay_and_the_report_is_complete():
    found = parse_names("\n# people\n1. Marie Curie\n- Ada Lovelace  # a comment\ncurie, marie\nADA LOVELACE\n")

    assert found.names == ("Marie Curie", "Ada Lovelace")
    assert [(m.line, m.text, m.into, m.rule) for m in found.merged] == [
        (5, "marie curie", "Marie Curie", SAME),
        (6, "ADA LOVELACE", "Ada Lovelace", SAME),
    ]


def test_held_out_people_are_refused_in_any_spelling():
    found = parse_names("Marie Curie\nCurie, Maria\nAda Lovelace\nAda Lovelace", held_out=["marie curie"])

    assert found.names == ("Ada Lovelace",)
    assert [(m.text, m.into, m.rule) for m in found.held_out] == [
        ("Marie Curie", "marie curie", SAME),
        ("Maria Curie", "marie curie", NEAR),
    ]
    assert len(found.merged) == 1


@pytest.mark.parametrize("entry", ["S*", "a:b", "x" * 81, "...", "(nobody)", "<lora:a:1>", "a\x00b", "\u0301"])
def test_what_is_no_name_is_refused_with_its_line(entry):
    with pytest.raises(SettingsError, match="Line 2 of the names"):
        parse_names(f"Ada Lovelace\n{entry}\n")


def test_files_in_any_encoding_of_utf8_are_read_and_others_refused(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffJosé Martí\r\nDmitri Mendelejew\r\n".encode())
    assert read_names(file).names == ("José Martí", "Dmitri Mendelejew")
    for content, message in ((b"Jos\xe9", "no text in UTF-8"), (b"# nobody\n", "no name that can be used")):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=message):
            read_names(file)
    for path in (tmp_path / "not there.txt", tmp_path):
        with pytest.raises(SettingsError, match="Cannot read the names"):
            read_names(path)
    with open(file, "wb") as large:
        large.truncate(17 * 1024**2)
    with pytest.raises(SettingsError, match="larger than 16 MB"):
        read_names(file)


def test_thousands_of_names_take_no_time():
    text = "\n".join(f"Person{i:05} Of{i % 41:02} Somewhere" for i in range(4000))
    start = time.process_time()
    assert len(parse_names(text, near=True).names) + len(parse_names(text, near=True).merged) == 4000
    assert time.process_time() - start < 20


def test_the_example_is_one():
    """All different, and few enough that nobody takes it for a list to train on."""
    assert parse_names("\n".join(EXAMPLE_NAMES)).names == EXAMPLE_NAMES
    assert 5 < len(EXAMPLE_NAMES) <= 20
