"""The world of `sdcpc_ros.datasets.synthetic_street`: textures, objects, town planning, light and projection.

Read in this order: `textures` (images drawn from random numbers), `world` (textured parallelograms that move),
`light`, then the objects made of them (`ground`, `buildings`, `greenery`, `cars`, `people`, `furniture`), `town` (the
parts of a street), `scene` (their placement by the seed) and `projection` (from the world to pixels).
"""
