"""`python -m raysft` is `raysft`."""

from raysft.cli.main import main

main()
