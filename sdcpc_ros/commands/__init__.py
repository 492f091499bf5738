"""What `sdcpc` can do, one command a module: `add_arguments` declares its options, `run` does it. Listed in cli.py."""
