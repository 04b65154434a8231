"""May this job run here?  Deny by default, and say everything that is in the way at once.

The node is the last judge: whatever the coordinator admitted, a job runs here only if the data steward shared a dataset
into its federation, approved the app (by digest, or any app of that federation), allows its kind of replies and its
environment, and the node is large enough.  Pure: facts in, denials out.  Cedar policies are asked by the caller and may
only add denials.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.jobspec import WHOLE_DEVICE


@dataclass(frozen=True)
class Denial:
    """One reason against a job: a stable code, a sentence for people, and what would mend it at this node."""

    code: str
    message: str
    next_step: str = ""

    @property
    def text(self) -> str:
        """Return sentence and next step as one line."""
        return f"{self.message} (at the node: {self.next_step})" if self.next_step else self.message


@dataclass(frozen=True)
class JobRequest:
    """What a job wants of this node."""

    job: str
    federation: str
    owner_tenant: str
    submitted_by: str
    app_digest: str
    app_name: str
    individual: bool  # its replies will be seen one by one, not as a mean
    datasets: tuple[str, ...] = ()  # () = every dataset shared into the federation
    environment: str = "default"
    cpus: int = 1
    memory_mib: int = 0
    gpu_milli: int = 0
    gpu_kind: str = ""
    gpu_memory_mib: int = 0  # of each device
    mode: str = ""  # how its replies leave the node, "plain" or "mask"; "" = that is seen with each task


@dataclass(frozen=True)
class NodeRules:
    """What this node's steward and operator decided.  The empty value allows nothing."""

    shared: frozenset[tuple[str, str]] = frozenset()  # (federation, dataset)
    approved: frozenset[tuple[str, str]] = frozenset()  # (federation, app digest)
    any_app: frozenset[str] = frozenset()  # federations whose apps need no approval one by one
    individual_replies: bool = False
    minimum_mode: str = "plain"  # "mask": only masked sums of replies may leave
    environments: frozenset[str] = frozenset()
    cpus: int = 0
    memory_mib: int = 0
    devices: tuple[tuple[str, int], ...] = ()  # (kind, MiB) of each accelerator that is lent; 0 MiB = not known
    changed: frozenset[str] = frozenset()  # datasets whose file is gone or not the one that was registered


def wanted_datasets(request: JobRequest, rules: NodeRules) -> tuple[str, ...]:
    """Return the names of the datasets that the job would see, sorted: those it names, or all that are shared."""
    shared = {name for federation, name in rules.shared if federation == request.federation}
    return tuple(sorted(shared & set(request.datasets) if request.datasets else shared))


def judge(request: JobRequest, rules: NodeRules) -> tuple[Denial, ...]:
    """Return every reason against ``request``; none means the job may run here.

    Guarantee: with the empty ``NodeRules`` the answer is never empty.
    """
    return (
        *_about_data(request, rules),
        *_about_app(request, rules),
        *_about_replies(request, rules),
        *_about_room(request, rules),
    )


def _about_data(request: JobRequest, rules: NodeRules) -> tuple[Denial, ...]:
    shared = {name for federation, name in rules.shared if federation == request.federation}
    if not shared:
        return (
            Denial(
                "no_dataset_shared",
                f"No dataset is shared into federation {request.federation!r} at this node.",
                f"hansa node dataset share NAME --federation {request.federation}",
            ),
        )
    missing = [
        Denial(
            "dataset_not_shared",
            f"The app wants dataset {name!r}, which is not shared into federation {request.federation!r} here.",
            f"hansa node dataset share {name} --federation {request.federation}",
        )
        for name in sorted(set(request.datasets) - shared)
    ]
    changed = [
        Denial(
            "dataset_changed",
            f"The file of dataset {name!r} is gone or has changed since it was registered.",
            f"hansa node dataset add {name} PATH --replace",
        )
        for name in wanted_datasets(request, rules)
        if name in rules.changed
    ]
    return (*missing, *changed)


def _about_app(request: JobRequest, rules: NodeRules) -> tuple[Denial, ...]:
    if request.federation in rules.any_app or (request.federation, request.app_digest) in rules.approved:
        return ()
    return (
        Denial(
            "app_not_approved",
            f"App {request.app_name!r} ({request.app_digest[:12]}…) is not approved for federation"
            f" {request.federation!r} at this node.",
            f"hansa node app approve {request.app_digest} --federation {request.federation}",
        ),
    )


MASKED_ONLY = Denial(
    "mode_too_low",
    "This reply was made for a masked sum and would leave the node as it is.",
    "nothing to do: no reply is sent in a weaker mode than it was asked for in",
)


def _about_replies(request: JobRequest, rules: NodeRules) -> tuple[Denial, ...]:
    if rules.minimum_mode == "mask" and (request.individual or request.mode == "plain"):
        return (
            Denial(
                "mode_too_low",
                "This job's replies would leave the node unmasked, and this node gives them to masked sums only.",
                "hansa node policy set minimum_mode plain",
            ),
        )
    if not request.individual or rules.individual_replies:
        return ()
    return (
        Denial(
            "individual_replies_denied",
            "This job's replies would be seen one by one, not as a mean, and this node does not allow that.",
            "hansa node policy set individual_replies allow",
        ),
    )


def _about_room(request: JobRequest, rules: NodeRules) -> tuple[Denial, ...]:
    denials = []
    if request.environment not in rules.environments:
        denials.append(
            Denial(
                "environment_not_approved",
                f"Environment {request.environment!r} is not approved at this node.",
                f"hansa node policy set environments.{request.environment} /path/to/python",
            )
        )
    for code, noun, wants, has in (
        ("too_few_cpus", "CPUs", request.cpus, rules.cpus),
        ("too_little_memory", "MiB of memory", request.memory_mib, rules.memory_mib),
    ):
        if wants > has:
            denials.append(Denial(code, f"A task needs {wants} {noun}; this node gives at most {has}.", ""))
    return (*denials, *_about_devices(request, rules))


def _about_devices(request: JobRequest, rules: NodeRules) -> tuple[Denial, ...]:
    wanted = -(-request.gpu_milli // WHOLE_DEVICE)
    fit = [mib for kind, mib in rules.devices if kind == request.gpu_kind and mib >= request.gpu_memory_mib]
    if wanted <= len(fit):
        return ()
    memory = f" of {request.gpu_memory_mib} MiB" if request.gpu_memory_mib else ""
    return (
        Denial(
            "too_little_gpu",
            f"A task needs {wanted} {request.gpu_kind} device{'s' * (wanted > 1)}{memory};"
            f" this node lends {len(fit)} such.",
            "hansa node devices",
        ),
    )
