"""How much of the Kubernetes client is loaded: what is used, and all the rest only for who asks for it.

What is loaded is a matter of a whole process, so each test is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from devkit.api.certificates import write_certificate

LEFT_OUT = (
    "kubernetes.client",
    "kubernetes.dynamic",
    "kubernetes.stream",
    "kubernetes.aio.client.api_client",
    "kubernetes.aio.client.api",
    "kubernetes.aio.client.models",
    "kubernetes.aio.dynamic",
    "kubernetes.aio.stream",
    "oauthlib",
    "pydantic",
    "pydantic_core",
    "requests",
    "urllib3",
    "websocket",
)


def process(code: str, variables: Mapping[str, str] | None = None) -> str:
    """What a Python process that runs `code` prints; any warning in it is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["workers.elector", "workers.arbiter", "kube.session"])
def test_a_worker_loads_neither_the_synchronous_client_nor_models_nor_pydantic(module: str) -> None:
    loaded = json.loads(process(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in loaded if name in LEFT_OUT or name.startswith("kubernetes.aio.client.models.")] == []


def test_a_user_without_a_home_and_without_a_name_can_load_it() -> None:
    nobody = "import os, pwd\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\ndel os.environ['HOME']\n"
    assert process(f"{nobody}import kube.session\nprint('loaded')", {"HOME": "/"}).strip() == "loaded"


def test_what_is_loaded_is_the_library_s_own() -> None:
    told = process(
        "import kube.lean, sys\n"
        "from kubernetes.aio import config\n"
        "from kubernetes.aio.client import Configuration\n"
        "from kubernetes.aio.client.rest import RESTClientObject\n"
        "print(Configuration.__module__, RESTClientObject.__module__, config.load_incluster_config.__module__)"
    )
    assert told.split() == [
        "kubernetes.aio.client.configuration",
        "kubernetes.aio.client.rest",
        "kubernetes.aio.config.incluster_config",
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from kubernetes.aio import client; print(client.CoordinationV1Api.__name__)", "CoordinationV1Api"),
        ("from kubernetes.aio.client import V1Lease; print(V1Lease.__name__)", "V1Lease"),
        ("from kubernetes.aio import client; print(client.ApiClient.__module__)", "kubernetes.aio.client.api_client"),
        ("import kubernetes; print(kubernetes.aio.watch.Watch.__name__)", "Watch"),
        ("import kubernetes; print(kubernetes.client.CoreV1Api.__module__)", "kubernetes.client.api.core_v1_api"),
        ("import kubernetes; print(kubernetes.__version__.split('.')[0])", "37"),
    ],
)
def test_a_name_that_is_not_loaded_is_loaded_when_asked_for(code: str, expected: str) -> None:
    assert process(f"import kube.settings, warnings; warnings.simplefilter('ignore'); {code}").strip() == expected


def test_settings_made_before_the_rest_was_loaded_are_still_the_library_s() -> None:
    told = process(
        "import kube.settings\n"
        "from kubernetes.aio import client\n"
        "before = client.Configuration\n"
        "client.V1Lease\n"
        "print(client.Configuration is before is kube.settings.Configuration)"
    )
    assert told.strip() == "True"


def test_a_name_that_does_not_exist_is_an_ordinary_error() -> None:
    told = process(
        "import kube.settings\n"
        "from kubernetes.aio import client\n"
        "print(hasattr(client, 'NoSuchApi'))\n"
        "try:\n"
        "    from kubernetes.aio.client import NoSuchApi\n"
        "except ImportError as error:\n"
        "    print(error.name, error.msg)\n"
    )
    assert told.startswith("False\nkubernetes.aio.client cannot import name 'NoSuchApi'")


def test_the_library_s_own_way_to_a_client_makes_a_real_one() -> None:
    content = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    told = process(
        "import asyncio, kube.settings\n"
        "from kubernetes.aio.config import new_client_from_config_dict\n"
        "async def main():\n"
        f"    async with await new_client_from_config_dict({content!r}) as client:\n"
        "        print(type(client).__module__, client.configuration.host)\n"
        "asyncio.run(main())"
    )
    assert told.split() == ["kubernetes.aio.client.api_client", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    "other",
    [
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'kubernetes.aio.client' else found(name)",
        "found = importlib.import_module\n"
        "def moved(name, package=None):\n"
        "    if name == 'kubernetes.aio.client.configuration':\n"
        "        raise ImportError('moved')\n"
        "    return found(name, package)\n"
        "importlib.import_module = moved",
    ],
    ids=["no such package", "no such module"],
)
def test_a_library_of_another_layout_is_loaded_as_a_whole_and_that_is_logged_for_debugging(other: str) -> None:
    told = process(
        "import importlib, importlib.util, logging, sys, warnings\n"
        "logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format='%(levelname)s %(name)s %(message)s')\n"
        "warnings.simplefilter('ignore')\n"
        f"{other}\n"
        "import kube.settings\n"
        "print('kubernetes.dynamic' in sys.modules, kube.settings.Configuration.__name__)"
    )
    assert "DEBUG kube.lean the Kubernetes client is not laid out as expected" in told
    assert told.splitlines()[-1] == "True Configuration"


def test_a_library_that_is_loaded_already_is_left_as_it_is() -> None:
    told = process(
        "import warnings; warnings.simplefilter('ignore')\n"
        "import kubernetes.aio\n"
        "before = kubernetes.aio.client\n"
        "import kube.settings, kubernetes\n"
        "print(kubernetes.aio.client is before)"
    )
    assert told.strip() == "True"


@pytest.mark.parametrize("file", [None, "/etc/own-authorities.pem"])
def test_the_variables_of_the_system_s_trust_are_as_before(file: str | None) -> None:
    code = "import os, kube.session; print(os.environ.get('SSL_CERT_FILE'), os.environ.get('SSL_CERT_DIR'))"
    begin = "os.environ.pop('SSL_CERT_FILE', None)" if file is None else f"os.environ['SSL_CERT_FILE'] = {file!r}"
    told = process(f"import os; {begin}; {code}", {"SSL_CERT_DIR": "/etc/own"})
    assert told.split() == [str(file), "/etc/own"]


def test_the_system_s_authorities_are_not_read_into_a_context_that_nobody_uses(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path)
    told = process(
        "import ssl, kube.session, aiohttp.connector\n"
        "print(len(ssl.create_default_context().get_ca_certs()))\n"
        "print(len(aiohttp.connector._SSL_CONTEXT_VERIFIED.get_ca_certs()))",
        {"SSL_CERT_FILE": str(certificate), "SSL_CERT_DIR": os.devnull},
    )
    assert told.split() == ["1", "0"]
