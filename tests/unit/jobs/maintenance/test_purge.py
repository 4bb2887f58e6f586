"""Records are deleted when their time to live is over."""

from pathlib import Path

import pytest

from crew.errors import UnknownJob
from crew.jobs.maintenance.purge import Purge
from tests.support.a_job import NOW, a_specification, opened


@pytest.mark.gen_test
async def test_all_due_records_are_deleted_batch_by_batch_and_no_other(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as store:
        due = [(await store.insert(a_specification(purge_at=NOW))).job for _ in range(5)]
        kept = [(await store.insert(a_specification(purge_at=at))).job for at in (NOW + 1, None)]
        await Purge(store, clock=lambda: NOW, batch=2).step()
        for job in due:
            with pytest.raises(UnknownJob):
                await store.get(job.id)
        assert {job.id for job in await store.several([job.id for job in kept])} == {job.id for job in kept}
