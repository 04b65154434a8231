"""``python -m tests.servers install``: put the servers that tests start into the user's cache folder."""

from __future__ import annotations

import sys

from tests.servers.install import install

if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: python -m tests.servers install")
    sys.exit(install())
