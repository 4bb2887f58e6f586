"""Job ids: whole, or only their first digits."""

import pytest

from crew.cli.jobs.job_id import check_id_or_beginning

ID = "0c5a6f2e-8f6b-4d0e-9f0a-4c1f5d1f3a55"


@pytest.mark.parametrize("length", [4, 8, 9, 13, 20, 24, 35, 36])
@pytest.mark.parametrize("written", [str.lower, str.upper])
def test_the_first_digits_of_an_id_get_its_hyphens(length: int, written: type[str]) -> None:
    beginning = ID[:length]
    expected = beginning.rstrip("-")
    assert check_id_or_beginning(written(beginning)) == expected
    assert check_id_or_beginning(written(beginning.replace("-", ""))) == expected


@pytest.mark.parametrize("text", ["", "0c5", "0-c-5", "seven", "0c5a%", "0c5a6f2e_", ID + "0"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the id of a job must be a uuid"):
        check_id_or_beginning(text)
