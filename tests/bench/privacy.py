"""``python -m tests.bench privacy --json [--quick]``: masked sums against their own limits and against Flower's SecAgg+.

Both are timed in the same run, one thread each, in process: what a node and the coordinator compute, no network.  The
keystream limit is what AES-CTR alone takes for the bytes of all masks.  Parts that are not built give null.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from client_node.privacy.session import Floor, Session
from client_node.privacy.unmasking import Masked, answer, check_survivors
from common.crypto.masks import CHUNK, Keystreams
from common.privacy.protocol import Subject, make_roster
from common.privacy.quantize import PIECE, Encoding, Rounding
from coordinator.rounds.masked import MaskedAttempt
from tests.bench.peers_secagg import flower_secagg
from tests.bench.privacy_round import timed, whole_round
from tests.masked_cohort import sign, verify, verify_advert

MIB = 1 << 20
NOT_BUILT = (
    "he_encrypt_x", "he_add_x", "he_decrypt_x", "he_bytes_x", "he_bytes_62_tensors_x", "accountant_max_error_rdp",
    "accountant_max_error_pld", "ledger_overdraws", "ledger_streams", "digits_eps3", "digits_eps8",
)  # fmt: skip


def masking(params: int, masks: int, repeats: int) -> tuple[float, float, float]:
    """Return seconds to mask a vector of uint32, seconds of its keystreams alone, and the median ratio of pairs."""
    keys = [random.randbytes(16) for _ in range(masks)]
    vector = np.zeros(params, np.uint32)
    pairs = [
        (
            timed(lambda: Keystreams(keys[: masks // 2], keys[masks // 2 :]).apply(vector), 1),
            timed(lambda: keystream_only(keys, 4 * params), 1),
        )
        for _ in range(2 * repeats + 1)
    ]
    ratio = statistics.median(whole / limit for whole, limit in pairs)
    return min(whole for whole, _ in pairs), min(limit for _, limit in pairs), ratio


def keystream_only(keys: list[bytes], nbytes: int) -> None:
    """Make the keystreams of ``nbytes`` and throw them away, in the best chunk size."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    zeros, room = bytes(CHUNK), bytearray(CHUNK)
    streams = [Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor() for key in keys]
    for _ in range(0, nbytes, CHUNK):
        for stream in streams:
            stream.update_into(zeros, room)


def protocol(nodes: int, params: int, lost: int = 0) -> dict[str, float]:
    """Play one whole masked sum; return the seconds of one client (mean, quantisation apart) and of the server."""
    dice = random.Random(1)
    names = [f"node_{at:04d}" for at in range(nodes)]
    subject = Subject("job", 1, 1, "c" * 64, "d" * 64)
    client = server = 0.0

    def as_client(work: Callable[[], object]) -> object:
        nonlocal client
        begun = time.perf_counter()
        result = work()
        client += time.perf_counter() - begun
        return result

    def as_server(work: Callable[[], object]) -> object:
        nonlocal server
        begun = time.perf_counter()
        result = work()
        server += time.perf_counter() - begun
        return result

    sessions = {n: as_client(lambda n=n: Session(subject, n, "t", Floor(), dice.randbytes)) for n in names}
    adverts = [
        as_client(lambda n=n, s=s: s.advertise("e" * 64, 4, 10, n.encode(), lambda x, n=n: sign(n, x)))
        for n, s in sessions.items()
    ]
    roster = make_roster(subject, adverts)
    attempt = MaskedAttempt(roster, 3)
    for name in names:
        shared = as_client(lambda n=name: sessions[n].join(roster, verify_advert))
        as_server(lambda n=name, s=shared: attempt.shared(n, s.sealed, s.commitment))
    as_server(attempt.advance)
    deliveries = as_server(attempt.deliveries)
    here = names[: nodes - lost]
    ones, keys, total = np.ones(params, np.uint32), {}, np.zeros(params, np.uint32)
    for name in names:
        keys[name] = as_client(lambda n=name: sessions[n].deliver(attempt.sharers, deliveries[n]))
    for name in here:
        vector = ones.copy()
        as_client(lambda k=keys[name], v=vector: _ring(k.plus, k.minus, v))
        as_server(lambda v=vector: np.add(total, v, out=total))
        attempt.sent(name, "0" * 64)
    as_server(lambda: [attempt.lose(n) for n in names[nodes - lost :]])
    as_server(attempt.advance)
    survivors = attempt.survivors
    masked = {n: Masked(roster, n, attempt.sharers, keys[n].held) for n in here}
    for name in here:
        statement = as_client(lambda n=name: check_survivors(masked[n], survivors, Floor()))
        attempt.signed(name, sign(name, statement))
    as_server(attempt.advance)
    for name in here:
        shares = as_client(lambda n=name: answer(masked[n], survivors, attempt.signatures, verify))
        as_server(lambda n=name, s=shares: attempt.answered(n, s))
    as_server(attempt.advance)
    opening = as_server(attempt.opening)
    as_server(lambda: _ring(opening.add, opening.subtract, total))
    if not (total == len(here)).all():
        raise RuntimeError("the opened sum is wrong")
    return {"client_s": client / nodes, "server_s": server, "masks": float(len(opening.add) + len(opening.subtract))}


