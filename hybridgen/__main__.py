"""`python -m hybridgen` is the command `hybridgen`."""

import sys

from hybridgen.cli import main

sys.exit(main())
