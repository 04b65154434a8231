"""May this node serve that model?  The node's policies say."""

from __future__ import annotations

from collections.abc import Callable

from client_node.ports.state import Catalogue
from client_node.settings import NodeSettings
from common.manifest import Manifest
from policies.engine import Policies
from policies.parties import NodePrincipal, Resource

Consent = Callable[[Manifest], str]  # "" = yes, else why not


def by_policy(
    policies: Policies, node: NodePrincipal, catalogue: Catalogue, settings: Callable[[], NodeSettings]
) -> Consent:
    """Return the consent that asks ``policies``; it is asked with manifests whose signature was verified.

    A node has joined a federation if it shares a dataset into it, or its operator lets any app of it run.
    """

    def consent(manifest: Manifest) -> str:
        shared = {f for dataset in catalogue.datasets() for f in dataset.federations}
        joined = manifest.federation in shared | set(settings().allow_any_app)
        verdict = policies.authorise(
            node,
            "node::serve",
            Resource("model", f"{manifest.tenant}/{manifest.model}", manifest.tenant),
            {
                "federation": manifest.federation,
                "federation_joined": bool(manifest.federation) and joined,
                "signature_valid": True,
            },
        )
        if verdict.allowed:
            return ""
        by = ", ".join(verdict.policy_ids)
        return f"this node's policy refuses it ({by})" if by else "no policy of this node permits serving it"

    return consent


def own_tenant_only(tenant: str) -> Consent:
    """Return the consent of a node without policies: the models of its own tenant and no others."""
    return lambda m: "" if m.tenant == tenant else f"this node serves models of tenant {tenant} only"
