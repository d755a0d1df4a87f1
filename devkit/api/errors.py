"""The API's refusals: each is an exception that knows its HTTP status and its `Status` body.

Reasons and details are those of k8s.io/apimachinery's api/errors package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devkit.api.kinds import ResourceType

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """One finding of a validation."""

    reason: str
    """FieldValueInvalid, FieldValueRequired, FieldValueNotSupported, ..."""
    field: str
    """Path such as spec.priority."""
    message: str
    """Without the field's name."""

    def as_json(self) -> Json:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """A refused request."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Json:
        """The body of kind Status."""
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return body


def _details(resource: ResourceType, name: str) -> Json:
    details: Json = {"name": name}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    return details


def not_found(resource: ResourceType, name: str) -> ApiError:
    """404 for an object."""
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def no_such_path() -> ApiError:
    """404 for an address no resource lives at."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: ResourceType, name: str) -> ApiError:
    """409 for a second create."""
    return ApiError(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', _details(resource, name))


def conflict(resource: ResourceType, name: str, why: str) -> ApiError:
    """409 for a lost compare-and-swap."""
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def apply_conflict(said: Mapping[str, Sequence[str]]) -> ApiError:
    """409 for an apply of what others own: the fields by owner."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": path}
        for owner, paths in said.items()
        for path in paths
    ]
    if len(causes) == 1:
        told = f"1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = [line for owner, paths in said.items() for line in (f"conflicts with {owner}:", *_listed(paths))]
        told = f"{len(causes)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", f"Apply failed with {told}", {"causes": causes})


def _listed(paths: Sequence[str]) -> list[str]:
    return [f"- {path}" for path in paths]


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def invalid(resource: ResourceType, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with one cause for each field."""
    return _invalid(resource.group, resource.kind, name, causes)


def not_versioned(resource: ResourceType, name: str) -> ApiError:
    """422 for an update that does not say what it is based on."""
    cause = Cause("FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
    return _invalid(resource.group, resource.plural, name, [cause])


def wrong_kind(resource: ResourceType, name: str, given: str) -> ApiError:
    """422 for a custom object of another kind of the same group."""
    cause = Cause("FieldValueInvalid", "kind", f'Invalid value: "{given}": must be {resource.kind}')
    return _invalid(resource.group, given, name, [cause])


def invalid_option(kind: str, cause: Cause) -> ApiError:
    """422 for a query that is not understood; kind: CreateOptions, ListOptions, ..."""
    return _invalid("meta.k8s.io", kind, "", [cause])


def invalid_patch(why: str) -> ApiError:
    """422 for a patch that gives no object of the kind."""
    return _invalid("", "", "", [Cause("FieldValueInvalid", "patch", f"Invalid value: {why}")])


def rejected_patch() -> ApiError:
    """422 for a JSON patch that cannot be applied, or whose test fails."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def _invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    named = f"{kind}.{group}" if group else kind
    said = [f"{cause.field}: {cause.message}" for cause in causes]
    text = said[0] if len(said) == 1 else "[" + ", ".join(said) + "]"
    details: Json = {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}
    details["causes"] = [cause.as_json() for cause in causes]
    return ApiError(422, "Invalid", f'{named} "{name}" is invalid: {text}'.lstrip(), details)


def failed_precondition(resource: ResourceType, name: str, what: str, wanted: str, found: str) -> ApiError:
    """409 for a delete of an object that is not the one meant; what: UID or ResourceVersion."""
    since = "deleted and then recreated" if what == "UID" else "modified"
    why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found})."
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    message = f'Operation cannot be fulfilled on {qualified} "{name}": {why} The object might have been {since}'
    return ApiError(409, "Conflict", message, {**_details(resource, name), "kind": resource.kind})


def wrong_uid(resource: ResourceType, name: str, key: str, wanted: str, found: str) -> ApiError:
    """409 for an update of an object that is not the one meant."""
    why = (
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg:"
        f" Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    )
    return conflict(resource, name, why)


def internal(message: str) -> ApiError:
    """500 for what the real server does not expect either."""
    return ApiError(500, "", message)


def bad_request(message: str) -> ApiError:
    """400 for what cannot be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401 for an unknown token."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: ResourceType, name: str, namespace: str, user: str, verb: str) -> ApiError:
    """403 for a user without that right."""
    details: Json = {"name": name} if name else {}
    details |= {"group": resource.group} if resource.group else {}
    shown = f'{resource.qualified} "{name}"' if name else resource.qualified
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    what = f'cannot {verb} resource "{resource.plural}" in API group "{resource.group}"{where}'
    message = f'{shown} is forbidden: User "{user}" {what}'
    return ApiError(403, "Forbidden", message, {**details, "kind": resource.plural})


def forbidden_path(path: str, user: str) -> ApiError:
    """403 for an address that is no resource."""
    return ApiError(403, "Forbidden", f'forbidden: User "{user}" cannot get path "{path}"', {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415 for a body in an unknown format."""
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", message)


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    """406 when no format the client takes can be given."""
    message = f"406: Not Acceptable\n\nAvailable representations: {', '.join(accepted)}"
    return ApiError(406, "NotAcceptable", message, {})


def method_not_allowed() -> ApiError:
    """405 for a verb the resource does not know."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def expired(message: str) -> ApiError:
    """410: what was asked for lies before the history."""
    return ApiError(410, "Expired", message)


def from_the_future(wanted: int, current: int) -> ApiError:
    """504: a version that does not exist yet."""
    message = f"Too large resource version: {wanted}, current: {current}"
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return ApiError(504, "Timeout", f"Timeout: {message}", details)


class UnknownPathError(Exception):
    """404 in plain text: no group, no version, nothing of the kind."""
