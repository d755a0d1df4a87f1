"""What `forgectl check` does: finds the files, examines them, shows what is public of them and what is wrong."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cardano.credentials import MOST_BYTES, CredentialSet, Faulty, KesAgent, Source, credential_set
from cardano.envelope import (
    COLD_SIGNING_KEYS,
    KES_SIGNING_KEY,
    KINDS,
    OPERATIONAL_CERTIFICATE,
    VRF_SIGNING_KEY,
    Unreadable,
    envelope,
)
from cardano.genesis import GenesisError, read_genesis
from cardano.kes import KesKey
from cardano.opcert import OperationalCertificate
from cardano.process import check_socket
from cardano.slots import NETWORKS, Network, name_of
from cli.asking import Failed, Misused, columns, printable
from cli.checking import OPTIONS
from config import Config
from ipc.messages import Check, Finding, Severity
from kernel.secretmem import read_secret
from policy.credential_findings import Expected, examine, expires_at, periods_left, worst_first

MOST_FILES: Final = 500
"""Of a folder; more are no folder of keys."""
_USUAL: Final = {
    KES_SIGNING_KEY: ("kes.skey",),
    VRF_SIGNING_KEY: ("vrf.skey",),
    OPERATIONAL_CERTIFICATE: ("node.cert", "op.cert", "opcert.cert", "node.opcert"),
}


def command(config: Config, arguments: argparse.Namespace) -> None:
    paths, findings = _paths(config, arguments)
    with ExitStack() as secrets:
        by_agent = arguments.kes_agent or (config.kes_agent and arguments.folder is None and not arguments.kes_key)
        if by_agent:
            paths[KES_SIGNING_KEY] = "has none, and need not"
        kes, vrf, certificate = (
            _source(paths[kind], secrets) for kind in (KES_SIGNING_KEY, VRF_SIGNING_KEY, OPERATIONAL_CERTIFICATE)
        )
        found = credential_set(KesAgent() if by_agent else kes, vrf, certificate)
    expected = _expected(config, arguments)
    findings = list(worst_first((*examine(found, expected), *findings, *_permissions(paths))))
    shown = _shown(found, expected, findings, paths)
    print(json.dumps(shown, indent=2) if arguments.json else _table(shown))
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if errors:
        raise Failed(f"a node cannot forge with these: {errors} error{'s' if errors > 1 else ''}", told=True)


def of_sources(config: Config) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The files that the configuration names, examined now; and which of them we may not read at all."""
    paths: dict[str, Path | str] = {
        KES_SIGNING_KEY: config.source_kes_key,
        VRF_SIGNING_KEY: config.source_vrf_key,
        OPERATIONAL_CERTIFICATE: config.source_op_cert,
    }
    agent: KesAgent | None = None
    if config.kes_agent:
        paths[KES_SIGNING_KEY] = "has none, and need not"
        agent = KesAgent(check_socket(config.source_kes_agent_socket).why)
    closed = [path for path in paths.values() if isinstance(path, Path) and _kept_from_us(path)]
    with ExitStack() as secrets:
        kes, vrf, certificate = (_source(paths[kind], secrets) for kind in paths)
        found = credential_set(agent or kes, vrf, certificate)
    expected = Expected(
        network=config.cardano_network,
        wall_s=time.time(),
        calendar=config.calendar,
        pool_id=config.pool_id,
        pool_id_hex=config.pool_id_hex,
    )
    return worst_first((*examine(found, expected), *_permissions(paths))), tuple(map(str, closed))


