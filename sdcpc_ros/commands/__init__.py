"""The commands of `sdcpc`, one per module: `add_arguments` declares the options, `run` runs it. cli.py lists them."""
