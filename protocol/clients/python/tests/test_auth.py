"""Logins: the proof of ``vectors.json``, tokens with typing errors, and what a login is bound to."""

import hashlib
import json
from pathlib import Path

import pytest

from queued import _auth, _common, _frame, _postcard

VECTORS = {frame["name"]: frame for frame in json.loads((Path(__file__).parents[3] / "vectors.json").read_text())["frames"]}
TOKEN = _auth.Token(b"0123456789", bytes([7] * 32))


def frame(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name]["bytes"])


def message(name: str) -> object:
    return _postcard.decode(_common.HelloMessage, _frame.unpack(frame(name)).check().header)


def test_a_login_proves_what_the_vectors_say() -> None:
    over = _auth.transcript(frame("hello/hello/client_login"), frame("hello/accepted"), _auth.PLAIN_CHANNEL)
    login, shown = message("hello/login/secret_07"), message("hello/logged_in/secret_07")
    assert login == _common.LoginProof(_common.Proven(TOKEN.prove(over), _auth.PLAIN_CHANNEL))
    assert isinstance(shown, _common.LoggedIn)
    assert TOKEN.knows(over, shown.value)
    other = _auth.transcript(frame("hello/hello/client_login"), frame("hello/accepted"), bytes([1] * 32))
    assert not TOKEN.knows(other, shown.value) and TOKEN.prove(other) != TOKEN.prove(over)


def test_a_cluster_keeps_what_the_vectors_say() -> None:
    stored, server = TOKEN.verifier()
    added = frame("request/change_auth/add_key")
    assert stored in added and server in added and TOKEN.secret not in added
    assert hashlib.sha256(stored).digest() not in added


def test_typing_errors_are_found(tmp_path: Path) -> None:
    text = "qk1_gaytemzugu3doobza4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4d634q"
    assert _auth.Token.parse(text) == TOKEN
    with pytest.raises(ValueError):
        _auth.Token.parse(text[:-1])
    for bad in ["", "qk1_", "qk2_" + "a" * 71, "qk1_" + "a" * 70 + "1"]:
        with pytest.raises(ValueError):
            _auth.Token.parse(bad)
    file = tmp_path / "token"
    file.write_text("nonsense\n")
    with pytest.raises(ValueError):
        _auth.Token.of(file)
    assert "7" not in repr(TOKEN)