def _kept_from_us(path: Path) -> bool:
    """Without opening it: it may be anything."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False  # a finding of its own
    return not os.access(path, os.R_OK, effective_ids=True)


# --- the files ---


def _paths(config: Config, arguments: argparse.Namespace) -> tuple[dict[str, Path | str], list[Finding]]:
    """Each kind's file, or why there is none."""
    named = {
        KES_SIGNING_KEY: arguments.kes_key,
        VRF_SIGNING_KEY: arguments.vrf_key,
        OPERATIONAL_CERTIFICATE: arguments.op_cert,
    }
    folder: Path | None = arguments.folder
    if folder is None:
        sources = (config.source_kes_key, config.source_vrf_key, config.source_op_cert)
        return {kind: named[kind] or source for kind, source in zip(named, sources, strict=True)}, []
    if not folder.is_dir():
        raise Misused(f"{folder} is not a folder; give the one with the keys, or --kes-key, --vrf-key and --op-cert")
    kinds = _kinds(folder)
    found: dict[str, Path | str] = {}
    for kind, path in named.items():
        usual = [folder / name for name in _USUAL[kind] if (folder / name).exists()]
        ones = usual[:1] or kinds.get(kind, [])
        if path is not None or len(ones) == 1:
            found[kind] = path or ones[0]
        elif ones:
            names = ", ".join(one.name for one in ones)
            found[kind] = f"has {KINDS[kind]} more than once ({names}): name one with {OPTIONS[kind]}"
        else:
            found[kind] = f"has nothing that is {KINDS[kind]}"
    return found, _cold(kinds)


def _cold(kinds: dict[str, list[Path]]) -> list[Finding]:
    cold = [path.name for kind in COLD_SIGNING_KEYS for path in kinds.get(kind, [])]
    reason = f"the pool's cold signing key lies beside the hot ones ({', '.join(cold)}): who takes it has the pool"
    remedy = "take it off this machine: it is needed offline only, to issue certificates"
    return [Finding(Check.COLD_KEY, Severity.WARNING, reason, remedy)] if cold else []


def cold_keys_beside(config: Config) -> tuple[Finding, ...]:
    """Of the folders in which the source files are, as far as we may look into them."""
    found: list[Finding] = []
    for folder in sorted({path.parent for path in (config.source_kes_key, config.source_vrf_key)}):
        try:
            found += _cold(_kinds(folder))
        except Misused:
            continue  # it is not there, or no folder of keys: findings of their own
    return tuple(found)


def _kinds(folder: Path) -> dict[str, list[Path]]:
    """The folder's text envelopes by their type."""
    found: dict[str, list[Path]] = {}
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise Misused(f"{folder}: {error.strerror}") from None
    if len(entries) > MOST_FILES:
        raise Misused(f"{folder} has {len(entries)} entries: give the folder in which only the keys are")
    for path in entries:
        try:
            with read_secret(path, MOST_BYTES) as secret:
                found.setdefault(envelope(secret.view).kind, []).append(path)
        except (OSError, Unreadable):
            continue  # no key; one with a usual name is judged by that
    return found


def _source(path: Path | str, secrets: ExitStack) -> Source:
    if isinstance(path, str):
        return Source("the folder", None, path)
    try:
        return Source(str(path), secrets.enter_context(read_secret(path, MOST_BYTES)).view)
    except OSError as error:
        return Source(str(path), None, f"cannot be read: {error.strerror}")


def _permissions(paths: dict[str, Path | str]) -> list[Finding]:
    findings = []
    for kind in (KES_SIGNING_KEY, VRF_SIGNING_KEY):
        path = paths[kind]
        try:
            mode = path.stat().st_mode & 0o777 if isinstance(path, Path) else 0
        except OSError:
            continue  # a finding of its own
        if mode & 0o077:
            refuses = "; a node that is given this file refuses it" if kind == VRF_SIGNING_KEY else ""
            reason = f"{path} can be read by others than its owner (mode {mode:04o}){refuses}"
            remedy = f"chmod 0400 {path}; the sidecar installs a copy that only the node can read, whatever this is"
            findings.append(Finding(Check.PERMISSIONS, Severity.WARNING, reason, remedy))
    return findings


# --- what they are held against ---


