"""References to models as people type them: ``[TENANT/]MODEL[:VERSION|:ALIAS]``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.client import Client
from common.errors import BadInput, NotFound
from common.ids import slug


@dataclass(frozen=True)
class ModelRef:
    """A model, and which of its versions."""

    model: str
    tenant: str = ""  # "" = the only tenant that has a model of this name
    version: int = 0  # 0 = not said by number
    alias: str = ""

    def __str__(self) -> str:
        return f"{self.tenant}/{self.model}:{self.version}"

    @staticmethod
    def parse(text: str) -> ModelRef:
        """Return what ``text`` says.

        Raises:
            BadInput: it is no such reference.
        """
        head, _, which = text.partition(":")
        tenant, slash, model = head.rpartition("/")
        if slash:
            slug(tenant, what="tenant")
        slug(model, what="model")
        number = which.removeprefix("v")
        if number.isdecimal() and len(number) < 10 and int(number) > 0:
            return ModelRef(model, tenant, version=int(number))
        return ModelRef(model, tenant, alias=slug(which, what="alias") if which else "")


def resolve(client: Client, ref: ModelRef) -> ModelRef:
    """Return ``ref`` with its tenant and its version's number filled in.

    Raises:
        NotFound: no such model, version or alias.
        BadInput: several tenants have a model of this name.
    """
    if not ref.tenant:
        owners = sorted({row["tenant"] for row in client.models.list() if row["model"] == ref.model})
        if not owners:
            raise NotFound(f"no model {ref.model!r}", next_step="hansa model ls")
        if len(owners) > 1:
            raise BadInput(f"{ref.model} is a model of {', '.join(owners)}", next_step=f"say {owners[0]}/{ref.model}")
        ref = replace(ref, tenant=owners[0])
    if ref.version:
        return ref
    found = client.models.get(ref.tenant, ref.model)
    if not ref.alias:
        return replace(ref, version=max(version["version"] for version in found["versions"]))
    for alias in found["aliases"]:
        if alias["name"] == ref.alias:
            return replace(ref, version=alias["version"])
    known = ", ".join(alias["name"] for alias in found["aliases"]) or "none"
    raise NotFound(
        f"{ref.model} has no alias {ref.alias!r}; it has: {known}", next_step=f"hansa model show {ref.model}"
    )
