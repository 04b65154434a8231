"""What a job asks for: Flower's app table, and the optional ``[tool.hansa]`` table.

Parsing is pure: text in, frozen record out, every fault named with its key.  Unknown keys under ``[tool.hansa]`` are
refused (a misspelt ``minimun`` must not silently mean "no minimum"); Flower's own tables keep Flower's freedom.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from common.errors import BadInput
from common.ids import slug
from common.privacy.terms import AUTO, Privacy, parse_privacy

Scalar = bool | int | float | str
_COMPONENT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_AGGREGATIONS = ("auto", "mean")
ACCELERATORS = ("cuda", "rocm", "tpu")  # kinds of devices that nodes report, jobs ask for and quotas count
WHOLE_DEVICE = 1000  # milli-GPU
PRIORITIES = ("low", "normal", "high")
MAX_CONFIG_KEYS = 1000


@dataclass(frozen=True)
class Cohort:
    """How many nodes: a round closes with ``target`` updates, or at its deadline with ``minimum``."""

    minimum: int = 1  # nodes; fewer is a visible wait, then a failure
    target: int = 0  # 0 = all the app selected; less than selected = over-selection


@dataclass(frozen=True)
class Resources:
    """What one task needs at a node."""

    cpus: int = 1
    memory_mib: int = 4096
    gpu_milli: int = 0  # thousandths of one device; over 1000 whole devices
    gpu_kind: str = ""  # one of ACCELERATORS where gpu_milli is not 0
    gpu_memory_mib: int = 0  # of each device; 0 = whatever its share holds


@dataclass(frozen=True)
class Export:
    """How to make a servable graph of the trained arrays, in a sandboxed child of the job's environment."""

    factory: str  # "module:function"; see docs/apps.md for what it may take and return
    inputs: dict[str, list[int | str]] = field(default_factory=dict)  # name -> shape, "batch" = free
    weights: str = "fp16"  # "fp16" | "int8" | "fp32": how they travel


@dataclass(frozen=True)
class JobSpec:
    """Everything the platform knows of a job besides its code."""

    name: str
    serverapp: str
    clientapp: str
    config: dict[str, Scalar]  # Flower's run_config, flattened with dots
    datasets: tuple[str, ...] = ()  # () = every dataset the node shares into the federation
    cohort: Cohort = Cohort()
    resources: Resources = Resources()
    deadline_s: float = 3600.0  # of one round, from its offer
    wait_s: float = 600.0  # how long too few nodes may be waited for
    environment: str = "default"
    aggregation: str = "auto"  # "auto" | "mean"
    privacy: Privacy = AUTO
    max_weight: float = 1e9  # declared maximum of num-examples
    model: str = ""  # "" = the app's name
    alias: str = "latest"
    checkpoint_every: int = 0  # rounds; 0 = only the result
    export: Export | None = None
    priority: str = "normal"  # one of PRIORITIES; what a class is worth is the coordinator's policy

    @property
    def rounds(self) -> int:
        """Return the planned number of rounds, by Flower's custom; 0 = the app does not say."""
        value = self.config.get("num-server-rounds", self.config.get("num_server_rounds", 0))
        return int(value) if isinstance(value, (int, float)) else 0

    def to_json(self) -> str:
        """Return canonical JSON (sorted keys, no spaces)."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> JobSpec:
        """Return the spec that ``to_json`` wrote."""
        data = json.loads(text)
        export = data.pop("export")
        return JobSpec(
            **{
                **data,
                "datasets": tuple(data["datasets"]),
                "cohort": Cohort(**data["cohort"]),
                "resources": Resources(**data["resources"]),
                "privacy": Privacy(**data.get("privacy", {})),
                "export": Export(**export) if export else None,
            }
        )


def parse(pyproject: str, overrides: dict[str, Scalar] | None = None) -> JobSpec:
    """Return the spec of an app directory's ``pyproject.toml``.

    Args:
        pyproject: The file's text.
        overrides: Values that replace entries of ``[tool.flwr.app.config]`` (the job's ``--run-config``).

    Raises:
        BadInput: a table or value is missing or of the wrong kind.
    """
    try:
        data = tomllib.loads(pyproject)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"pyproject.toml is not TOML: {error}") from error
    app = _table(_table(_table(data, "tool"), "flwr"), "app")
    components = _table(app, "components")
    base = JobSpec(
        name=app_slug(str(_table(data, "project").get("name", "app"))),
        serverapp=_component(components, "serverapp"),
        clientapp=_component(components, "clientapp"),
        config=_config(_table(app, "config"), overrides or {}),
    )
    return _hansa(base, _table(_table(data, "tool"), "hansa"))


def app_slug(name: str) -> str:
    """Return a project name as a slug (``My_App`` becomes ``my-app``)."""
    return slug(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "app", what="project name")


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Return nested tables as dotted keys, as Flower does.

    Raises:
        BadInput: a value is no bool, int, float or str.
    """
    flat: dict[str, Scalar] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[f"{prefix}{key}"] = value
        else:
            raise BadInput(f"config value {prefix}{key} must be a bool, int, float or str, not {type(value).__name__}")
    return flat


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise BadInput(f"[{key}] in pyproject.toml must be a table")
    return value


def _component(components: dict[str, Any], key: str) -> str:
    value = components.get(key)
    if not isinstance(value, str) or not _COMPONENT.fullmatch(value):
        raise BadInput(
            f"[tool.flwr.app.components] {key} must be 'module:attribute', got {value!r}",
            next_step="see examples/heart/pyproject.toml for a working app",
        )
    return value


def _config(table: dict[str, Any], overrides: dict[str, Scalar]) -> dict[str, Scalar]:
    config = flatten(table)
    for key, value in overrides.items():
        if key in config and not _same_kind(config[key], value):
            raise BadInput(f"run config {key} is {type(config[key]).__name__} in the app, got {value!r}")
        config[key] = value
    if len(config) > MAX_CONFIG_KEYS:
        raise BadInput(f"run config has {len(config)} keys, at most {MAX_CONFIG_KEYS} are allowed")
    return config


def _same_kind(old: Scalar, new: Scalar) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, (int, float)):
        return isinstance(new, (int, float))
    return isinstance(new, str)


