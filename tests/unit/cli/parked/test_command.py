"""The command line of `crew parked`."""

import pytest
from click.testing import CliRunner

from crew.cli import main


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e300", "0", "-1"])
def test_an_expiration_that_is_not_a_duration_is_a_usage_error(seconds: str) -> None:
    """It is refused before connecting: a deadline too large for a header would make the broker drop all headers."""
    done = CliRunner().invoke(main, ["parked", "replay", "--all", "--expiration", seconds])
    assert done.exit_code == 2
    assert "'--expiration'" in done.output
