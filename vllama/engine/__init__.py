"""All that vllama knows of vLLM, and the only place that names its flags, URLs and log lines.

platform   which `vllm` runs, its version, and what kind of machine it was built for
flags      the flags and variables that are vllama's own business
command    a model and a Start as the command line and environment of `vllm serve`
client     what can be asked of a running engine
metrics    the one thing vllama reads from /metrics: the sleep state
families   the rest of it, passed on: several engines' as one text
logs       an engine's log as it grows
learned    what the log teaches of footprint and abilities
stage      how far a load has come, from the log
cause      why an engine failed: one line out of its log, with what to do
failures   the failures we know, by their texts
files      the config and the weights of a model directory
estimate   what a model will take before it ever ran, from its files
cache      which models are on disk: in the hub's cache, in ModelScope's (modelscope), in directories
about      what a model's files tell people and clients (revision: whether they are still the same)
completeness  whether a directory is a whole model
kinds      what a model is for, guessed or told
listing    what a hub has of a model, and what of that vLLM reads
download   a model from a hub into the cache (resuming: its large files)
removal    a model out of the cache
"""
