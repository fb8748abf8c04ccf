"""The front door: one port for everybody's OpenAI client and for the operator.

Values and bytes, whatever carries them:
paths      which requests reach an engine, and nothing else does
names      what a JSON body says to vllama: `model` above all, replaced where an alias was used
forms      what multipart/form-data says to us
keep_alive how long a request wants its model to stay
headers    which headers pass, to the engine and back
errors     every refusal; dialects: in the shape, or the event, that whoever asked can read
inference  from a name to a model, and from a model to the right to call its engine
finder     from the body of a request to what it wants
makers     which engine made which response of /v1/responses
render     plans and statuses as JSON; enquiry_json: books, rehearsals and model cards
keys       API keys: the file, and who they let in
guard      who may speak to the admin API
forwarded  which way a request came, where proxies say so
cors       which web pages may call
tls        the certificate, and its successors

ollama     Ollama's API: requests and answers translated, on the data path like all others

HTTP:
wire       the data path: one port for all, and the bytes of users
asgi       the few things that we need of ASGI
replies    errors as answers of FastAPI routes
models, health, admin, enquiries, history: the routes that vllama answers itself; instances: the older tool's
app        these routes as one application
"""
