"""python -m neuro4d_lib"""

import sys

from neuro4d_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