def _expected(config: Config, arguments: argparse.Namespace) -> Expected:
    pool, digits = config.pool_id, config.pool_id_hex
    if arguments.pool:
        pool, digits = ("", arguments.pool.lower()) if not arguments.pool.startswith("pool1") else (arguments.pool, "")
        if len(pool or digits) != 56:
            raise Misused("--pool must be pool1 and 51 more characters, or 56 hexadecimal digits")
    network, calendar = _network(config, arguments)
    return Expected(
        network=network,
        wall_s=time.time() if arguments.at is None else arguments.at,
        calendar=calendar,
        pool_id=pool,
        pool_id_hex=digits,
        counter_seen=arguments.counter,
    )


def _network(config: Config, arguments: argparse.Namespace) -> tuple[str, Network | None]:
    """Its name, and its calendar if one is known."""
    network = arguments.network or config.cardano_network
    if arguments.genesis is None:
        return network, config.calendar if network == config.cardano_network else NETWORKS.get(network)
    try:
        calendar = read_genesis(arguments.genesis)
    except GenesisError as error:
        raise Misused(f"--genesis {arguments.genesis} {error}") from None
    return arguments.network or name_of(calendar.magic) or "custom", calendar


# --- showing ---


def _shown(
    found: CredentialSet, expected: Expected, findings: list[Finding], paths: dict[str, Path | str]
) -> dict[str, Any]:
    files = {kind: str(path) for kind, path in paths.items() if isinstance(path, Path)}
    shown: dict[str, Any] = {
        "fit": all(finding.severity is not Severity.ERROR for finding in findings),
        "network": expected.network,
        "at": datetime.fromtimestamp(expected.wall_s, UTC).isoformat(timespec="seconds"),
        "files": {
            "kes": files.get(KES_SIGNING_KEY),
            "vrf": files.get(VRF_SIGNING_KEY),
            "certificate": files.get(OPERATIONAL_CERTIFICATE),
        },
        "kes_verification_key": found.kes.verification_key.hex() if isinstance(found.kes, KesKey) else None,
        "vrf_key_hash": None if isinstance(found.vrf, Faulty) else found.vrf.hash_hex,
        "certificate": None,
    }
    if isinstance(certificate := found.certificate, OperationalCertificate):
        until = expires_at(certificate, expected)
        shown["certificate"] = {
            "pool_id": certificate.pool_id,
            "pool_id_hex": certificate.pool_id_hex,
            "counter": certificate.counter,
            "kes_period": certificate.kes_period,
            "periods_left": periods_left(certificate, expected),
            "expires": None if until is None else datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds"),
        }
    shown["findings"] = [dataclasses.asdict(finding) for finding in findings]
    return shown


def _table(shown: dict[str, Any]) -> str:
    files, certificate = shown["files"], shown["certificate"]
    names = {"kes": "KES key", "vrf": "VRF key", "certificate": "certificate"}
    rows = [(name, files[part] or "-") for part, name in names.items()]
    if shown["vrf_key_hash"]:
        rows.append(("VRF key hash", shown["vrf_key_hash"]))
    if certificate:
        rows += [("pool", certificate["pool_id"]), ("counter", str(certificate["counter"]))]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {printable(text)}" for name, text in rows]
    if shown["findings"]:
        table: list[tuple[str, ...]] = [("", "CHECK", "FINDING")]
        table += [(each["severity"], each["check"], each["reason"]) for each in shown["findings"]]
        lines += ["", *columns(table)]
    remedies = [each for each in shown["findings"] if each["remedy"]]
    if remedies:
        lines += ["", "what to do", *(f"  {each['check']}: {printable(each['remedy'])}" for each in remedies)]
    fit = f"a node can forge with these on {shown['network']}"
    if certificate and certificate["expires"]:
        fit += f" until {certificate['expires'][:16].replace('T', ' ')} UTC"
    return "\n".join([*lines, *(["", fit] if shown["fit"] else [])])
