"""Two writers and one object: what the server promises them."""

from __future__ import annotations

import asyncio

from contract_api import Api, cluster, lease


async def test_every_write_gives_the_object_a_new_version(api: Api) -> None:
    first = await api.create_lease("l", holderIdentity="a")
    second = await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
    assert int(second.version) > int(first.version)
    assert (await api.get(api.leases("l"))).version == second.version


async def test_versions_rise_across_objects(api: Api) -> None:
    first = await api.create_lease("l")
    second = await api.create_cluster("c")
    third = await api.create_lease("m")
    assert int(first.version) < int(second.version) < int(third.version)


async def test_a_write_that_changes_nothing_leaves_the_version_alone(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity="a")
    again = await api.put(api.leases("l"), created.body)
    assert again.code == 200
    assert again.version == created.version


async def test_a_put_with_an_outdated_version_is_a_conflict(api: Api) -> None:
    created = await api.create_lease("l", holderIdentity="a")
    await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
    late = await api.put(api.leases("l"), {**created.body, "spec": {"holderIdentity": "c"}})
    assert late.code == 409
    assert late.reason == "Conflict"
    assert late.body["details"] == {"name": "l", "group": "coordination.k8s.io", "kind": "leases"}
    assert "please apply your changes to the latest version and try again" in late.body["message"]
    assert (await api.get(api.leases("l"))).spec["holderIdentity"] == "b"


async def test_of_many_concurrent_puts_with_one_version_exactly_one_wins(api: Api) -> None:
    created = (await api.create_lease("l")).body
    puts = [api.put(api.leases("l"), {**created, "spec": {"holderIdentity": f"p{n}"}}) for n in range(20)]
    codes = sorted(answer.code for answer in await asyncio.gather(*puts))
    assert codes == [200] + [409] * 19


async def test_of_many_concurrent_creates_exactly_one_wins(api: Api) -> None:
    posts = [api.post(api.leases(), lease("l", holderIdentity=f"p{n}")) for n in range(20)]
    codes = sorted(answer.code for answer in await asyncio.gather(*posts))
    assert codes == [201] + [409] * 19


async def test_a_second_create_is_refused_as_already_existing(api: Api) -> None:
    await api.create_lease("l")
    again = await api.post(api.leases(), lease("l"))
    assert (again.code, again.reason) == (409, "AlreadyExists")
    assert again.body["message"] == 'leases.coordination.k8s.io "l" already exists'


async def test_a_put_without_a_version_is_refused(api: Api) -> None:
    await api.create_lease("l")
    await api.create_cluster("c")
    for path, body in ((api.leases("l"), lease("l")), (api.clusters("c"), cluster("c"))):
        answer = await api.put(path, body)
        assert (answer.code, answer.reason) == (422, "Invalid")
        assert answer.fields == {"metadata.resourceVersion"}


async def test_a_patch_that_names_an_outdated_version_is_a_conflict(api: Api) -> None:
    for path, created in (
        (api.leases("l"), await api.create_lease("l")),
        (api.clusters("c"), await api.create_cluster("c")),
    ):
        await api.patch(path, {"metadata": {"labels": {"a": "b"}}})
        version = created.version
        late = await api.patch(path, {"metadata": {"resourceVersion": version, "labels": {"a": "c"}}})
        assert (late.code, late.reason) == (409, "Conflict")


async def test_a_patch_without_a_version_is_applied_to_what_is_there(api: Api) -> None:
    await api.create_lease("l", holderIdentity="a", leaseDurationSeconds=15)
    await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
    last = await api.patch(api.leases("l"), {"spec": {"leaseDurationSeconds": 16}})
    assert last.spec == {"holderIdentity": "b", "leaseDurationSeconds": 16}


async def test_a_put_for_another_uid_is_a_conflict(api: Api) -> None:
    created = (await api.create_lease("l")).body
    other = {**created, "metadata": {**created["metadata"], "uid": "8d3f6a30-0000-4000-8000-000000000000"}}
    answer = await api.put(api.leases("l"), other)
    assert (answer.code, answer.reason) == (409, "Conflict")


async def test_a_put_to_a_lease_that_is_not_there_creates_it(api: Api) -> None:
    answer = await api.put(api.leases("l"), lease("l", holderIdentity="a"))
    assert answer.code == 201
    assert (await api.get(api.leases("l"))).spec["holderIdentity"] == "a"


async def test_a_late_renewal_by_version_alone_brings_a_deleted_lease_back(api: Api) -> None:
    """So a holder that must not do that has to send the uid."""
    held = (await api.create_lease("l", holderIdentity="a")).body
    await api.delete(api.leases("l"))
    without_uid = {name: value for name, value in held["metadata"].items() if name != "uid"}
    answer = await api.put(api.leases("l"), {**held, "metadata": without_uid})
    assert answer.code == 201
    assert answer.body["metadata"]["uid"] != held["metadata"]["uid"]


async def test_a_late_renewal_with_the_uid_of_a_deleted_lease_is_a_conflict(api: Api) -> None:
    held = (await api.create_lease("l", holderIdentity="a")).body
    await api.delete(api.leases("l"))
    answer = await api.put(api.leases("l"), held)
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert (await api.get(api.leases("l"))).code == 404


async def test_a_put_to_a_custom_object_that_is_not_there_is_not_found(api: Api) -> None:
    answer = await api.put(api.clusters("c"), cluster("c"))
    assert (answer.code, answer.reason) == (404, "NotFound")


async def test_a_recreated_object_has_another_uid(api: Api) -> None:
    first = (await api.create_lease("l")).body["metadata"]["uid"]
    await api.delete(api.leases("l"))
    assert (await api.create_lease("l")).body["metadata"]["uid"] != first


async def test_a_delete_of_what_is_not_meant_is_a_conflict(api: Api) -> None:
    created = await api.create_lease("l")
    await api.patch(api.leases("l"), {"spec": {"holderIdentity": "b"}})
    wrong = {"uid": "8d3f6a30-0000-4000-8000-000000000000"}, {"resourceVersion": created.version}
    for preconditions in wrong:
        answer = await api.delete(api.leases("l"), {"preconditions": preconditions})
        assert (answer.code, answer.reason) == (409, "Conflict")
    uid = created.body["metadata"]["uid"]
    assert (await api.delete(api.leases("l"), {"preconditions": {"uid": uid}})).code == 200


async def test_a_delete_says_what_it_deleted(api: Api) -> None:
    uid = (await api.create_lease("l")).body["metadata"]["uid"]
    answer = await api.delete(api.leases("l"))
    assert answer.body["status"] == "Success"
    assert answer.body["details"] == {"name": "l", "group": "coordination.k8s.io", "kind": "leases", "uid": uid}
    again = await api.delete(api.leases("l"))
    assert (again.code, again.reason) == (404, "NotFound")
    assert again.body["message"] == 'leases.coordination.k8s.io "l" not found'
