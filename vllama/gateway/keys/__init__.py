"""API keys: who may use the models, and who may also use the admin API.

key    what a key is and may do; how a request shows one
file   the file of keys, from text to the keys in it
edit   the file, changed by `vllama keys`
ring   the keys in force, and the file while it changes
"""
