"""What the gateway tells of itself: sums at /metrics, and a line per request for whoever asks for it.

finished    one request, when it is over: what the data path hands over
usage       the tokens that an engine reports at the end of its answer
pulls       one pull, in the same sums
meters      the sums, kept as plain numbers: a histogram of prometheus_client would cost more than the request
families    samples and their labels, put together for prometheus_client
doings      what the loop did: operations, evictions, swaps, how long they took
models      their phases, their replicas, and who waits for them
memory      the ledgers of devices and hosts, and models' footprints
exposition  the sums, the phases and the conditions in Prometheus' text format
servers     those that others run, as gauges
engines     the engines' own families, asked beside each other and passed on
access      the line per request
router      /metrics and /metrics/engines
"""
