"""Watches: from where, what, until when."""

from __future__ import annotations

from contract_api import AS_TABLE, Api, leader


async def test_a_watch_without_a_version_begins_with_what_there_is(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity="a")
    async with api.watch(api.leases()) as stream:
        assert await stream.next() == {"type": "ADDED", "object": created.body}
        changed = await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
        event = await stream.next()
        assert (event["type"], event["object"]["metadata"]["resourceVersion"]) == ("MODIFIED", changed.version)


async def test_version_zero_begins_with_what_there_is_too(api: Api) -> None:
    await api.create_lease("l")
    async with api.watch(api.leases(), resourceVersion="0") as stream:
        assert (await stream.next())["type"] == "ADDED"


async def test_a_watch_from_a_list_misses_nothing_and_repeats_nothing(api: Api) -> None:
    await api.create_lease("before")
    version = (await api.get(api.leases())).body["metadata"]["resourceVersion"]
    await api.create_lease("between")
    async with api.watch(api.leases(), resourceVersion=version) as stream:
        await api.create_lease("after")
        names = [(await stream.next())["object"]["metadata"]["name"] for _ in range(2)]
    assert names == ["between", "after"]


async def test_a_watch_resumes_after_any_event_it_gave(api: Api) -> None:
    first = await api.create_lease("l", leaseTransitions=0)
    for number in range(1, 5):
        await api.patch(api.leases("l"), {"spec": {"leaseTransitions": number}})
    seen = []
    version = first.version
    for _ in range(4):
        async with api.watch(api.leases(), resourceVersion=version) as stream:
            event = await stream.next()
        seen.append(event["object"]["spec"]["leaseTransitions"])
        version = event["object"]["metadata"]["resourceVersion"]
    assert seen == [1, 2, 3, 4]


async def test_a_deletion_carries_the_last_state_and_a_new_version(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity="a")
    async with api.watch(api.leases(), resourceVersion=created.version) as stream:
        await api.delete(api.leases("l"))
        event = await stream.next()
    assert event["type"] == "DELETED"
    assert event["object"]["spec"] == created.spec
    assert event["object"]["metadata"]["uid"] == created.body["metadata"]["uid"]
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(created.version)


async def test_a_deletion_can_be_resumed_from(api: Api) -> None:
    created = await api.create_lease("l")
    async with api.watch(api.leases(), resourceVersion=created.version) as stream:
        await api.delete(api.leases("l"))
        version = (await stream.next())["object"]["metadata"]["resourceVersion"]
    again = await api.create_lease("l")
    async with api.watch(api.leases(), resourceVersion=version) as stream:
        event = await stream.next()
    assert (event["type"], event["object"]["metadata"]["uid"]) == ("ADDED", again.body["metadata"]["uid"])


async def test_a_watch_of_one_name_sees_no_other(api: Api) -> None:
    await api.create_lease("mine")
    version = (await api.get(api.leases())).body["metadata"]["resourceVersion"]
    async with api.watch(api.leases(), resourceVersion=version, fieldSelector="metadata.name=mine") as stream:
        await api.create_lease("other")
        await api.patch(api.leases("other"), {"spec": {"holderIdentity": "x"}})
        await api.patch(api.leases("mine"), {"spec": {"holderIdentity": "y"}})
        event = await stream.next()
    assert (event["object"]["metadata"]["name"], event["object"]["spec"]) == ("mine", {"holderIdentity": "y"})


async def test_a_watch_of_a_name_that_is_not_there_sees_it_come(api: Api) -> None:
    async with api.watch(api.leases(), fieldSelector="metadata.name=l") as stream:
        await api.create_lease("l")
        assert (await stream.next())["type"] == "ADDED"


