"""The HTTP side: addresses, users, formats.  Every answer is JSON; every refusal is a Status."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

import yaml
from aiohttp import web

from devkit.api import discovery, errors, openapi, patches, protobuf, rbac, selectors
from devkit.api.counting import RequestCounter
from devkit.api.errors import ApiError, Cause, UnknownPathError
from devkit.api.kinds import ResourceType
from devkit.api.negotiate import JSON, negotiate
from devkit.api.registry import Options, Registry
from devkit.api.server_protocol import ANONYMOUS
from devkit.api.table import table
from devkit.api.watch import Watching, WatchRequest, default_timeout_s

Json = dict[str, Any]

_MERGE: Final = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_JSON_PATCH: Final = "application/json-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_BODY_MAX: Final = 3 * 1024 * 1024
"""As etcd and the real server limit it."""
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_RESOURCE: Final = 3
"""Addresses of resources have at least so many parts below /api, one more below /apis."""
_MANAGER_MAX: Final = 128
_TYPE_META: Final = ("kind", "apiVersion")
_FIELD_VALIDATION: Final = ("Ignore", "Warn", "Strict")


class _JsonLoader(yaml.SafeLoader):
    """YAML as what JSON could say too: a time stays the text it is written as."""


_JsonLoader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for sign, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Place:
    """What an address names."""

    resource: ResourceType
    namespace: str | None
    """None: all namespaces, or the resource has none."""
    name: str | None
    sub: str


class ApiApplication:
    """Answers requests on a registry."""

    def __init__(
        self,
        registry: Registry,
        users: Mapping[str, str],
        counter: RequestCounter,
        *,
        bookmark_interval_s: float,
        authorize: bool = False,
        clock_ahead_s: float = 0.0,
    ) -> None:
        """users: token -> name; empty: everybody is let in.  authorize: they may do what bindings give them."""
        self._registry = registry
        self._authorizer = rbac.Authorizer(registry.store, everybody=not authorize)
        self._clock_ahead_s = clock_ahead_s
        self._users = users
        self._counter = counter
        self._bookmark_interval = bookmark_interval_s
        self.stopping = False
        self.app: Final = web.Application(client_max_size=_BODY_MAX)
        self.app.router.add_route("*", "/{path:.*}", self._answer)
        if clock_ahead_s:
            self.app.on_response_prepare.append(self._date)

    # --- addresses ---

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._dispatch(request, self._authenticate(request))
        except ApiError as error:
            return _json(error.status(), error.code)
        except UnknownPathError:
            return web.Response(status=404, text="404 page not found\n")

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(time.time() + self._clock_ahead_s, usegmt=True)

    async def _dispatch(self, request: web.Request, user: str) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return _json(discovery.VERSION)
            case [*_] if user == ANONYMOUS and self._users and (len(parts) < _RESOURCE or parts[0] == "openapi"):
                raise errors.forbidden_path(request.path, user)
            case ["openapi", "v3", *rest]:
                return self._openapi(rest)
            case ["api" | "apis"] | ["apis", _] | ["api", _] | ["apis", _, _]:
                return self._discover(request, parts)
            case ["api", version, *rest]:
                self._authorize(request, user, "", version, rest)
                return await self._on_resource(request, user, self._place("", version, rest))
            case ["apis", group, version, *rest]:
                self._authorize(request, user, group, version, rest)
                return await self._on_resource(request, user, self._place(group, version, rest))
            case _:
                raise UnknownPathError

    def _authenticate(self, request: web.Request) -> str:
        if not self._users or not request.headers.get("Authorization"):
            return ANONYMOUS
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self._users.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise errors.unauthorized()
        return user

    def _authorize(self, request: web.Request, user: str, group: str, version: str, rest: list[str]) -> None:
        """403 before anything else is looked at."""
        place = rbac.asked(group, rest)
        verb = _verb(request, named=bool(place.name))
        asked = rbac.selected(dataclasses.replace(place, verb=verb), request.query.get("fieldSelector", ""))
        if (group, asked.resource) == rbac.SELF_REVIEW.key and user != ANONYMOUS:
            return
        wanted = [asked]
        resource = self._registry.find(group, version, asked.resource)
        creates = (verb == "update" and resource is not None and resource.create_on_update) or (
            verb == "patch" and request.content_type == _APPLY
        )
        if (
            creates
            and resource is not None
            and not asked.sub
            and not self._registry.has(resource, asked.namespace, asked.name)
        ):
            wanted.append(dataclasses.replace(asked, verb="create"))
        for each in wanted:
            if not self._authorizer.allows(user, each):
                if user != ANONYMOUS:
                    self._counter.add(user, verb)
                raise rbac.refusal(each, version, user)

    def _discover(self, request: web.Request, parts: list[str]) -> web.Response:
        resources = self._registry.resources()
        found: Json | None
        match parts:
            case ["api" | "apis" as root] if negotiate(request.headers.get("Accept", "")).aggregated:
                body = discovery.aggregated(resources, core=root == "api")
                media = f"{JSON};g=apidiscovery.k8s.io;v=v2;as={discovery.AGGREGATED}"
                return web.Response(body=_dumps(body), headers={"Content-Type": media})
            case ["api"]:
                found = discovery.core_versions(request.host)
            case ["apis"]:
                found = discovery.group_list(resources)
            case ["api", version]:
                found = discovery.resource_list(resources, "", version)
            case ["apis", group]:
                found = discovery.group(resources, group)
            case ["apis", group, version]:
                found = discovery.resource_list(resources, group, version)
            case _:
                found = None
        if found is None:
            raise UnknownPathError
        return _json(found)

    def _openapi(self, rest: list[str]) -> web.Response:
        resources = self._registry.resources()
        found = openapi.document(resources, "/" + "/".join(rest)) if rest else openapi.index(resources)
        if found is None:
            raise errors.no_such_path()
        return _json(found)

    def _place(self, group: str, version: str, rest: list[str]) -> Place:
        namespace: str | None = None
        if rest[0] == "namespaces" and len(rest) > 2 and not (len(rest) == 3 and rest[2] in {"status", "finalize"}):
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = (*rest, None, None, None)[:3]
        resource = self._registry.find(group, version, plural or "")
        if not any(known.root == f"/apis/{group}/{version}" for known in self._registry.resources()) and group:
            raise UnknownPathError
        if resource is None or len(rest) > 3 or (namespace is not None) > resource.namespaced:
            raise errors.no_such_path()
        if sub and not (sub == "status" and resource.status_subresource):
            raise errors.no_such_path()
        if name is not None and resource.namespaced and namespace is None:
            raise UnknownPathError
        return Place(resource, namespace, name, sub or "")

    # --- verbs ---

    async def _on_resource(self, request: web.Request, user: str, place: Place) -> web.StreamResponse:
        verb = _verb(request, named=place.name is not None)
        handlers: dict[str, Callable[[web.Request, Place], Awaitable[web.StreamResponse]]] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
        }
        if verb not in handlers or (verb in {"update", "patch", "delete"} and place.name is None):
            raise errors.method_not_allowed()
        if verb not in place.resource.verbs:
            raise errors.method_not_allowed()
        if (verb == "create" and place.name is not None) or (verb == "delete" and place.sub):
            raise errors.method_not_allowed()
        if user == ANONYMOUS and self._users:
            raise errors.forbidden(place.resource, place.name or "", place.namespace or "", user, verb)
        self._counter.add(user, verb)
        if place.resource.virtual:
            return _json(rbac.reviewed(await _body(request, place.resource), user, self._authorizer), 201)
        return await handlers[verb](request, place)

    async def _get(self, request: web.Request, place: Place) -> web.Response:
        self._check_not_future(request)
        assert place.name is not None
        body = self._registry.get(place.resource, place.namespace or "", place.name)
        return self._rendered(request, place.resource, body)

    async def _list(self, request: web.Request, place: Place) -> web.Response:
        resource, query = place.resource, request.query
        self._check_not_future(request)
        if query.get("continue"):
            # This server never cuts a list, so it never gave a continue token.
            raise errors.bad_request("invalid continue token: continue key is not valid")
        selected = selectors.selector(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        bodies = self._registry.store.items(resource.key, place.namespace if resource.namespaced else None)
        found = [body for body in bodies if selected is None or selected(body)]
        meta: Json = {"resourceVersion": str(self._registry.store.revision)}
        if negotiate(request.headers.get("Accept", "")).as_table:
            return _json(table(resource, found, meta, query.get("includeObject", "Metadata")))
        if resource.custom:
            meta["continue"] = ""
        else:
            # Items of a typed list say neither kind nor apiVersion; the list does.
            found = [{name: value for name, value in body.items() if name not in _TYPE_META} for body in found]
        listed = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta, "items": found}
        return _json(listed)

    async def _watch(self, request: web.Request, place: Place) -> web.StreamResponse:
        resource, query = place.resource, request.query
        selected = selectors.selector(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        try:
            revision = _revision(query.get("resourceVersion", ""))
        except ValueError as error:
            raise errors.internal(str(error)) from error
        send_initial = query.get("sendInitialEvents") == "true"
        if send_initial and query.get("resourceVersionMatch") != "NotOlderThan":
            said = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise errors.invalid_option("ListOptions", Cause("FieldValueForbidden", "resourceVersionMatch", said))
        asked = WatchRequest(
            resource=resource,
            namespace=place.namespace if resource.namespaced else None,
            selector=selected,
            revision=revision or None,
            bookmarks=query.get("allowWatchBookmarks") in {"1", "true"},
            send_initial=send_initial,
            timeout_s=_timeout(query.get("timeoutSeconds", "")) or default_timeout_s(),
        )
        render: Callable[[Json], Json] = _unchanged
        if negotiate(request.headers.get("Accept", "")).as_table:
            include = query.get("includeObject", "Metadata")

            def render(body: Json) -> Json:
                return table(resource, [body], {"resourceVersion": body["metadata"]["resourceVersion"]}, include)

        store = self._registry.store
        watching = Watching(store, asked, render, lambda: self.stopping, self._bookmark_interval)
        response = web.StreamResponse(headers={"Content-Type": JSON, "Cache-Control": "no-cache, private"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # the client left
            async with contextlib.aclosing(watching.lines()) as lines:
                await _send(response, lines)
        return response

    async def _create(self, request: web.Request, place: Place) -> web.Response:
        if place.resource.namespaced and place.namespace is None:
            raise errors.method_not_allowed()
        body = await _body(request, place.resource)
        written = self._registry.create(place.resource, place.namespace or "", body, _options(request))
        return self._rendered(request, place.resource, written.body, 201, written.warnings)

    async def _update(self, request: web.Request, place: Place) -> web.Response:
        assert place.name is not None
        body = await _body(request, place.resource)
        written = self._registry.update(
            place.resource, place.namespace or "", place.name, body, place.sub, _options(request)
        )
        return self._rendered(request, place.resource, written.body, 201 if written.created else 200, written.warnings)

    async def _patch(self, request: web.Request, place: Place) -> web.Response:
        assert place.name is not None
        kind = request.content_type
        accepted = (_JSON_PATCH, *(_MERGE[:1] if place.resource.custom else _MERGE), _APPLY)
        if kind not in accepted:
            raise errors.unsupported_media_type(accepted)
        if kind == _APPLY:
            return await self._apply(request, place)
        if "force" in request.query:
            said = "Forbidden: may not be specified for non-apply patch"
            raise errors.invalid_option("PatchOptions", Cause("FieldValueForbidden", "force", said))
        patch = _parse(await request.text(), kind)
        if kind in _MERGE and not isinstance(patch, dict):
            raise errors.bad_request("a merge patch is an object")

        def change(current: Json) -> Json:
            if kind == _JSON_PATCH:
                return patches.apply_json_patch(current, patch)
            merged: Json = patches.merge(current, patch)
            return merged

        written = self._registry.patch(
            place.resource, place.namespace or "", place.name, change, place.sub, _options(request)
        )
        return self._rendered(request, place.resource, written.body, 200, written.warnings)

    async def _apply(self, request: web.Request, place: Place) -> web.Response:
        assert place.name is not None
        options = _options(request)
        if not request.query.get("fieldManager"):
            said = "Required value: is required for apply patch"
            raise errors.invalid_option("PatchOptions", Cause("FieldValueRequired", "fieldManager", said))
        try:
            config = yaml.load(await request.text(), Loader=_JsonLoader)  # noqa: S506 (a SafeLoader)
        except yaml.YAMLError as error:
            raise errors.bad_request(f"error decoding patch: error converting YAML to JSON: {error}") from error
        if not isinstance(config, dict):
            raise errors.bad_request("error decoding patch: error unmarshaling JSON: an object is expected")
        written = self._registry.apply(place.resource, place.namespace or "", place.name, config, place.sub, options)
        return self._rendered(request, place.resource, written.body, 201 if written.created else 200, written.warnings)

    async def _delete(self, request: web.Request, place: Place) -> web.Response:
        assert place.name is not None
        body = await _body(request, place.resource) if request.body_exists else {}
        options = _options(request)
        return _json(self._registry.delete(place.resource, place.namespace or "", place.name, body, options))

    # --- the parts ---

    def _rendered(
        self,
        request: web.Request,
        resource: ResourceType,
        body: Json,
        code: int = 200,
        warnings: list[str] | None = None,
    ) -> web.Response:
        if negotiate(request.headers.get("Accept", "")).as_table:
            meta = {"resourceVersion": body["metadata"]["resourceVersion"]}
            body = table(resource, [body], meta, request.query.get("includeObject", "Metadata"))
        response = _json(body, code)
        for warning in warnings or []:
            quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{quoted}"')
        return response

    def _check_not_future(self, request: web.Request) -> None:
        try:
            wanted = _revision(request.query.get("resourceVersion", "")) or 0
        except ValueError as error:
            raise errors.bad_request(f"invalid resource version: {error}") from error
        current = self._registry.store.revision
        if wanted > current:
            raise errors.from_the_future(wanted, current)


def _verb(request: web.Request, *, named: bool) -> str:
    """As the audit log calls it; named: the address is one object's."""
    if request.method in {"GET", "HEAD"}:
        return "get" if named else "watch" if request.query.get("watch", "") in {"1", "true"} else "list"
    return _VERBS.get(request.method, "")


