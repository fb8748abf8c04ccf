"""models.yaml, from text to ModelSpecs.

problems     what is wrong and where, for people
compose      YAML text -> nodes, within a budget
syntax       what is wrong with text that is no YAML
marks        YAML text -> plain data and the line of every key
references   ${NAME} in values
values       single values: numbers, names, lists
amounts      single values with a unit: tokens, bytes, durations
settings     vLLM's own settings, by vLLM's names
schema       vllama's own keys
shapes       the same values as JSON Schema
json_schema  all of it as JSON Schema
findings     all that is wrong with one document
entry        one layer of settings: the environment's, the defaults', a model's
environment  the lowest layer
config_file  files of flags that it names for vLLM's --config
specs        layers -> ModelSpec
sections     the parts of a file, full or flat
servers      endpoints that somebody else runs
names        no name twice
content      of a file, within reason
load         a file -> Manifest
roundtrip    changes in YAML that keep comments where they are
edit         the file, changed by a command: models
beside       and its other sections
watch        the file while it changes
"""

from vllama.controller.manifest.load import Manifest, load
from vllama.controller.manifest.problems import ManifestInvalid, Problem
from vllama.controller.manifest.watch import ManifestWatch

__all__ = ["Manifest", "ManifestInvalid", "ManifestWatch", "Problem", "load"]
