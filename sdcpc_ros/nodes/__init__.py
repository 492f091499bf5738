"""The segmentation node: parameters, cameras, lifecycle, and the parts that its launch file shares."""

#: The node's exit status if ROS does not let it start: an unreadable parameter file or an invalid name. Another start
#: would fail in the same way.
REFUSED_BY_ROS = 2
