"""Which versions are served under which names."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from client_node.serving.signature import ServedVersion
from common.errors import NotFound


class Described(Protocol):
    """Anything that serves a version."""

    @property
    def served(self) -> ServedVersion: ...


S = TypeVar("S", bound=Described)


class Catalogue(Generic[S]):
    """One version of each model; replacing it is one assignment, so no request ever finds none or half of one.

    A model answers to its own name, and to ``tenant.model`` where two tenants use one name.
    """

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], S] = {}
        self._names: dict[str, list[S]] = {}

    def put(self, item: S) -> None:
        """Serve ``item`` in place of whatever version of its model was served."""
        self._models[item.served.tenant, item.served.model] = item
        self._index()

    def remove(self, tenant: str, model: str) -> None:
        """Serve the model no longer."""
        self._models.pop((tenant, model), None)
        self._index()

    def items(self) -> tuple[S, ...]:
        """Return all that is served."""
        return tuple(self._models.values())

    def find(self, name: str, version: int | None = None, label: str = "") -> S:
        """Return what serves ``name``, if it is the version or bears the label asked for.

        Raises:
            NotFound: in TensorFlow Serving's words where it has some.
        """
        found = self._names.get(name, [])
        if len(found) > 1:
            names = ", ".join(f"{i.served.tenant}.{i.served.model}" for i in found)
            raise NotFound(f"{name[:80]} is served for several tenants: ask for one of {names}")
        if not found or (version is not None and found[0].served.version != version):
            which = f"Latest({name[:80]})" if version is None else f"Specific({name[:80]}, {version})"
            raise NotFound(f"Servable not found for request: {which}")
        if label and label != found[0].served.label:
            raise NotFound(f"Unrecognized servable version label: {label[:80]}")
        return found[0]

    def _index(self) -> None:
        names: dict[str, list[S]] = {}
        for (tenant, model), item in sorted(self._models.items()):
            names.setdefault(model, []).append(item)
            names.setdefault(f"{tenant}.{model}", []).append(item)
        self._names = names
