"""``python -m coordinator DIR``: serve without the command line's comforts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from coordinator.app import serve
from coordinator.settings import load

if __name__ == "__main__":
    serve(load(Path(sys.argv[1] if len(sys.argv) > 1 else "."), os.environ, {}))
