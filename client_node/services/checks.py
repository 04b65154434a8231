"""Checks of a node against this machine: each says what it found, and the one thing that would mend it."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from client_node.ports.devices import Driver
from client_node.ports.state import Catalogue
from client_node.services.datasets import file_digest
from client_node.services.devices import Devices, is_withheld
from client_node.services.node_dir import NodeDir
from client_node.settings import NodeSettings
from common.clock import iso
from common.crypto.x509 import read_node_cert
from common.errors import PlatformError
from common.sandbox import available
from common.units import GIB

JOIN = "hansa node join https://HOST:PORT --token TOKEN"
_FREE = 1 * GIB  # bytes; less than this and updates may not fit


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    name: str
    ok: bool
    found: str
    next_step: str = ""


def check_directory(place: NodeDir) -> Check:
    """Has this directory joined?"""
    if not place.root.is_dir():
        return Check("directory", False, f"{place.root} does not exist", JOIN)
    if not place.joined:
        return Check("directory", False, f"{place.root} has not joined a coordinator", JOIN)
    who = place.identity()
    return Check("directory", True, f"node {who.name} of tenant {who.tenant} at {who.coordinator}")


def check_key(place: NodeDir) -> Check:
    """Is the key readable by its owner only?"""
    try:
        mode = stat.S_IMODE(place.key.stat().st_mode)
    except OSError as error:
        return Check("key", False, f"key.pem cannot be read: {error.strerror}", JOIN)
    if mode & 0o077:
        return Check("key", False, f"key.pem is open to others (mode {mode:03o})", f"chmod 600 {place.key}")
    return Check("key", True, f"key.pem is readable by its owner only (mode {mode:03o})")


def check_certificate(place: NodeDir, now: float) -> Check:
    """Is the certificate valid, and is it renewed in time?"""
    try:
        certificate = read_node_cert(place.certificate.read_bytes())
    except (OSError, PlatformError) as error:
        return Check("certificate", False, f"cert.pem cannot be used: {error}", JOIN)
    until = iso(certificate.not_after)
    if now >= certificate.not_after:
        return Check(
            "certificate", False, f"expired at {until}", f"ask the tenant's admin for a join token, then {JOIN}"
        )
    if now < certificate.not_before:
        return Check(
            "certificate", False, f"not valid before {iso(certificate.not_before)}", "set this machine's clock"
        )
    if now > (certificate.not_before + certificate.not_after) / 2:
        return Check(
            "certificate", True, f"valid until {until}; past its half-life, the agent renews it when connected"
        )
    return Check("certificate", True, f"valid until {until}, generation {certificate.generation}")


def check_sandbox(settings: NodeSettings) -> Check:
    """Can tenants' code be confined here?"""
    if settings.sandbox == "none":
        fix = "hansa node policy set sandbox bwrap"
        return Check("sandbox", True, "off by this node's settings: apps run unconfined", fix)
    usable, why = available()
    if not usable:
        return Check("sandbox", False, f"bubblewrap cannot be used: {why}", "apt install bubblewrap")
    return Check("sandbox", True, "bubblewrap works")


def check_devices(driver: Driver, settings: NodeSettings) -> Check:
    """Can the accelerators of this machine be used?  That there are none is no fault."""
    devices = Devices(driver, lambda: settings)
    devices.scan()
    shut = {path for one in devices.all() for path in one.files if not os.access(path, os.R_OK | os.W_OK)}
    if driver.problem:
        fix = "nvidia-smi   (after an update of the driver: restart the machine)"
        return Check("devices", False, f"NVIDIA's driver cannot be used: {driver.problem}", fix)
    if not devices.all():
        return Check("devices", True, "no accelerator: tasks run on the CPU")
    if shut:
        fix = "nvidia-modprobe -c 0 -u" if "/dev/nvidia-uvm" in shut else f"let this user read and write {min(shut)}"
        return Check("devices", False, f"device files that cannot be opened: {', '.join(sorted(shut))}", fix)
    idle = [word for word in settings.withheld_devices if not any(is_withheld(d, (word,)) for d in devices.all())]
    if idle:
        text = f"withheld_devices names what is not here: {', '.join(idle)}"
        return Check("devices", False, text, "hansa node devices")
    lent = devices.lent()
    names = ", ".join(f"{device.name} ({device.memory_mib} MiB)" for device in lent.values()) or "none"
    return Check("devices", True, f"{len(lent)} of {len(devices.all())} lent: {names}")


def check_disk(place: NodeDir) -> Check:
    """Is there room for updates and models?"""
    folder = place.root if place.root.is_dir() else Path.home()
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free under {folder}"
    return Check("disk", free >= _FREE, found, "" if free >= _FREE else f"make room under {folder}")


def check_datasets(catalogue: Catalogue) -> list[Check]:
    """Are the datasets still what was registered?  Reads each file whole."""
    datasets = catalogue.datasets()
    if not datasets:
        return [Check("datasets", False, "none is registered: nothing can run", "hansa node dataset add NAME PATH")]
    checks = []
    for dataset in datasets:
        name = f"dataset {dataset.name}"
        renew = f"hansa node dataset add {dataset.name} {dataset.path} --replace"
        try:
            same = file_digest(Path(dataset.path)) == dataset.digest
        except OSError as error:
            checks.append(Check(name, False, f"{dataset.path} cannot be read: {error.strerror}", renew))
            continue
        if not same:
            checks.append(Check(name, False, "the file is no longer the one that was registered", renew))
        elif not dataset.federations:
            share = f"hansa node dataset share {dataset.name} --federation FEDERATION"
            checks.append(Check(name, False, "not shared into any federation", share))
        else:
            checks.append(Check(name, True, f"{dataset.rows} rows, shared into {', '.join(dataset.federations)}"))
    return checks


def check_approvals(catalogue: Catalogue, settings: NodeSettings) -> Check:
    """May any app run?"""
    approved = catalogue.approvals()
    count = len(approved)
    if not approved and not settings.allow_any_app:
        fix = "hansa node app approve DIGEST --federation FEDERATION"
        return Check("approvals", False, "no app is approved: nothing can run", fix)
    wide = f"; any app of {', '.join(settings.allow_any_app)}" if settings.allow_any_app else ""
    return Check("approvals", True, f"{count} app{'s' * (count != 1)} approved by digest{wide}")
