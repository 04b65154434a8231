"""Which blob store an address means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from common.errors import BadInput
from common.units import GIB
from coordinator.adapters.blobs_dir import DirectoryBlobs
from coordinator.adapters.blobs_s3 import S3Blobs, S3Settings

AWS = "s3.amazonaws.com"


def make_blobs(
    where: str | Path,
    *,
    cache_dir: Path | None = None,
    access_key: str = "",
    secret_key: str = "",
    ca_file: Path | None = None,
    cache_bytes: int = 20 * GIB,
) -> DirectoryBlobs | S3Blobs:
    """Open the blob store at ``where``: a folder, or a bucket.

    Args:
        where: A path; ``s3://BUCKET`` (AWS); ``s3+https://HOST[:PORT]/BUCKET`` or ``s3+http://…`` (MinIO and others);
            ``?region=`` may follow, ``KEY:SECRET@`` may stand before the host.
        cache_dir: Local folder for what a bucket held when it was read; needed for buckets.
        access_key: Of the bucket; wins over the address.
        secret_key: Of the bucket; wins over the address.
        ca_file: PEM of a private CA that signed the server's certificate.
        cache_bytes: Bound of the cache.

    Raises:
        BadInput: the address cannot be understood. Unreachable: the folder or the bucket cannot be used.
    """
    text = str(where)
    if "://" not in text:
        return DirectoryBlobs(Path(text))
    parts = urlsplit(text)
    if parts.scheme == "file":
        return DirectoryBlobs(Path(unquote(parts.path)))
    if parts.scheme not in {"s3", "s3+http", "s3+https"} or not parts.hostname:
        raise BadInput("a blob store is a path, s3://BUCKET, s3+https://HOST/BUCKET or s3+http://HOST/BUCKET")
    if cache_dir is None:
        raise BadInput("a bucket needs a local cache folder")
    settings = S3Settings(
        endpoint=AWS if parts.scheme == "s3" else _host(parts.hostname, parts.port),
        bucket=parts.hostname if parts.scheme == "s3" else parts.path.strip("/"),
        access_key=access_key or unquote(parts.username or ""),
        secret_key=secret_key or unquote(parts.password or ""),
        secure=parts.scheme != "s3+http",
        region=parse_qs(parts.query).get("region", [""])[0],
        ca_file=ca_file,
        cache_bytes=cache_bytes,
    )
    if not settings.access_key or not settings.secret_key:
        raise BadInput(f"bucket {settings.bucket} at {settings.endpoint} needs an access key and a secret key")
    return S3Blobs(settings, cache_dir)


def _host(name: str, port: int | None) -> str:
    host = f"[{name}]" if ":" in name else name
    return host if port is None else f"{host}:{port}"
