"""`python -m f2d_core …`"""

import sys

from .cli import main

sys.exit(main())