async def _send(response: web.StreamResponse, lines: AsyncIterator[bytes]) -> None:
    async for line in lines:
        await response.write(line)
    await response.write_eof()


def _unchanged(body: Json) -> Json:
    return body


def _options(request: web.Request) -> Options:
    validation = request.query.get("fieldValidation") or "Warn"
    if validation not in _FIELD_VALIDATION:
        said = f'Unsupported value: "{validation}": supported values: "", "Ignore", "Strict", "Warn"'
        raise errors.invalid_option(_options_kind(request), Cause("FieldValueNotSupported", "fieldValidation", said))
    return Options(
        validation,
        request.query.get("dryRun") == "All",
        _manager(request),
        request.query.get("force", "0").lower() not in {"0", "false"},
    )


def _manager(request: web.Request) -> str:
    """Who writes: the fieldManager of the query, else the user agent up to its version."""
    named = request.query.get("fieldManager", "")
    if len(named.encode()) > _MANAGER_MAX:
        said = f"Too long: may not be more than {_MANAGER_MAX} bytes"
        raise errors.invalid_option(_options_kind(request), Cause("FieldValueTooLong", "fieldManager", said))
    for at, sign in enumerate(named):
        if not sign.isprintable():
            shown = f'"{named.encode("unicode_escape").decode()}"'
            said = f"Invalid value: {shown}: invalid character U+{ord(sign):04X} (at position {at})"
            raise errors.invalid_option(_options_kind(request), Cause("FieldValueInvalid", "fieldManager", said))
    if named:
        return named
    agent = request.headers.get("User-Agent", "").partition("/")[0]
    return "".join(sign for sign in agent if sign.isprintable())[:_MANAGER_MAX]


