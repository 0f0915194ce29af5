"""``python -m vidlib.cli``."""

import sys

from vidlib.cli import main

sys.exit(main())
