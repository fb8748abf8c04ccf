"""What is asked of Ray. All of it blocks, for as long as Ray likes: call it in a thread, and do not wait for ever.

Runs in the driver only.
"""

import contextlib
import os
import re
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    GetTimeoutError,
    RayActorError,
    RayError,
)
from ray.util import get_placement_group, placement_group, remove_placement_group
from ray.util.placement_group import placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vllama.runtime.ray.agent import Agent
from vllama.runtime.ray.messages import NAMESPACE, Attached, Call, Hello, RayNode
from vllama.runtime.ray.settings import AUTO, AgentSettings
from vllama.runtime.ray.stranger import is_refused, refuses_strangers
from vllama.runtime.ray.token import ASK_FOR_IT

UNAVAILABLE = (ActorUnavailableError,)
GONE = (ActorDiedError, LookupError)  # for good: of one that Ray is about to start again it says that it is unavailable
HELLO_WITHIN_S = 10.0
ABANDONED_AFTER_S = 60.0  # managers ask every second
BEGINS_WITHIN_S = 40.0  # a worker of Ray's, and Python's imports on a machine that has other things to do
LEASED_WITHIN_S = 5.0

# An engine has a session of its own, and lives on where its agent is restarted; Ray would see to it that it does not.
_ENVIRON = {"RAY_kill_child_processes_on_worker_exit": "0"}


def connect(address: str, *, insecure: bool) -> None:
    """RuntimeError: our token is not its; or anybody may join it, and it was not said that this is right."""
    if address != AUTO and is_refused(address):
        raise RuntimeError("it does not take this token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token).")
    ray.init(
        address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False, ignore_reinit_error=True
    )  # fmt: skip
    if not insecure and not refuses_strangers(ray.get_runtime_context().gcs_address, os.environ):
        raise RuntimeError(f"it lets in whoever comes, without a token. {ASK_FOR_IT}")


def nodes() -> list[RayNode]:
    """Of several that had one name, the one that lives."""
    found: dict[str, RayNode] = {}
    for each in ray.nodes():
        address = each["NodeManagerAddress"]
        node = RayNode(
            name=each.get("NodeName") or address, ray_id=each["NodeID"], address=address, alive=each["Alive"],
            gpus=int(each.get("Resources", {}).get("GPU", 0)),
        )  # fmt: skip
        if node.alive or node.name not in found:
            found[node.name] = node
    return list(found.values())


def own_node_lives() -> bool:
    mine = ray.get_runtime_context().get_node_id()
    return any(each["NodeID"] == mine and each["Alive"] for each in ray.nodes())


def attach(node: RayNode, settings: AgentSettings) -> Attached:
    """Have the machine's GPUs, and an agent there with these settings. To be asked again until it is ready."""
    held = _lease(node)
    if held is not None:
        return Attached(ready=False, said=held)
    name = _name(node.name)
    try:
        agent = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return _begin(node, settings)
    try:
        found: Hello | None = ray.get(agent.do.remote(Call(verb="hello")), timeout=HELLO_WITHIN_S).value
    except (RayError, GetTimeoutError):
        found = None
    if found is not None and found.settings == settings:
        return Attached(ready=True)
    if found is not None and _is_anothers(found, settings):
        return Attached(ready=False, said="Another vllama has the machine. Stop that one first.")
    # of other settings, of a node that is no more, or silent: engines do not notice
    with contextlib.suppress(RayError):
        ray.kill(agent, no_restart=True)
    return Attached(ready=False, said="Its agent is started anew.", soon=True)


def _is_anothers(found: Hello, settings: AgentSettings) -> bool:
    """Of a vllama that is there: one that has asked nothing for so long is gone, and its engines with its agent."""
    theirs = found.settings
    of_another = theirs.owner != settings.owner and theirs.ray_node == settings.ray_node
    return of_another and found.unasked_s < ABANDONED_AFTER_S