async def test_a_watch_of_a_label_sees_objects_come_and_go(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity="a")
    async with api.watch(api.leases(), resourceVersion=created.version, labelSelector="tier=x") as stream:
        await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
        await api.patch(api.leases("l"), {"metadata": {"labels": {"tier": "x"}}})
        await api.patch(api.leases("l"), {"spec": {"holderIdentity": "c"}})
        left = await api.patch(api.leases("l"), {"metadata": {"labels": {"tier": "y"}}})
        events = [await stream.next() for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    last = events[2]["object"]
    assert last["metadata"]["labels"] == {"tier": "x"}
    assert last["metadata"]["resourceVersion"] == left.version


async def test_a_watch_of_a_namespace_sees_no_other(api: Api) -> None:
    version = (await api.create_lease("l")).version
    elsewhere = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{api.namespace}"
    async with api.watch(api.leases(), resourceVersion=version) as stream:
        body = {"metadata": {"name": api.namespace}}
        assert (await api.put(elsewhere, body)).code == 201
        await api.patch(api.leases("l"), {"spec": {"holderIdentity": "a"}})
        assert (await stream.next())["object"]["metadata"]["name"] == "l"
    await api.delete(elsewhere)


async def test_a_watch_of_all_namespaces_sees_every_one(api: Api) -> None:
    version = (await api.create_lease("l")).version
    async with api.watch("/apis/coordination.k8s.io/v1/leases", resourceVersion=version) as stream:
        await api.patch(api.leases("l"), {"spec": {"holderIdentity": "a"}})
        while (await stream.next())["object"]["metadata"]["namespace"] != api.namespace:
            pass  # the real server keeps a Lease of its own


async def test_a_watch_of_custom_objects_sees_status_writes(api: Api) -> None:
    await api.post(api.leaders(), leader("cardano-leader"))
    async with api.watch(api.leaders(), fieldSelector="metadata.name=cardano-leader") as stream:
        await stream.next()
        await api.patch(api.leaders("cardano-leader") + "/status", {"status": {"leaderPod": "pod-0"}})
        event = await stream.next()
    assert (event["type"], event["object"]["status"]) == ("MODIFIED", {"leaderPod": "pod-0"})


async def test_a_write_that_changes_nothing_is_no_event(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity="a")
    async with api.watch(api.leases(), resourceVersion=created.version) as stream:
        await api.put(api.leases("l"), created.body)
        await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
        assert (await stream.next())["object"]["spec"] == {"holderIdentity": "b"}


async def test_a_watch_ends_when_its_time_is_up(api: Api) -> None:
    await api.create_lease("l")
    async with api.watch(api.leases(), timeoutSeconds="1") as stream:
        events = await stream.to_the_end()
    assert [event["type"] for event in events] == ["ADDED"]


async def test_initial_events_end_with_a_bookmark_where_asked_for(api: Api) -> None:
    await api.create_lease("a")
    await api.create_lease("b")
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with api.watch(api.leases(), **query) as stream:
        events = [await stream.next() for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
    mark = events[2]["object"]
    assert mark["kind"] == "Lease"
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["metadata"]["resourceVersion"]) >= int(events[1]["object"]["metadata"]["resourceVersion"])


async def test_a_watch_can_be_resumed_from_a_bookmark(api: Api) -> None:
    await api.create_lease("a")
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with api.watch(api.leases(), **query) as stream:
        await stream.next()
        version = (await stream.next())["object"]["metadata"]["resourceVersion"]
    await api.create_lease("b")
    async with api.watch(api.leases(), resourceVersion=version) as stream:
        assert (await stream.next())["object"]["metadata"]["name"] == "b"


async def test_a_version_from_before_a_restart_is_gone(api: Api) -> None:
    """The watch answers 200 and ends with an ERROR event of code 410: the client has to list again."""
    old = (await api.create_lease("l")).version
    for number in range(3):
        await api.patch(api.leases("l"), {"spec": {"leaseTransitions": number}})
    await api.server.restart()
    async with api.watch(api.leases(), resourceVersion=old) as stream:
        assert stream.code == 200
        event = await stream.next()
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        assert event["object"]["message"].startswith(f"too old resource version: {old} (")
        assert await stream.next_or_end() is None
    fresh = (await api.get(api.leases())).body["metadata"]["resourceVersion"]
    async with api.watch(api.leases(), resourceVersion=fresh) as stream:
        await api.patch(api.leases("l"), {"spec": {"leaseTransitions": 9}})
        assert (await stream.next())["object"]["spec"]["leaseTransitions"] == 9


async def test_a_watch_from_a_version_yet_to_come_is_silent_until_then(api: Api) -> None:
    """So is one from a version that the server had before it was restored from a backup."""
    version = int((await api.create_lease("l")).version)
    later = version + 30
    async with api.watch(api.leases(), resourceVersion=str(later)) as stream:
        while version <= later:
            version = int((await api.patch(api.leases("l"), {"spec": {"leaseTransitions": version}})).version)
        event = await stream.next()
    assert event["object"]["metadata"]["resourceVersion"] == str(version)


async def test_a_version_that_is_no_number_is_an_error(api: Api) -> None:
    async with api.watch(api.leases(), resourceVersion="abc") as stream:
        assert stream.code == 500
    async with api.watch(api.leases(), timeoutSeconds="abc") as stream:
        assert stream.code == 400
    async with api.watch(api.leases(), sendInitialEvents="true") as stream:
        assert stream.code == 422


async def test_a_watch_can_be_given_as_table_rows(api: Api) -> None:
    await api.create_lease("l", holderIdentity="a")
    async with api.watch(api.leases(), accept=AS_TABLE) as stream:
        event = await stream.next()
    table = event["object"]
    assert (event["type"], table["kind"]) == ("ADDED", "Table")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Holder", "Age"]
    assert table["rows"][0]["cells"][:2] == ["l", "a"]
