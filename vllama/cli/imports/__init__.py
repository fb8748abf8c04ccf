"""`vllama import`: what another tool's file says, as models.yaml would say it.

found       what was found, and what could not be carried over
mvllm       servers.toml
llama_swap  config.yaml: models, groups, peers; macros fills in its macros
command     the command line of an engine: which program, and a `vllm serve` as settings
ollama      its list of models
fitting     without what our own reader of models.yaml refuses
merging     into models.yaml
"""
