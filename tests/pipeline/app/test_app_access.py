"""Who may reach the page."""

import pytest

from gridpose.core import MissingError, UsageError
from gridpose.pipeline.app.access import AUTH_VARIABLE, credentials, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_password(host, monkeypatch):
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    assert is_loopback(host)
    assert credentials(None, host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "", "127.0.0.1.x"])
def test_other_machines_need_one(host, monkeypatch):
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="needs `auth`"):
        credentials(None, host)
    assert credentials("anna:a:b", host) == ("anna", "a:b")


def test_it_may_come_from_the_environment_or_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv(AUTH_VARIABLE, "eve:1")
    assert credentials(None, "0.0.0.0") == ("eve", "1")
    assert credentials("anna:2", "127.0.0.1") == ("anna", "2")
    (tmp_path / "password").write_text("otto:3\n")
    assert credentials(f"@{tmp_path / 'password'}", "127.0.0.1") == ("otto", "3")
    with pytest.raises(MissingError, match="cannot be read"):
        credentials(f"@{tmp_path / 'none'}", "127.0.0.1")


@pytest.mark.parametrize("auth", ["anna", ":b", "anna:", ":"])
def test_half_a_pair_is_refused(auth):
    with pytest.raises(UsageError, match="USER:PASSWORD"):
        credentials(auth, "127.0.0.1")


def test_the_command_says_so_before_it_loads_anything(invoke, monkeypatch):
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    done = invoke("app", "--host", "0.0.0.0")
    assert done.exit_code == 2
    assert "--host 0.0.0.0 can be reached by other machines" in done.stderr
    assert "--auth" in done.stderr
    assert invoke("app", "--max-size", "0").exit_code == 2
    assert invoke("app", "--port", "70000").exit_code == 2


def test_without_gradio_the_command_says_how_to_get_it(invoke, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    done = invoke("app")
    assert done.exit_code == 4
    assert done.stderr == "error: gridpose app needs Gradio: pip install 'gridpose[app]'\n"
