"""Names that are similar to a mistyped one."""

import pytest

from crew.client.similar_tasks import MAX_LENGTH, neighbours


@pytest.mark.parametrize("typo", ["reszie", "resiz", "resizee", "risize", "Resize", "resi.ze"])
def test_a_name_with_one_typo_has_the_right_name_as_neighbor(typo: str) -> None:
    assert "resize" in neighbours(typo)


def test_names_with_two_swapped_characters_come_first() -> None:
    assert "resize" in neighbours("reszie")[:10]


def test_other_names_and_the_name_itself_are_not_neighbors() -> None:
    assert not {"resize", "", "rotate", "siz"}.intersection(neighbours("resize"))


def test_the_number_of_neighbors_is_bounded() -> None:
    assert len(neighbours("a" * MAX_LENGTH)) < 10_000
    assert neighbours("a" * (MAX_LENGTH + 1)) == []
