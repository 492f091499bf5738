"""The segmentation node: parameters, cameras, lifecycle, and what its launch file shares with it."""

#: The node's exit status where ROS does not let it start: a parameter file that cannot be read, a name that is none.
#: Nothing is gained by starting it again.
REFUSED_BY_ROS = 2