def _begin(node: RayNode, settings: AgentSettings) -> Attached:
    actor = ray.remote(Agent).options(
        name=_name(node.name), namespace=NAMESPACE, lifetime="detached", num_cpus=0, num_gpus=0, max_restarts=-1,
        max_task_retries=0, max_concurrency=1000,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.ray_id, soft=False),
        runtime_env={"env_vars": _ENVIRON},
    )  # fmt: skip
    try:
        agent: Any = actor.remote(settings)
        ray.get(agent.do.remote(Call(verb="hello")), timeout=BEGINS_WITHIN_S)
    except ValueError:
        return Attached(ready=False, said="Its earlier agent has not ended yet.", soon=True)  # which still has the name
    except GetTimeoutError:
        return Attached(ready=False, said=f"Ray started no agent there within {BEGINS_WITHIN_S:.0f} s.")
    except (RayActorError, ActorUnschedulableError) as error:
        with contextlib.suppress(RayError, NameError):
            ray.kill(agent, no_restart=True)
        return Attached(ready=False, said=f"Its agent does not run: {_why(error)}")
    return Attached(ready=True)


def _why(error: Exception) -> str:
    text = str(error)
    if "ModuleNotFoundError" in text and "vllama" in text:
        return "vllama is not installed for the Python that runs Ray there. Install the same version on all machines."
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _lease(node: RayNode) -> str | None:
    """All GPUs that Ray counts on the machine, for as long as vllama is there. None: they are ours, or there are none.

    Else why not.
    """
    if not node.gpus:
        return None
    name = _lease_name(node)
    for other in set(_leases(node.name)) - {name}:  # of before it joined anew: such a lease waits for ever
        _give_up(other)
    group = _group(name)
    if group is not None and not _is_there(group, node):
        remove_placement_group(group)
        return "Its GPUs are leased anew."
    if group is None:
        group = placement_group(
            [{"GPU": node.gpus}], strategy="STRICT_PACK", name=name, lifetime="detached",
            bundle_label_selector=[{"ray.io/node-id": node.ray_id}],
        )  # fmt: skip
    if group.wait(LEASED_WITHIN_S):
        return None
    return f"Ray does not give vllama its {node.gpus} GPUs: other jobs of Ray hold some of them (`ray status`)."


def _group(name: str) -> Any:
    try:
        return get_placement_group(name)
    except ValueError:
        return None


def _give_up(name: str) -> None:
    if (group := _group(name)) is not None:
        remove_placement_group(group)


def _is_there(group: Any, node: RayNode) -> bool:
    """Or on its way."""
    table = placement_group_table(group)
    placed = set(table.get("bundles_to_node_id", {}).values()) - {""}
    sizes = [bundle.get("GPU", 0) for bundle in table.get("bundles", {}).values()]
    return placed <= {node.ray_id} and sizes == [node.gpus] and table.get("state") in {"CREATED", "PENDING"}


def let_go(name: str) -> None:
    """The agent and the lease. Its keeper ends by itself."""
    with contextlib.suppress(ValueError, RayError):
        ray.kill(ray.get_actor(_name(name), namespace=NAMESPACE), no_restart=True)
    for lease in _leases(name):
        _give_up(lease)


def agent_of(name: str) -> Any:
    """To be kept: whoever has it can call it, also while the head does not answer. LookupError: there is none."""
    try:
        return ray.get_actor(_name(name), namespace=NAMESPACE)
    except ValueError as error:
        raise LookupError(f"there is no agent on {name}") from error


def begin_call(agent: Any, call: Call) -> Any:
    """The call of an agent, under way: to be awaited."""
    return agent.do.remote(call)


def cancel(under_way: Any) -> None:
    with contextlib.suppress(RayError, ValueError):
        ray.cancel(under_way)


def _name(node: str) -> str:
    return f"vllama-agent-{node}"


def _lease_name(node: RayNode) -> str:
    """Another one each time that the machine joins."""
    return f"vllama-lease-{node.name}-{node.ray_id}"


def _leases(node: str) -> list[str]:
    """The names of all that there are of a machine."""
    name = re.compile(rf"vllama-lease-{re.escape(node)}-[0-9a-f]+")
    there = placement_group_table().values()
    return [each["name"] for each in there if each["state"] != "REMOVED" and name.fullmatch(each["name"])]


def leave() -> None:
    with contextlib.suppress(RayError):
        ray.shutdown()
    os._exit(0)  # Ray's own threads may take their time
