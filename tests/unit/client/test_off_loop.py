"""Bodies that a thread compresses."""

import pytest

from crew.client import off_loop
from crew.protocol.encoding import codec
from crew.protocol.message import Body

LARGE = Body(b"text " * 20_000, codec.TEXT)
LIMIT = 50_000  # bytes


@pytest.mark.gen_test
@pytest.mark.parametrize(("compresses", "max_size", "encoding"), [(True, 10**6, "gzip"), (False, 10**6, None)])
async def test_a_received_body_is_compressed_where_that_is_set(
    compresses: bool, max_size: int, encoding: str | None
) -> None:
    packed = await off_loop.packed(LARGE, max_size, compresses=compresses)
    assert packed.content_encoding == encoding


@pytest.mark.gen_test
async def test_a_received_body_above_the_limit_is_compressed_with_every_setting() -> None:
    packed = await off_loop.packed(LARGE, LIMIT, compresses=False)
    assert len(packed.data) <= LIMIT
    assert codec.unpacked(packed).data == LARGE.data
