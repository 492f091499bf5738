"""Backends that run the network step: one interface and one registry."""

from sdcpc_ros.inference.backend import BACKENDS, check_backend, checked_device, create_backend, holding_builds
from sdcpc_ros.inference.backend_manager import BackendManager, BackendStatus
from sdcpc_ros.inference.eager import Backend, BackendError
from sdcpc_ros.inference.precision import PRECISIONS, checked_precision, precision_name
from sdcpc_ros.inference.step import Step

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "BackendError",
    "BackendManager",
    "BackendStatus",
    "Step",
    "check_backend",
    "checked_device",
    "checked_precision",
    "create_backend",
    "holding_builds",
    "precision_name",
]
