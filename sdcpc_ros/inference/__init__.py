"""How the network is run: one interface, several backends, one registry."""

from sdcpc_ros.inference.backend import BACKENDS, Backend, BackendError, create_backend

__all__ = ["BACKENDS", "Backend", "BackendError", "create_backend"]
