"""``hansa nodes …``: what the coordinator knows of a node's devices, for people."""

from __future__ import annotations

import json

GPU = {"uuid": "GPU-5d1f", "kind": "cuda", "name": "NVIDIA H100", "memory_mib": 81_000, "parent": "", "profile": "",
       "used_mib": 1200, "busy_percent": 97}  # fmt: skip
MIG = {**GPU, "uuid": "MIG-77", "name": "A100 MIG 1g.10gb", "memory_mib": 9856, "used_mib": None, "busy_percent": None}


def test_a_node_is_shown_with_its_devices_and_what_holds_leases_to_them(hansa, hub, node):
    shown = node(devices=[GPU, MIG], labels=["a100"], enforcement=["visible", "files", "watchdog"])
    hub.items("/nodes", [shown])
    hub.on("GET", f"/nodes/{shown['id']}", shown)
    _, out, _ = hansa("nodes", "show", "cleveland")
    assert "NVIDIA H100 (cuda, 81000 MiB, 1200 used, 97 % busy) GPU-5d1f" in out
    assert "A100 MIG 1g.10gb (cuda, 9856 MiB) MIG-77" in out
    assert "visible, files, watchdog" in out
    _, out, _ = hansa("nodes", "ls")
    assert out.splitlines()[0].split()[:5] == ["NODE", "TENANT", "STATE", "DATASETS", "GPUS"]
    assert out.splitlines()[1].split()[:5] == ["cleveland", "cleveland", "online", "-", "2"]


def test_a_node_without_devices_shows_none(hansa, hub, node):
    hub.items("/nodes", [node()])
    _, out, _ = hansa("--json", "nodes", "ls")
    assert json.loads(out)[0]["devices"] == []
    _, out, _ = hansa("nodes", "ls")
    assert out.splitlines()[1].split()[4] == "-"
