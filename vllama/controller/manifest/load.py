"""A file -> Manifest, or everything that is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from vllama.controller.manifest.config_file import ConfigFiles
from vllama.controller.manifest.content import read_content
from vllama.controller.manifest.entry import Entry, layered, read_entry
from vllama.controller.manifest.environment import Environment, read_environment
from vllama.controller.manifest.findings import Findings
from vllama.controller.manifest.marks import parse
from vllama.controller.manifest.names import check_adapters, check_names, check_ports, check_replicas, names_of
from vllama.controller.manifest.problems import KeyPath, ManifestInvalid
from vllama.controller.manifest.schema import PolicyKeys
from vllama.controller.manifest.sections import Sections, sections_of
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec, check_aliases, read_balance, read_servers
from vllama.controller.manifest.specs import device_problem, model_spec, policy_of, says_devices
from vllama.domain.spec import ModelSpec, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What models.yaml declares. `models` is by id, in the order of the file."""

    models: Mapping[str, ModelSpec] = field(default_factory=lambda: MappingProxyType({}))
    servers: tuple[ServerSpec, ...] = ()
    balance: BalanceSpec = field(default_factory=BalanceSpec)
    policy: Policy = field(default_factory=Policy)
    undeclared: ModelSpec = field(default_factory=lambda: ModelSpec(model="", declared=False))

    @property
    def only_routes(self) -> bool:
        """All that it declares runs on servers of others: neither vLLM nor a GPU is missed here."""
        return bool(self.servers) and not self.models

    def spec_for_undeclared(self, model: str) -> ModelSpec:
        """For a model of the model cache that the file does not name: the defaults, never pinned or preloaded."""
        return replace(self.undeclared, model=model)


def load(path: Path, *, environ: Mapping[str, str]) -> Manifest:
    """An absent or empty file is an empty manifest. Raises ManifestInvalid with all problems."""
    return load_bytes(read_content(path) or b"", file=str(path), environ=environ)


def load_bytes(
    content: bytes, *, file: str, environ: Mapping[str, str], configs: ConfigFiles | None = None
) -> Manifest:  # fmt: skip
    """`file` is what the problems call it. `configs` knows afterwards which other files were read for it."""
    environment = replace(read_environment(environ), directory=str(Path(file).absolute().parent))
    try:
        document = parse(content, file=file, environ=environ)
    except ManifestInvalid as invalid:
        raise ManifestInvalid([*invalid.problems, *environment.problems]) from None
    findings = Findings(document)
    configs = ConfigFiles() if configs is None else configs
    manifest = _manifest(sections_of(document.data, findings), environment, configs, findings)
    if problems := (*findings.problems, *configs.problems, *environment.problems):
        raise ManifestInvalid(problems)
    return manifest


def _manifest(sections: Sections, environment: Environment, configs: ConfigFiles, findings: Findings) -> Manifest:
    defaults = layered(environment.entry, read_entry(sections.defaults, ("defaults",), findings))
    own = {model: read_entry(data, (*sections.root, model), findings) for model, data in sections.models.items()}
    check_names(own, sections.root, findings)
    check_adapters(own, sections.root, findings)
    check_ports(own, sections.root, findings)
    entries = {model: layered(defaults, entry) for model, entry in own.items()}
    check_replicas(entries, own, sections.root, findings)
    _check_devices(defaults, ("defaults",), findings)
    for model, entry in entries.items():
        if says_devices(own[model]):  # what is wrong with the defaults is said once
            _check_devices(entry, (*sections.root, model), findings)
    config = configs.of(defaults, ("defaults",), environment, findings)
    specs = {}
    for model, entry in entries.items():
        said_here = "config_file" in own[model].keys.model_fields_set
        at = (*sections.root, model) if said_here else ("defaults",)
        theirs = configs.of(entry, at, environment, findings)
        specs[model] = model_spec(model, entry, environment, config=theirs)
    policy = findings.validated(
        PolicyKeys, findings.mapping(sections.policy, ("policy",)), lambda loc: ("policy", *loc)
    )
    servers = read_servers(sections.servers, findings)
    check_aliases(servers, names_of(own), findings)
    return Manifest(
        models=MappingProxyType(specs),
        servers=servers,
        balance=read_balance(sections.balance, findings),
        policy=policy_of(policy or PolicyKeys()),
        undeclared=model_spec("", defaults, environment, config=config, declared=False),
    )


def _check_devices(entry: Entry, path: KeyPath, findings: Findings) -> None:
    if (problem := device_problem(entry)) is not None:
        findings.add((*path, "devices"), problem)
