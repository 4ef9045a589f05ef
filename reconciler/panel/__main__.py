"""``python -m reconciler.panel``: what BILLmanager's ``processing/pmnextcloud`` runs."""

from __future__ import annotations

import gc
import sys

# A tenth of the start: nearly all that one command allocates are the modules, and they are no garbage.
gc.set_threshold(100_000, 50, 50)

from reconciler.panel.entry import main  # noqa: E402 - loading is what is to be faster

sys.exit(main(sys.argv[1:]))
