"""Flower's SecAgg+, its own functions in the order of its own protocol, in process: no network, no serialisation."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np


def flower_secagg(nodes: int, params: int, repeats: int) -> dict[str, float] | None:
    """Return seconds of one client and of the server (best of ``repeats``); None where Flower is not installed."""
    try:
        runs = [_run(nodes, params) for _ in range(repeats)]
    except ImportError as error:
        print(f"Flower's SecAgg+ did not run: {error}", file=sys.stderr)
        return None
    return {key: min(run[key] for run in runs) for key in runs[0]}


def _run(nodes: int, params: int) -> dict[str, float]:
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        parameters_addition,
        parameters_mod,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.quantization import quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes

    modulus, threshold = 2**32, nodes // 2 + 1
    client = server = 0.0

    def timed(work: Callable[[], object], side: str) -> object:
        nonlocal client, server
        begun = time.perf_counter()
        result = work()
        spent = time.perf_counter() - begun
        client, server = client + spent * (side == "client"), server + spent * (side == "server")
        return result

    pairs = [timed(generate_key_pairs, "client") for _ in range(nodes)]
    seeds = [np.random.default_rng(at).bytes(32) for at in range(nodes)]
    keys = [private_key_to_bytes(private) for private, _ in pairs]
    shares = [
        timed(
            lambda at=at: (create_shares(seeds[at], threshold, nodes), create_shares(keys[at], threshold, nodes)),
            "client",
        )
        for at in range(nodes)
    ]
    values = np.random.default_rng(0).normal(size=params).astype(np.float32)
    vectors = [quantize([values], 8.0, 1 << 22) for _ in range(nodes)]
    shapes = [array.shape for array in vectors[0]]

    def masked(me: int) -> list[np.ndarray]:
        total = parameters_addition(vectors[me], pseudo_rand_gen(seeds[me], modulus, shapes))
        for other in range(nodes):
            if other == me:
                continue
            secret = generate_shared_key(pairs[me][0], pairs[other][1])
            mask = pseudo_rand_gen(secret, modulus, shapes)
            total = (parameters_addition if me > other else parameters_subtraction)(total, mask)
        return parameters_mod(total, modulus)

    uploads = [timed(lambda at=at: masked(at), "client") for at in range(nodes)]

    def opened() -> list[np.ndarray]:
        total = uploads[0]
        for upload in uploads[1:]:
            total = parameters_addition(total, upload)
        total = parameters_mod(total, modulus)
        for at in range(nodes):
            seed = combine_shares(shares[at][0][:threshold])
            mask = pseudo_rand_gen(seed, modulus, shapes)
            total = parameters_subtraction(total, mask)
        return parameters_mod(total, modulus)

    result = timed(opened, "server")
    exact = sum(vector[0].astype(np.int64) for vector in vectors) % modulus
    if not (result[0] == exact).all():
        raise RuntimeError("Flower's sum is wrong: the benchmark does not use it as it is meant")
    return {"client_s": client / nodes, "server_s": server}
