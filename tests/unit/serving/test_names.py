"""Paths and names: which request is for which version."""

from __future__ import annotations

import pytest

from client_node.serving.catalogue import Catalogue
from client_node.serving.routes import Act, Route, route
from client_node.serving.signature import ServedVersion, signature
from common.errors import NotFound, PlatformError

ONE = signature([{"name": "x", "dtype": "F32", "shape": ["batch", 3]}], [{"name": "y", "dtype": "F32", "shape": []}])


SERVED = ServedVersion("alpha", "risk", 3, "champion", ONE)


@pytest.mark.parametrize(
    ("method", "path", "meaning"),
    [
        ("GET", "/v1/models/half", Route(Act.V1_STATUS, "half")),
        ("GET", "/v1/models/half/versions/2", Route(Act.V1_STATUS, "half", 2)),
        ("GET", "/v1/models/half/labels/canary", Route(Act.V1_STATUS, "half", None, "canary")),
        ("GET", "/v1/models/half/versions/2/metadata", Route(Act.V1_METADATA, "half", 2)),
        ("GET", "/v1/models/half/metadata", Route(Act.V1_METADATA, "half")),
        ("POST", "/v1/models/half:predict", Route(Act.V1_PREDICT, "half")),
        ("POST", "/v1/models/a.half/versions/2:predict", Route(Act.V1_PREDICT, "a.half", 2)),
        ("POST", "/v1/models/half/labels/canary:predict", Route(Act.V1_PREDICT, "half", None, "canary")),
        ("GET", "/v2", Route(Act.V2_SERVER)),
        ("GET", "/v2/health/live", Route(Act.V2_LIVE)),
        ("GET", "/v2/health/ready", Route(Act.V2_READY)),
        ("GET", "/v2/models/half", Route(Act.V2_MODEL, "half")),
        ("GET", "/v2/models/half/ready", Route(Act.V2_MODEL_READY, "half")),
        ("GET", "/v2/models/half/versions/2/ready", Route(Act.V2_MODEL_READY, "half", 2)),
        ("POST", "/v2/models/half/infer", Route(Act.V2_INFER, "half")),
        ("POST", "/v2/models/half/versions/2/infer", Route(Act.V2_INFER, "half", 2)),
    ],
)
def test_paths_mean_what_the_protocols_say(method, path, meaning):
    assert route(method, path) == meaning


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/half:predict"), ("POST", "/v1/models/half"), ("POST", "/v1/models/half:regress"),
        ("GET", "/v1/models/"), ("GET", "/"), ("DELETE", "/v2/models/half"), ("GET", "/v2/models/half/infer"),
        ("GET", "/v1/models/half/versions/x"), ("GET", "/v2/models/half/versions/" + "9" * 40), ("GET", "/etc/passwd"),
        ("POST", "/v1/models/half/versions/1/labels/a:predict"),
    ],
)  # fmt: skip
def test_other_paths_are_refused(method, path):
    with pytest.raises(PlatformError):
        route(method, path)


class Item:
    def __init__(self, served: ServedVersion) -> None:
        self.served = served


def test_a_model_answers_to_its_name_its_version_and_its_label():
    catalogue: Catalogue[Item] = Catalogue()
    catalogue.put(Item(SERVED))
    for name, version, label in (("risk", None, ""), ("alpha.risk", 3, ""), ("risk", None, "champion")):
        assert catalogue.find(name, version, label).served is SERVED
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(half\)"):
        catalogue.find("half")
    with pytest.raises(NotFound, match=r"Servable not found for request: Specific\(risk, 2\)"):
        catalogue.find("risk", 2)
    with pytest.raises(NotFound, match="Unrecognized servable version label: canary"):
        catalogue.find("risk", None, "canary")


def test_a_name_of_two_tenants_must_be_qualified():
    catalogue: Catalogue[Item] = Catalogue()
    other = ServedVersion("beta", "risk", 1, "", ONE)
    catalogue.put(Item(SERVED))
    catalogue.put(Item(other))
    with pytest.raises(NotFound, match=r"alpha\.risk, beta\.risk"):
        catalogue.find("risk")
    assert catalogue.find("beta.risk").served is other
    catalogue.remove("alpha", "risk")
    assert catalogue.find("risk").served is other


def test_a_new_version_takes_the_place_of_the_old_one():
    catalogue: Catalogue[Item] = Catalogue()
    catalogue.put(Item(SERVED))
    catalogue.put(Item(ServedVersion("alpha", "risk", 4, "", ONE)))
    assert [item.served.version for item in catalogue.items()] == [4]
