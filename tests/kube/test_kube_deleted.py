"""A deleted Lease stays deleted: only `create` makes a new one, and that is a decision of the election."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from devkit.api import EmbeddedApi
from kube.errors import ApiFailure, Failure
from kube.leases import LeaseClient
from kube.session import ApiSession


async def test_a_late_renewal_does_not_bring_a_deleted_lease_back_to_life(tmp_path: Path) -> None:
    """An API server answers 201 to a PUT of an object that is gone, unless its body names the uid."""
    async with EmbeddedApi() as api:
        api.write_kubeconfig(tmp_path / "config")
        async with ApiSession(tmp_path / "config", user_agent="test") as session:
            leases = LeaseClient(session, "default", "mine")
            record = await leases.create(holder="a", duration_s=15, transitions=1, timeout_s=30)
            await _delete(api.url)
            assert (await LeaseClient(session, "default", "mine").look(timeout_s=30))[0] is None
            for client in (leases, LeaseClient(session, "default", "mine")):
                with pytest.raises(ApiFailure) as refused:
                    await client.replace(record, holder="a", duration_s=15, transitions=1, acquired=False, timeout_s=30)
                assert refused.value.kind is Failure.CONFLICT
            assert (await leases.look(timeout_s=30))[0] is None


async def _delete(url: str) -> None:
    """As `kubectl delete lease mine` does; the product itself has no verb for it."""
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/mine"
    async with aiohttp.ClientSession() as http, http.delete(url + path) as answer:
        assert answer.status == 200
