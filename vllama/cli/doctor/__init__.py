"""`vllama doctor`: what keeps this machine from running models well, and how to mend it. Changes nothing.

finding    one line of the answer
examine    all checks, in order; one that fails does not hide the others
vllm, devices, host, files, ports, running   the checks
"""
