"""The `vllama` command.

app          the commands and their options
options      options that several commands share
failure      how a command fails: one message on stderr, an exit code
server       which server is meant
client       its admin API
terminal     width, colour, output
ps, memory, card, plan, progress, validate   one command each (card: show; progress: start, stop, sleep, wake-up)
what_if      plan --request and plan --matrix
render/      what the admin API answers -> text, pure
"""
