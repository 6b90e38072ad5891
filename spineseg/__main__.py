"""Run the command line with ``python -m spineseg``."""

from spineseg.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
