"""Method names and serialisers of the node link, for both ends.

Download and Upload carry raw chunks (``bytes`` in, ``bytes`` out): a protobuf wrapper would copy every megabyte twice.
The upload's header travels as call metadata ``hansa-task``, ``hansa-digest``, ``hansa-size``, ``hansa-offset``.
"""

from __future__ import annotations

PROTOCOL = 1
SERVICE = "hansa.node.v1.NodeLink"
CONNECT = f"/{SERVICE}/Connect"  # stream NodeEvent -> stream CoordinatorEvent
DOWNLOAD = f"/{SERVICE}/Download"  # DownloadRequest -> stream raw bytes
UPLOAD = f"/{SERVICE}/Upload"  # stream raw bytes -> UploadResult
UPLOAD_OFFSET = f"/{SERVICE}/UploadOffset"  # UploadKey -> UploadOffset
RENEW = f"/{SERVICE}/Renew"  # RenewRequest -> RenewReply


def raw(data: bytes) -> bytes:
    """Return ``data``: the identity serialiser."""
    return data
