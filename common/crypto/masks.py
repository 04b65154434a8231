"""Masks: keys that two nodes agree on, and keystreams added to a vector in the ring of its integers.

One seed, one use: a seed comes out of HKDF over an agreed secret and the digest of everything the round is about, and
the keystream starts at zero.  Who shows two nodes two different rounds (another model, roster or attempt) gives them
two different seeds, and their masks do not cancel.

Source: Bonawitz et al. 2017, "Practical Secure Aggregation", with AES-128 in counter mode as the PRG.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from common.errors import BadInput, BadSignature

KEY_BYTES = 32  # X25519, both halves
SEED_BYTES = 32  # of a mask: one AES key for the ring, one for the wide lanes
CHUNK = 1 << 17  # bytes of keystream at a time: with the zeros it is made of and the vector it stays in the L2 cache
_BLOCK = 16
_ZEROS = bytes(CHUNK)


def public_of(private: bytes) -> bytes:
    """Return the public half of a raw X25519 key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    """Return the secret that two X25519 keys share.

    Raises:
        BadInput: ``public`` is no key, or one that makes everybody's secret the same.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise BadInput("a peer's X25519 key is no good key") from error


def derive(secret: bytes, context: bytes, purpose: str) -> bytes:
    """Return 32 bytes for ``purpose`` out of ``secret``, bound to ``context`` (HKDF-SHA256)."""
    return HKDF(SHA256(), SEED_BYTES, salt=context, info=b"hansa/" + purpose.encode()).derive(secret)


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Return ``plain`` under AES-256-GCM; ``key`` must be used for this one message only."""
    return AESGCM(key).encrypt(bytes(12), plain, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """Return what ``seal`` hid.

    Raises:
        BadSignature: it was not sealed with this key about this.
    """
    try:
        return AESGCM(key).decrypt(bytes(12), sealed, about)
    except InvalidTag as error:
        raise BadSignature("a sealed message was changed, or is not for us") from error


class Keystreams:
    """Several masks applied to one vector, a piece after the other.

    Args:
        plus: 16-byte keys of the masks that are added.
        minus: Those that are subtracted.
        at: Byte of the vector that the first piece begins with.
    """

    def __init__(self, plus: Sequence[bytes], minus: Sequence[bytes], at: int = 0) -> None:
        start = (at // _BLOCK).to_bytes(_BLOCK, "big")
        skipped = bytes(at % _BLOCK)
        self._streams: list[tuple[CipherContext, np.ufunc]] = [(_counter_mode(key, start), np.add) for key in plus]
        self._streams += [(_counter_mode(key, start), np.subtract) for key in minus]
        for stream, _ in self._streams:
            stream.update(skipped)
        self._noise = bytearray(CHUNK)

    def apply(self, piece: NDArray[Any]) -> None:
        """Mask the next piece of the vector (unsigned, contiguous) in place."""
        per_chunk = CHUNK // piece.itemsize
        noise = np.frombuffer(self._noise, piece.dtype)
        for at in range(0, piece.size, per_chunk):
            part = piece[at : at + per_chunk]
            mask, zeros, room = noise[: part.size], _ZEROS, self._noise
            if part.nbytes < CHUNK:
                zeros, room = _ZEROS[: part.nbytes], memoryview(self._noise)[: part.nbytes]  # type: ignore[assignment]  # a buffer either way
            for stream, operation in self._streams:
                stream.update_into(zeros, room)
                operation(part, mask, out=part)


def keystream(key: bytes, nbytes: int) -> bytes:
    """Return the first bytes of one mask."""
    return _counter_mode(key, bytes(_BLOCK)).update(bytes(nbytes))


def _counter_mode(key: bytes, start: bytes) -> CipherContext:
    return Cipher(algorithms.AES(key), modes.CTR(start)).encryptor()
