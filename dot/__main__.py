"""``python -m dot`` is ``dot-landscape``."""

import sys

from dot.cli import main

sys.exit(main())
