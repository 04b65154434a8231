import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from common.jobspec import Cohort, Export, JobSpec, Resources, app_slug, parse

MINIMAL = """
[project]
name = "My_App"
[tool.flwr.app.components]
serverapp = "pkg.server:app"
clientapp = "pkg.client:app"
[tool.flwr.app.config]
num-server-rounds = 3
lr = 0.1
verbose = true
[tool.flwr.app.config.model]
width = 32
"""


def test_an_app_without_our_table_gets_defaults_and_flattened_config():
    spec = parse(MINIMAL)
    assert spec.name == "my-app"
    assert spec.config == {"num-server-rounds": 3, "lr": 0.1, "verbose": True, "model.width": 32}
    assert spec.rounds == 3
    assert spec.cohort == Cohort(minimum=1, target=0)
    assert spec.export is None
    assert spec.datasets == ()


def test_our_table_is_read_whole():
    spec = parse(
        MINIMAL
        + """
[tool.hansa]
datasets = ["heart"]
deadline_s = 5
wait_s = 1.5
environment = "torch"
aggregation = "mean"
max_weight = 100
model = "m"
alias = "champion"
checkpoint_every = 4
priority = "high"
[tool.hansa.cohort]
minimum = 3
target = 4
[tool.hansa.resources]
cpus = 2
memory_mib = 512
gpu_milli = 500
gpu_kind = "rocm"
gpu_memory_mib = 8192
[tool.hansa.export]
factory = "pkg.export:graph"
weights = "int8"
[tool.hansa.export.inputs]
x = ["batch", 13]
"""
    )
    assert spec.cohort == Cohort(3, 4)
    assert spec.resources == Resources(2, 512, 500, "rocm", 8192)
    assert spec.export == Export("pkg.export:graph", {"x": ["batch", 13]}, "int8")
    assert (spec.deadline_s, spec.wait_s, spec.environment, spec.aggregation) == (5.0, 1.5, "torch", "mean")
    assert (spec.max_weight, spec.model, spec.alias, spec.checkpoint_every) == (100.0, "m", "champion", 4)
    assert JobSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("[tool.hansa]\nminimun = 3", "minimun"),
        ("[tool.hansa.cohort]\nminimum = 0", "minimum"),
        ("[tool.hansa.cohort]\nminimum = 3\ntarget = 2", "target"),
        ("[tool.hansa]\ndeadline_s = -1", "deadline_s"),
        ("[tool.hansa]\ndeadline_s = true", "deadline_s"),
        ("[tool.hansa]\ndatasets = 'heart'", "datasets"),
        ("[tool.hansa]\naggregation = 'median'", "aggregation"),
        ("[tool.hansa]\nmodel = '../x'", "model"),
        ("[tool.hansa.export]\nfactory = 'x'", "factory"),
        ("[tool.hansa.export]\nfactory = 'x:y'\nweights = 'int3'", "weights"),
        ("[tool.hansa.export]\nfactory = 'x:y'\ninputs = {x = 3}", "inputs"),
        ("[tool]\nhansa = 3", "pyproject.toml"),
        ("[tool.hansa]\npriority = 'urgent'", "low, normal, high"),
        ("[tool.hansa]\npriority = ['high']", "priority"),
        ("[tool.hansa.resources]\ngpu_milli = 1000\ngpu_kind = 'CUDA'", "cuda, rocm, tpu"),
        ("[tool.hansa.resources]\ngpu_milli = 1500", "whole devices"),
        ("[tool.hansa.resources]\ngpu_kind = 'cuda'", "gpu_milli"),
        ("[tool.hansa.resources]\ngpu_memory_mib = 1", "gpu_milli"),
        ("[tool.hansa.resources]\ngpus = 1", "gpus"),
    ],
)
def test_a_fault_in_our_table_is_named(extra, said):
    with pytest.raises(BadInput, match=said):
        parse(MINIMAL + extra)


def test_a_share_of_a_gpu_is_of_a_cuda_device_unless_said_otherwise():
    assert parse(MINIMAL).resources == Resources(1, 4096, 0, "", 0)
    assert parse(MINIMAL + "[tool.hansa.resources]\ngpu_milli = 250").resources == Resources(1, 4096, 250, "cuda", 0)
    assert parse(MINIMAL + "[tool.hansa.resources]\ngpu_milli = 2000").resources.gpu_milli == 2000
    assert parse(MINIMAL).priority == "normal"


@pytest.mark.parametrize("text", ["", "[tool.flwr.app.components]\nserverapp = 'x:y'", "x = ", "[tool]\nflwr = 1"])
def test_an_app_without_components_is_refused(text):
    with pytest.raises(BadInput):
        parse(text)


def test_overrides_keep_the_kind_of_the_apps_value():
    assert parse(MINIMAL, {"lr": 1, "new": "x"}).config["new"] == "x"
    for bad in ({"lr": "fast"}, {"verbose": 1}, {"num-server-rounds": True}):
        with pytest.raises(BadInput):
            parse(MINIMAL, bad)


def test_a_list_in_the_config_is_refused_by_name():
    with pytest.raises(BadInput, match="layers"):
        parse(MINIMAL.replace("width = 32", "layers = [1, 2]"))


@given(st.text(max_size=200))
def test_hostile_text_raises_only_bad_input(text):
    with contextlib.suppress(BadInput):
        parse(text)


@given(st.text(max_size=80))
def test_any_project_name_becomes_a_slug(name):
    assert app_slug(name)
