"""``python -m reconciler.panel``: what BILLmanager's ``processing/pmnextcloud`` runs."""

from __future__ import annotations

import sys

from reconciler.panel.entry import main

sys.exit(main(sys.argv[1:]))
