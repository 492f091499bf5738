"""A lifecycle node that answers services while it configures, and refuses invalid transitions with an answer.

rclpy runs a transition inside the service call. Loading a model there would block the executor, with parameters and
/diagnostics; and an invalid transition raises inside the service, which then never answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future

Result = TypeVar("Result")


class ManagedNode(LifecycleNode):
    """Configures in a thread of its own; all other transitions are quick and run in the executor's thread.

    `on_configure` may create publishers but no subscriptions, timers or services: the executor uses their handles.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        #: For callbacks that await a transition while other callbacks run.
        self.transition_callbacks = ReentrantCallbackGroup()
        for service in self.services:
            if service.srv_type is ChangeState:
                self._change_state_now = service.callback
                service.callback = self._on_change_state
                service.callback_group = self.transition_callbacks
                self.transition_callbacks.add_entity(service)

    async def run_in_thread(self, work: Callable[[], Result]) -> Result:
        """Runs `work` in a thread while the executor continues; returns its result or raises its exception.

        Await it in a callback of `transition_callbacks`.
        """
        executor = self.executor
        outcome: Future = Future(executor=executor)

        def run() -> None:
            try:
                outcome.set_result(work())
            except Exception as error:
                outcome.set_exception(error)
            executor.wake()  # otherwise it does not notice that `outcome` is done

        threading.Thread(target=run, name="configure", daemon=True).start()
        return await outcome

    async def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        transition = request.transition
        # A label takes precedence over the id.
        is_slow = (transition.label or transition.id) in ("configure", Transition.TRANSITION_CONFIGURE)
        try:
            if is_slow:
                return await self.run_in_thread(lambda: self._change_state_now(request, response))
            return self._change_state_now(request, response)
        except RuntimeError:  # rclpy's RCLError: the state has no such transition
            self.get_logger().warning(f"no transition '{transition.label or transition.id}' from the current state")
            response.success = False
            return response
