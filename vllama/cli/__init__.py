"""The `vllama` command.

app          the commands and their options; those of on_disk and machine are written there
options      options that several commands share
complete     names of models, for the shell to complete
failure      how a command fails: one message on stderr, an exit code
connect      to a server, or to none where one can do without
server       which server is meant
client       its admin API
terminal     width, colour, output
ps, memory, card, plan, progress, validate   one command each (card: show; progress: start, stop, sleep, wake-up)
life         restart, reload, warm-up (their options), at work in restart and warm_up
assign       its options, at work in assignment
taking       import (its options), at work in imports/
history      logs and events (their options), at work in log_lines and happenings
logging      what the server itself logs, and where to
run, batch   their options, at work in chat and batches
env_file     .env of the working directory; config shows what came from where
what_if      plan --request and plan --matrix
on_disk      list, pull, rm (list_models, pull, pull_progress, remove), from the stock of models
machine      init (with suggest), doctor/, info, schema, version; survey says what there is to run models with
manifest     models.yaml of this machine, read and changed
render/      what the admin API answers -> text, pure
"""
