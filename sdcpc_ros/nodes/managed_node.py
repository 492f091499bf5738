"""A lifecycle node that answers: while it configures, and when it is asked for a transition that it can't make.

rclpy runs a transition within the service call that asks for it. One that loads a model would keep the executor from
everything else, parameters and /diagnostics too; and a transition that the state doesn't allow raises within the
service, which then never answers, so that the caller waits for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future

Result = TypeVar("Result")


class ManagedNode(LifecycleNode):
    """Configures in a thread of its own; every other transition is quick, and stays in the executor's thread.

    `on_configure` may create publishers but no subscriptions, timers or services: their handles are the executor's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        #: Of callbacks that wait for a transition without keeping others from being called.
        self.transition_callbacks = ReentrantCallbackGroup()
        for service in self.services:
            if service.srv_type is ChangeState:
                self._change_state_now = service.callback
                service.callback = self._on_change_state
                service.callback_group = self.transition_callbacks
                self.transition_callbacks.add_entity(service)

    async def configure_in_thread(self) -> Any:
        """The TransitionCallbackReturn of `trigger_configure`; for a callback of `transition_callbacks` to await."""
        return await _in_thread(self.executor, self.trigger_configure)

    async def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        wanted = request.transition
        # A label goes before the id.
        is_slow = wanted.label == "configure" if wanted.label else wanted.id == Transition.TRANSITION_CONFIGURE
        try:
            if is_slow:
                return await _in_thread(self.executor, lambda: self._change_state_now(request, response))
            return self._change_state_now(request, response)
        except RuntimeError:  # rclpy's RCLError: the state has no such transition
            self.get_logger().warning(f"no transition '{wanted.label or wanted.id}' from the present state")
            response.success = False
            return response


async def _in_thread(executor: Executor, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, done by a thread while the executor goes on."""
    outcome: Future = Future(executor=executor)

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)
        executor.wake()  # it looks after what waits for `outcome` when it is woken, and not before

    threading.Thread(target=run, name="configure", daemon=True).start()
    return await outcome
