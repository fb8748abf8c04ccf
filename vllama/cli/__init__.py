"""The `vllama` command.

app          the commands and their options
options      options that several commands share
failure      how a command fails: one message on stderr, an exit code
server       which server is meant
client       its admin API
terminal     width, colour, output
ps, plan, progress, validate   one command each (progress: start, stop, sleep, wake-up)
render/      status or plan -> text, pure
"""
