"""The front door: one port for everybody's OpenAI client and for the operator.

Values and bytes, whatever carries them:
paths      which requests reach an engine, and nothing else does
names      the `model` of a JSON body: found, and replaced where an alias was used
headers    which headers pass, to the engine and back
errors     every refusal, as status, headers and body; the event that ends a broken stream
inference  from a body to a model, and from a model to the right to call its engine
render     plans and statuses as JSON
keys       API keys: the file, and who they let in
guard      who may speak to the admin API
forwarded  which way a request came, where proxies say so
cors       which web pages may call
tls        the certificate, and its successors

HTTP:
wire       the data path: one port for all, and the bytes of users
asgi       the few things that we need of ASGI
replies    errors as answers of FastAPI routes
models, health, admin: the routes that vllama answers itself
app        these routes as one application
"""
