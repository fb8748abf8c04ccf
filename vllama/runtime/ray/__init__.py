"""Engines on the machines of a Ray cluster. Ray knows the machines, places the agents and holds the GPUs for us.

settings   what the manager, and through it each agent, was told
messages   what manager, driver and agents say to each other
agent      on each machine: the local runtime, called through Ray
presence   the agent's lock, by which its keeper knows that it lives
keeper     on each machine: ends the engines whose agent is gone and does not come back
driver     the only process of the manager that speaks Ray: its own, so that Ray can hang or crash by itself
cluster    what the driver asks of Ray: nodes, leases, agents
token      whether the manager has one for Ray; stranger, whether Ray asks for it
link       the manager's end of the driver
member     one machine as the manager sees it: ready, lost, fenced
whole      engines of what each machine tells, those that span several put together
transport  httpx to engines by way of their agents
runtime    the Runtime that holds them together

Nothing but driver, cluster and agent ever runs where Ray is loaded, and the first two alone import it.
"""
