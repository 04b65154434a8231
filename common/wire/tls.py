"""TLS settings of the node link that gRPC reads from the environment.

gRPC Python offers TLS 1.2 and 1.3 and has no knob for the older one's suites but this variable; it is read when the
first channel or server is made, so whoever makes one imports this module first.
"""

from __future__ import annotations

import os

# TLS 1.2: forward secrecy and authenticated encryption only.  The three TLS 1.3 suites are always on.
CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    )
)
os.environ["GRPC_SSL_CIPHER_SUITES"] = CIPHERS