def _hansa(base: JobSpec, table: dict[str, Any]) -> JobSpec:
    known = {
        "datasets", "cohort", "resources", "deadline_s", "wait_s", "environment", "aggregation", "max_weight", "model",
        "alias", "checkpoint_every", "export", "priority", "privacy",
    }  # fmt: skip
    _only(table, known, "tool.hansa")
    values: dict[str, Any] = {}
    for key, low in (("deadline_s", 0.1), ("wait_s", 0.0), ("max_weight", 0.0), ("checkpoint_every", 0)):
        if key in table:
            values[key] = _number(table, key, low, f"tool.hansa.{key}")
    for key in ("environment", "model", "alias"):
        if key in table:
            values[key] = slug(str(table[key]), what=f"tool.hansa.{key}")
    if "checkpoint_every" in values:
        values["checkpoint_every"] = int(values["checkpoint_every"])
    for key, allowed in (("aggregation", _AGGREGATIONS), ("priority", PRIORITIES)):
        if key in table:
            values[key] = _one_of(table, key, allowed, f"tool.hansa.{key}")
    if "datasets" in table:
        names = table["datasets"]
        if not isinstance(names, list):
            raise BadInput("tool.hansa.datasets must be a list of names")
        values["datasets"] = tuple(slug(str(n), what="tool.hansa.datasets") for n in names)
    return replace(
        base,
        **values,
        cohort=_cohort(_table(table, "cohort")),
        resources=_resources(_table(table, "resources")),
        privacy=parse_privacy(table.get("privacy", "auto")),
        export=_export(_table(table, "export")) if "export" in table else None,
    )


def _only(table: dict[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise BadInput(f"unknown key {key!r} in [{where}]; known are {', '.join(sorted(known))}")


def _number(table: dict[str, Any], key: str, low: float, where: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= 1e12:
        raise BadInput(f"{where} must be a number of at least {low}, got {value!r}")
    return float(value)


def _one_of(table: dict[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str:
    value = table[key]
    if value not in allowed:
        raise BadInput(f"{where} must be one of {', '.join(allowed)}, got {value!r}")
    return str(value)


def _cohort(table: dict[str, Any]) -> Cohort:
    _only(table, {"minimum", "target"}, "tool.hansa.cohort")
    values = {key: int(_number(table, key, 0, f"tool.hansa.cohort.{key}")) for key in table}
    cohort = Cohort(**values)
    if cohort.minimum < 1 or (cohort.target and cohort.target < cohort.minimum):
        raise BadInput(
            f"tool.hansa.cohort: minimum {cohort.minimum} must be at least 1 and at most target {cohort.target}"
        )
    return cohort


def _resources(table: dict[str, Any]) -> Resources:
    where = "tool.hansa.resources"
    numbers = {"cpus", "memory_mib", "gpu_milli", "gpu_memory_mib"}
    _only(table, numbers | {"gpu_kind"}, where)
    values: dict[str, Any] = {k: int(_number(table, k, 0, f"{where}.{k}")) for k in table if k in numbers}
    if "gpu_kind" in table:
        values["gpu_kind"] = _one_of(table, "gpu_kind", ACCELERATORS, f"{where}.gpu_kind")
    asked = Resources(**values)
    if asked.gpu_milli > WHOLE_DEVICE and asked.gpu_milli % WHOLE_DEVICE:
        raise BadInput(f"{where}.gpu_milli over 1000 must be whole devices (2000 = two), got {asked.gpu_milli}")
    if not asked.gpu_milli and (asked.gpu_kind or asked.gpu_memory_mib):
        raise BadInput(f"{where}.gpu_milli must say how much of a device a task needs (1000 = a whole one)")
    return replace(asked, gpu_kind=asked.gpu_kind or "cuda") if asked.gpu_milli else asked


def _export(table: dict[str, Any]) -> Export:
    _only(table, {"factory", "inputs", "weights"}, "tool.hansa.export")
    factory, inputs, weights = table.get("factory"), table.get("inputs", {}), table.get("weights", "fp16")
    if not isinstance(factory, str) or not _COMPONENT.fullmatch(factory):
        raise BadInput(f"tool.hansa.export.factory must be 'module:function', got {factory!r}")
    if weights not in {"fp16", "int8", "fp32"}:
        raise BadInput(f"tool.hansa.export.weights must be fp16, int8 or fp32, got {weights!r}")
    if not isinstance(inputs, dict) or not all(
        isinstance(shape, list) and all(isinstance(d, (int, str)) for d in shape) for shape in inputs.values()
    ):
        raise BadInput("tool.hansa.export.inputs must map an input's name to its shape, a list of numbers and names")
    return Export(factory=factory, inputs=inputs, weights=weights)
