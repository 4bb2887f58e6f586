"""The page of examples/producer_consumer in a real browser, with real processes."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.processes import Processes
from tests.support.waiting import eventually
from tests.support.web import Web

EXAMPLE = Path(__file__).parents[2] / "examples" / "producer_consumer"


@pytest.fixture
def example(processes: Processes) -> Web:
    """A gateway, three worker processes, three subscribers."""
    worker = processes.python(EXAMPLE / "worker.py", "--processes=3")
    subscribers = [processes.python(EXAMPLE / "subscriber.py") for _ in range(3)]
    gateway = processes.python(EXAMPLE / "gateway.py", "--port=0")
    worker.says("serving 1 task", times=3)
    for subscriber in subscribers:
        subscriber.says("listens")
    return Web.of(gateway)


def test_the_page_shows_which_worker_took_each_item(example: Web, page: Page) -> None:
    page.goto(example.address)
    expect(page.locator("#status")).to_contain_text("live")

    page.get_by_role("link", name="/prodcons").click()  # item 1
    expect(page.locator("#queue li b")).to_have_text(["1"])
    page.get_by_role("link", name="/pubsub").click()  # item 2
    expect(page.locator("#topic li b")).to_have_text(["2"] * 3)

    expect(page.locator("#queue li b")).to_have_text(["1"])
    assert len(set(page.locator("#topic li span").all_inner_texts())) == 3


def test_workers_share_the_items_of_the_queue(example: Web) -> None:
    takers = {example.get("/prodcons").json["by"] for _ in range(12)}

    assert 1 < len(takers) <= 3


def test_a_closed_page_leaves_no_request_waiting(example: Web, processes: Processes) -> None:
    live = example.begin("/taken")
    eventually(live.has_response)

    live.disconnect()

    assert example.get("/pubsub").status == 200
