"""The nodes that lead quorum queues are killed repeatedly, and no persistent call is lost."""

from pathlib import Path

import pytest

from tests.support.chaos.leader_kills import HEARTBEAT, killing
from tests.support.cluster import clustered

KILLS = 10  # of leaders; one node may lead several queues
SOAK_KILLS = 300
SEED = 11

pytestmark = [pytest.mark.chaos, pytest.mark.alone]


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.gen_test(timeout=7000)
async def test_no_persistent_call_is_lost_when_queue_leaders_are_killed_repeatedly(
    tmp_path: Path, soak: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m tests.support.chaos.leader_kills` runs longer tests, with any seed."""
    monkeypatch.setenv("CREW_HEARTBEAT", str(HEARTBEAT))
    with clustered(tmp_path) as cluster:
        async with killing(cluster, tmp_path, seed=SEED) as kills:
            while kills.tally.leader_kills < (KILLS if soak == 1 else SOAK_KILLS):
                await kills.kill_node()
    tally = kills.tally
    print(f"{tally.answered} calls, {tally.leader_kills} leaders of {tally.node_kills} nodes killed")
    assert tally.answered > 0
    assert not tally.lost, "\n".join(map(str, tally.lost))
