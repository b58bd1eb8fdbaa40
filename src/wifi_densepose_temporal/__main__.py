"""`python -m wifi_densepose_temporal` is the command `wdt`."""

from wifi_densepose_temporal.cli import main

main()
