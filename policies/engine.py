"""The one call that judges: Cedar, wrapped to fail closed.

Cedar by itself fails open: a ``forbid`` whose evaluation errs is skipped, and without a schema a misspelt attribute is
such an error.  So here an act is allowed only if Cedar says Allow, reported no error, and the request, its entities and
every policy were checked against the schema.  Policies are parsed once and kept as handles.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cedarpy

from common.errors import BadInput, PolicyDenied
from policies.parties import NodePrincipal, PrincipalLike, Resource, principal_entity, resource_entity

Context = Mapping[str, str | bool | int]
_TO_USER = "ask an admin of the tenant for a token with a role that may do this"
_TO_NODE = "ask the operator of the coordinator what its policies forbid"


@dataclass(frozen=True)
class Verdict:
    """A decision, the policies that made it (by ``@id``), and what went wrong while judging."""

    allowed: bool
    policy_ids: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class Policies:
    """A parsed and validated set of policies."""

    def __init__(self, schema: str, texts: Iterable[str]) -> None:
        """Parse and validate.

        Args:
            schema: The Cedar schema's text.
            texts: Policy files' texts.

        Raises:
            BadInput: something does not parse, does not fit the schema, or lacks a unique ``@id``.
        """
        joined = "\n".join(texts)
        self.ids = _checked_ids(joined)
        try:
            self._schema = cedarpy.Schema.from_str(schema)
            self._policies = cedarpy.PolicySet.from_str(joined)
        except ValueError as error:
            raise BadInput(f"policies or their schema do not parse: {error}") from error
        result = cedarpy.validate_policies(joined, self._schema)
        if not result.validation_passed:
            raise BadInput("policies do not fit the schema: " + "; ".join(str(e) for e in result.errors))

    @staticmethod
    def load(local: Path | None = None) -> Policies:
        """Return the policies of this release, and a site's own where given.

        Args:
            local: A site's ``local.cedar``; a missing file is the same as none.

        Raises:
            BadInput: a policy is malformed, or the site's file holds a permit.
        """
        folder = resources.files("policies")
        base = sorted((f for f in folder.joinpath("base").iterdir() if f.name.endswith(".cedar")), key=lambda f: f.name)
        texts = [f.read_text(encoding="utf-8") for f in base]
        own = folder.joinpath("node", "local.cedar").read_text(encoding="utf-8")
        if local is not None and local.exists():
            own = local.read_text(encoding="utf-8")
        only_forbids(own)
        return Policies(folder.joinpath("hansa.cedarschema").read_text(encoding="utf-8"), [*texts, own])

    def authorise(
        self, principal: PrincipalLike, action: str, resource: Resource, context: Context | None = None
    ) -> Verdict:
        """Judge one act.

        Args:
            principal: Who asks: a user (``UserLike``) or a ``NodePrincipal``.
            action: The act's name in the schema, e.g. ``job::submit``.
            resource: What it is about.
            context: The facts the schema names for this act; all of them, and no others.

        Returns:
            The verdict; whatever goes wrong while judging is a refusal with ``errors``.
        """
        return self.authorise_each(principal, action, [resource], context)[0]

    def authorise_each(
        self, principal: PrincipalLike, action: str, things: Sequence[Resource], context: Context | None = None
    ) -> list[Verdict]:
        """Judge the same act on each of ``things``."""
        entities: dict[str, dict[str, Any]] = {}
        requests: list[dict[str, Any]] = []
        try:
            who = principal_entity(principal)
            for thing in things:
                what = resource_entity(thing)
                entities[json.dumps(what["uid"])] = what
                requests.append(_request(who, action, what, context))
            entities[json.dumps(who["uid"])] = who  # where a node is both, its certificate's word counts
            results = cedarpy.is_authorized_batch(requests, self._policies, list(entities.values()), self._schema)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return [Verdict(False, (), (f"the request could not be put to the policies: {error}",))] * len(things)
        return [_verdict(result) for result in results]

    def require(
        self, principal: PrincipalLike, action: str, resource: Resource, context: Context | None = None
    ) -> Verdict:
        """Judge one act and return the verdict if it is allowed.

        Raises:
            PolicyDenied: it is not.
        """
        verdict = self.authorise(principal, action, resource, context)
        if not verdict.allowed:
            raise denied(action, resource, verdict, _TO_NODE if isinstance(principal, NodePrincipal) else _TO_USER)
        return verdict


def denied(action: str, resource: Resource, verdict: Verdict, next_step: str = _TO_USER) -> PolicyDenied:
    """Return the error for a refused act; it names the forbidding policies, never the evaluation's innards."""
    by = f" (policy {', '.join(verdict.policy_ids)})" if verdict.policy_ids else ""
    return PolicyDenied(
        f"policy refuses {action} on {resource.kind} {resource.id[:80]}{by}",
        next_step=next_step,
    )


def only_forbids(text: str) -> None:
    """Check a site's own policies.

    Raises:
        BadInput: one of them permits something, or the text is not Cedar.
    """
    for notes, effect in _effects(text):
        if effect != "forbid":
            raise BadInput(f"a site's own policies may only forbid; {notes.get('id', 'one')!r} is a {effect}")


def _checked_ids(text: str) -> tuple[str, ...]:
    ids = [notes.get("id") or "" for notes, _ in _effects(text)]
    if "" in ids:
        raise BadInput(f"policy number {ids.index('') + 1} has no @id")
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise BadInput(f"two policies share the @id {', '.join(twice)}")
    return tuple(ids)


def _effects(text: str) -> list[tuple[dict[str, str], str]]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise BadInput(f"policies do not parse: {error}") from error
    if parsed["templates"] or parsed["templateLinks"]:
        raise BadInput("policy templates are not used here")
    return [(p.get("annotations", {}), str(p["effect"])) for p in parsed["staticPolicies"].values()]


def _request(who: dict[str, Any], action: str, what: dict[str, Any], context: Context | None) -> dict[str, Any]:
    return {
        "principal": who["uid"],
        "action": {"type": "Action", "id": action},
        "resource": what["uid"],
        "context": dict(context or {}),
    }


def _verdict(result: cedarpy.AuthzResult) -> Verdict:
    errors = tuple(str(e) for e in result.diagnostics.errors)
    ids = tuple(sorted(str(i) for i in result.diagnostics.id_annotations_by_reason.values()))
    return Verdict(result.decision is cedarpy.Decision.Allow and not errors, ids, errors)
