"""The world behind `sdcpc_ros.datasets.synthetic_street`: pictures, objects, town planning, light and projection.

Read in this order: `textures` (pictures drawn from random numbers), `world` (textured parallelograms that move),
`light`, then what is built of them (`ground`, `buildings`, `greenery`, `cars`, `people`, `furniture`), `town` (what a
street is built from), `scene` (where the seed puts it) and `projection` (from the world to pixels).
"""