def _ring(plus: tuple[bytes, ...], minus: tuple[bytes, ...], vector: np.ndarray) -> None:
    Keystreams([seed[:16] for seed in plus], [seed[:16] for seed in minus]).apply(vector)


def quantising(params: int) -> float:
    """Return millions of values rounded a second."""
    values = np.random.default_rng(0).normal(size=params).astype(np.float32)
    base, out = values * np.float32(0.9), np.empty(PIECE, np.uint32)
    rounding = Rounding(Encoding(32, 8, 4, 8), 100.0, b"r" * 16)

    def work() -> None:
        for at in range(0, params, PIECE):
            part = values[at : at + PIECE]
            rounding.encode(part, base[at : at + PIECE], out[: part.size])

    return params / timed(work, 3) / 1e6


def main(argv: list[str]) -> int:
    """Print the figures; the last line is JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench privacy")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, smaller drop-out runs")
    options = parser.parse_args(argv)
    repeats, million = (3, 1_000_000) if options.quick else (7, 1_000_000)
    out: dict[str, float | None] = dict.fromkeys(NOT_BUILT)

    def tell(name: str, value: object) -> None:
        print(f"{name}: {value}", file=sys.stderr, flush=True)

    ratios = {}
    for masks in (8, 64):
        whole, limit, ratios[masks] = masking(10 * million if masks == 8 else 2 * million, masks, repeats)
        tell(f"masking with {masks} keystreams", f"{whole:.3f} s, keystreams alone {limit:.3f} s")
    out["mask_client_vs_limit"] = out["mask_server_vs_limit"] = round(max(ratios.values()), 3)
    tell("quantisation", f"{quantising(4 * million):.0f} M values/s")

    ours8 = [protocol(8, million) for _ in range(repeats)]
    peer8 = flower_secagg(8, million, repeats)
    client, server = (min(run[key] for run in ours8) for key in ("client_s", "server_s"))
    tell("K=8, 1 M parameters", {"client_s": client, "server_s": server, "flower": peer8})
    ours32 = [protocol(32, million // 4) for _ in range(2)]
    peer32 = flower_secagg(32, million // 4, 1)
    server32 = min(run["server_s"] for run in ours32)
    tell("K=32, 250 k parameters", {"server_s": server32, "flower": peer32})
    out["mask_client_vs_flower"] = round(peer8["client_s"] / client, 2) if peer8 else None
    out["mask_server_vs_flower_k8"] = round(peer8["server_s"] / server, 2) if peer8 else None
    out["mask_server_vs_flower_k32"] = round(peer32["server_s"] / server32, 2) if peer32 else None

    size = million // 4
    none, dropped = protocol(64, size), protocol(64, size, lost=19)
    tell("K=64 server, none and 19 lost", (none["server_s"], dropped["server_s"]))
    out["dropout_vs_none"] = round(dropped["server_s"] / none["server_s"], 2)

    with tempfile.TemporaryDirectory() as folder:
        figures = whole_round(10 * million, 8, Path(folder), 3 if options.quick else 5)
    tell("10 M parameters, K=8, files", figures)
    out["mask_bytes_per_parameter"] = round(figures["upload_bytes_per_parameter"], 3)
    plain = figures["node_plain_s"] + figures["server_plain_s"]
    out["mask_round_vs_plain"] = round((figures["node_masked_s"] + figures["server_masked_s"]) / plain, 3)
    tell("not built yet, so null", ", ".join(NOT_BUILT))
    print(json.dumps(out))
    return 0
