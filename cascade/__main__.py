"""``python -m cascade`` is the command ``cascade``."""

from cascade.cli.main import main

main()
