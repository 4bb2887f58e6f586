"""Options that several commands about jobs share."""

from typing import Final

import click

database_option: Final = click.option(
    "--database",
    metavar="URL",
    help="URL of the job store, like sqlite:///.crew/jobs.db or postgresql://... [CREW_DATABASE]",
)
json_option: Final = click.option("--json", "is_json", is_flag=True, help="print one line of JSON per job")