def _options_kind(request: web.Request) -> str:
    return {"POST": "CreateOptions", "PUT": "UpdateOptions"}.get(request.method, "PatchOptions")


def _revision(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        parse = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        raise ValueError(f'resourceVersion: Invalid value: "{text}": {parse}')
    return int(text)


def _timeout(text: str) -> float:
    if not text:
        return 0.0
    if not text.isdecimal():
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return float(text)


async def _body(request: web.Request, resource: ResourceType) -> Json:
    kind = request.content_type if "Content-Type" in request.headers else JSON
    if kind == protobuf.MEDIA_TYPE and protobuf.readable(resource):
        try:
            return protobuf.decode(await request.read())
        except protobuf.ProtobufError as error:
            raise errors.bad_request(f"couldn't parse the body: {error}") from error
    if kind not in {JSON, "application/yaml"}:
        raise errors.unsupported_media_type((JSON, "application/yaml", protobuf.MEDIA_TYPE))
    found = _parse(await request.text(), kind)
    if not isinstance(found, dict):
        raise errors.bad_request("the body of the request is no object")
    return found


def _parse(text: str, kind: str) -> Any:
    try:
        return yaml.load(text, Loader=_JsonLoader) if kind == "application/yaml" else json.loads(text)  # noqa: S506
    except (ValueError, yaml.YAMLError) as error:
        raise errors.bad_request(f"couldn't parse the body: {error}") from error


def _dumps(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _json(body: Json, code: int = 200) -> web.Response:
    return web.Response(body=_dumps(body), status=code, content_type=JSON)
