"""The subcommands of `sdcpc`, one a module: the docstring is the description in its help, `add_arguments` declares the
options, `run` runs it. cli.py lists them and adds `parser`, for errors of usage, to the arguments."""
