"""The checks of `sdcpc doctor`: this machine, its ROS, and the live graph. Each finding is a line with its fix."""
