"""What the environment says about the network: proxies, credentials, certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from torchinstall.index.client import NetworkEnv

URL = "https://download.pytorch.org/whl/cu128/torch/"


@pytest.mark.parametrize(
    ("env", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"https_proxy": "p:1"}, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example, .pytorch.org"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "download.pytorch.org:443"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "torch.org,org.example"}, "http://p:1"),
    ],
)
def test_proxies(env: dict[str, str], proxy: str | None) -> None:
    assert NetworkEnv(env).proxy(URL) == proxy


def test_credentials_of_the_url_win_over_uv_over_netrc(tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine download.pytorch.org login n password s3cret\n")
    env = {"HOME": str(tmp_path)}
    assert NetworkEnv(env).credentials(URL) == ("n", "s3cret")
    assert NetworkEnv(env).credentials("https://other.example/") is None
    assert NetworkEnv({"NETRC": str(netrc)}).credentials(URL) == ("n", "s3cret")
    env["UV_INDEX_TORCHINSTALL_CU126_PASSWORD"] = "other"
    assert NetworkEnv(env).credentials(URL) == ("n", "s3cret")
    env["UV_INDEX_TORCHINSTALL_CU128_PASSWORD"] = "token"
    assert NetworkEnv(env).credentials(URL) == ("", "token")
    rocm = {"UV_INDEX_TORCHINSTALL_ROCM6_4_USERNAME": "u"}
    assert NetworkEnv(rocm).credentials(URL.replace("cu128", "rocm6.4")) == ("u", "")
    assert NetworkEnv(env).credentials("https://u%40x:p%2F@h/") == ("u@x", "p/")


def test_a_broken_netrc_is_no_netrc(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine\x00 what\n default")
    assert NetworkEnv({"HOME": str(tmp_path)}).credentials(URL) is None


def test_certificates_are_checked_unless_the_host_is_named() -> None:
    env = NetworkEnv({})
    assert env.context(URL, trusted=False).verify_mode is ssl.CERT_REQUIRED
    assert env.context(URL, trusted=False).check_hostname
    assert env.context(URL, trusted=True).verify_mode is ssl.CERT_NONE
    plain = env.context("http://127.0.0.1/", trusted=False)
    assert plain.verify_mode is ssl.CERT_REQUIRED
    assert plain.get_ca_certs() == []


@pytest.mark.parametrize("said", ["1", "true", "Y"])
def test_the_system_store_is_used_when_asked_for(said: str) -> None:
    system = NetworkEnv({"UV_SYSTEM_CERTS": said}).context(URL, trusted=False)
    assert system.verify_mode is ssl.CERT_REQUIRED
