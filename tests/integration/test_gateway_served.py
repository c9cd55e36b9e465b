"""A gateway between honest clients and honest runners."""

from factories.gateways import Rig, served


@served()
async def test_bytes_go_both_ways_as_they_are(here: Rig) -> None:
    address, seen = await here.runner()
    client, _ = await here.open(address)
    assert client.subprotocol == "gk.term.v1"
    for message in (b"\x00ls\n", "{}", b"x" * 100_000, b""):
        await client.send(message)
        assert await client.recv() == message
    request = seen[0].request
    assert request is not None
    assert "ticket" not in str(request.headers)
