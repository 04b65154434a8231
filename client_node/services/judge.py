"""Put the facts of this node before the guard and the policies, and answer with every denial."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from client_node.guard.consent import Denial, JobRequest, NodeRules, judge, wanted_datasets
from client_node.guard.leases import Device
from client_node.ports.state import Catalogue, Dataset
from client_node.services.datasets import has_changed
from client_node.settings import NodeSettings
from policies.engine import Policies, Verdict
from policies.parties import NodePrincipal, Resource


class Judge:
    """Consent of this node, from what is on record now; nothing is remembered between questions."""

    def __init__(
        self,
        catalogue: Catalogue,
        settings: Callable[[], NodeSettings],
        lent: Callable[[], Iterable[Device]],
        policies: Policies,
        node: NodePrincipal,
    ) -> None:
        self._catalogue = catalogue
        self._lent = lent
        self._settings = settings
        self._policies = policies
        self._node = node

    def consider(self, request: JobRequest) -> tuple[Denial, ...]:
        """Return every reason against the job; none means it may run."""
        rules = self._rules(request.federation)
        return (*judge(request, rules), *self._by_policy(request, rules))

    def consider_reply(self, request: JobRequest, *, fold: bool, masked: bool) -> tuple[Denial, ...]:
        """Judge one task of the job; its reply may be seen alone even where the job did not say so before."""
        mode = "mask" if masked else "plain"
        return self.consider(replace(request, individual=request.individual or not fold, mode=mode))

    def mounts(self, request: JobRequest) -> dict[str, Path]:
        """Return dataset name -> file, for all that the job may see."""
        wanted = set(wanted_datasets(request, self._rules(request.federation)))
        return {d.name: Path(d.path) for d in self._catalogue.datasets() if d.name in wanted}

    def _rules(self, federation: str) -> NodeRules:
        settings = self._settings()
        shared = [d for d in self._catalogue.datasets() if federation in d.federations]
        return NodeRules(
            shared=frozenset((federation, d.name) for d in shared),
            approved=frozenset((a.federation, a.app_digest) for a in self._catalogue.approvals()),
            any_app=frozenset(settings.allow_any_app),
            individual_replies=settings.individual_replies == "allow",
            minimum_mode=settings.minimum_mode,
            environments=frozenset(settings.environments),
            cpus=settings.cpus,
            memory_mib=settings.memory_mib,
            devices=tuple((device.kind, device.memory_mib) for device in self._lent()),
            changed=_changed(shared),
        )

    def _by_policy(self, request: JobRequest, rules: NodeRules) -> tuple[Denial, ...]:
        settings = self._settings()
        job = Resource("job", request.job, request.owner_tenant)
        shared = {name for _, name in rules.shared}
        run = self._policies.authorise(
            self._node,
            "node::run",
            job,
            {
                "federation": request.federation,
                "app_digest": request.app_digest,
                "submitted_by": request.submitted_by,
                "app_approved": request.federation in rules.any_app
                or (request.federation, request.app_digest) in rules.approved,
                "datasets_shared": bool(shared) and set(request.datasets) <= shared,
                "sandbox": settings.sandbox,
                "sandbox_required": settings.sandbox != "none",
            },
        )
        if not request.individual:
            return _denials(run)
        reply = self._policies.authorise(
            self._node,
            "node::reply_individually",
            job,
            {
                "federation": request.federation,
                "app_digest": request.app_digest,
                "individual_allowed": rules.individual_replies,
            },
        )
        return (*_denials(run), *_denials(reply))


def _changed(datasets: list[Dataset]) -> frozenset[str]:
    return frozenset(d.name for d in datasets if has_changed(d))


def _denials(verdict: Verdict) -> tuple[Denial, ...]:
    if verdict.allowed:
        return ()
    by = ", ".join(verdict.policy_ids)
    if by:
        return (Denial("policy_denied", f"This node's policy refuses it ({by}).", "read local.cedar in its directory"),)
    if verdict.errors:
        return (Denial("policy_error", "This node's policies could not judge it, so it is refused.", ""),)
    return (Denial("policy_denied", "No policy of this node permits it.", ""),)
