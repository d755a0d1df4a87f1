"""client-go and kubectl send built-in kinds as protobuf: the server must take them."""

from __future__ import annotations

from contract_api import Api

PROTOBUF = "application/vnd.kubernetes.protobuf"


def number(value: int) -> bytes:
    """A varint; a negative number as its two's complement in 64 bits."""
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def text(field: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(data)) + data


def integer(field: int, value: int) -> bytes:
    return number(field << 3) + number(value)


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + text(1, text(1, version) + text(2, kind)) + text(2, raw)


async def send(api: Api, method: str, path: str, data: bytes) -> tuple[int, dict[str, object]]:
    headers = {
        "Content-Type": PROTOBUF,
        "Accept": "application/json",
        "Authorization": f"Bearer {api.server.token_for('admin')}",
    }
    async with api.session.request(method, api.server.url + path, data=data, headers=headers) as response:
        return response.status, await response.json()


def lease_bytes(duration: int = 15) -> bytes:
    label = text(1, "a") + text(2, "b")
    meta = text(1, "l") + text(8, b"") + text(11, label) + text(12, text(1, "c/d") + text(2, "ü"))
    time = integer(1, 1767225600) + integer(2, 123456000)
    spec = text(1, "pod-0") + integer(2, duration) + text(3, time) + text(4, time) + integer(5, 7)
    return envelope("coordination.k8s.io/v1", "Lease", text(1, meta) + text(2, spec))


async def test_a_lease_in_protobuf_is_the_lease_in_json(api: Api) -> None:
    code, body = await send(api, "POST", api.leases(), lease_bytes())
    assert code == 201, body
    assert body["spec"] == {
        "holderIdentity": "pod-0",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.123456Z",
        "renewTime": "2026-01-01T00:00:00.123456Z",
        "leaseTransitions": 7,
    }
    answer = await api.get(api.leases("l"))
    assert answer.spec == body["spec"]
    assert answer.body["metadata"]["labels"] == {"a": "b"}
    assert answer.body["metadata"]["annotations"] == {"c/d": "ü"}


async def test_a_negative_number_is_read_as_one(api: Api) -> None:
    code, body = await send(api, "POST", api.leases(), lease_bytes(duration=-1))
    assert (code, body["reason"]) == (422, "Invalid")


async def test_an_event_in_protobuf_is_kept(api: Api) -> None:
    about = text(1, "Lease") + text(2, api.namespace) + text(3, "l")
    meta = text(1, "e") + text(3, api.namespace)
    raw = text(1, meta) + text(2, about) + text(3, "LeaderElection") + text(4, "became leader") + text(9, "Normal")
    path = f"/api/v1/namespaces/{api.namespace}/events"
    code, body = await send(api, "POST", path, envelope("v1", "Event", raw))
    assert code == 201, body
    assert body["involvedObject"] == {"kind": "Lease", "namespace": api.namespace, "name": "l"}
    assert (body["reason"], body["message"], body["type"]) == ("LeaderElection", "became leader", "Normal")
    listed = await api.get(path, fieldSelector="involvedObject.name=l,involvedObject.kind=Lease")
    assert [item["metadata"]["name"] for item in listed.body["items"]] == ["e"]


async def test_bytes_that_are_no_message_are_refused(api: Api) -> None:
    for data in (b"", b"k8s\x00", b"nonsense", lease_bytes()[:-3], envelope("v1", "Nothing", b"")):
        code, body = await send(api, "POST", api.leases(), data)
        assert (code, body["reason"]) == (400, "BadRequest"), data
