"""Names that are similar to a mistyped one."""

import pytest

from crew.client.similar_tasks import MAX_LENGTH, neighbours


@pytest.mark.parametrize("typo", ["reszie", "resiz", "resizee", "risize", "Resize", "resi.ze"])
def test_a_typo_in_one_place_is_a_neighbour(typo: str) -> None:
    assert "resize" in neighbours(typo)


def test_names_with_two_swapped_characters_come_first() -> None:
    assert "resize" in neighbours("reszie")[:10]


def test_other_names_and_the_name_itself_are_no_neighbours() -> None:
    assert not {"resize", "", "rotate", "siz"}.intersection(neighbours("resize"))


def test_the_names_are_bounded() -> None:
    assert len(neighbours("a" * MAX_LENGTH)) < 10_000
    assert neighbours("a" * (MAX_LENGTH + 1)) == []
