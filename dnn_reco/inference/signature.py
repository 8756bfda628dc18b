"""The signature of a model folder: who exported it (Ed25519, RFC 8032), checked offline.

It signs the manifest, which holds the checksum of each file. Keys are PEM files, as
``openssl genpkey -algorithm ed25519`` makes them. It needs the extra ``sign``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.files import write_atomically
from dnn_reco.foreign_files import MAX_TEXT_SIZE, check_foreign_file, parse_json
from dnn_reco.inference.manifest import MANIFEST_FILE, SIGNATURE_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_FORMAT = "dnn_reco signature 1"
_NEW_KEY = "`openssl genpkey -algorithm ed25519`"


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A private key.

    Raises
    ------
    ConfigError
        If the extra is not installed, or the file is not such a key.
    """
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"'{path}' is not a private key without password ({error}): make one with {_NEW_KEY}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"'{path}' is not an Ed25519 key: make one with {_NEW_KEY}")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A public key.

    Raises
    ------
    ConfigError
        If the extra is not installed, or the file is not such a key.
    """
    _require_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, OSError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"'{path}' is not a public key ({error}): `openssl pkey -in KEY -pubout` writes the "
            "one that belongs to a private key"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"'{path}' is not an Ed25519 key: only these are used")
    return key


def sign_folder(path: Path, key: Ed25519PrivateKey) -> None:
    """Sign the manifest of a model folder."""
    signature = key.sign((path / MANIFEST_FILE).read_bytes())
    public = key.public_key().public_bytes_raw()
    content = {"format": _FORMAT, "public_key": public.hex(), "signature": signature.hex()}
    write_atomically(path / SIGNATURE_FILE, json.dumps(content, indent=1).encode())


def is_signed(path: Path) -> bool:
    """Whether a model folder has a signature, valid or not."""
    return (path / SIGNATURE_FILE).exists()


def check_signature(path: Path, key: Ed25519PublicKey | None = None) -> str:
    """Check that the manifest of a model folder is what was signed; returns the signing key.

    Parameters
    ----------
    path
        The model folder.
    key
        The key that must have signed it. None: the one that the signature names, which shows that
        nothing changed since, but not by whom it was signed.

    Raises
    ------
    ModelError
        If there is no signature, or it is damaged, of another key, or of another manifest.
    """
    _require_library()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    file = path / SIGNATURE_FILE
    if not is_signed(path):
        raise ModelError(f"the model folder '{path}' is not signed")
    check_foreign_file(file, MAX_TEXT_SIZE, folder=path)
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        named = bytes.fromhex(content["public_key"])
        signature = bytes.fromhex(content["signature"])
        public = Ed25519PublicKey.from_public_bytes(named)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{file}' is damaged: {error!r}") from error
    if key is not None and key.public_bytes_raw() != named:
        raise ModelError(
            f"the model folder '{path}' was signed with a different key, {named.hex()}"
        )
    try:
        public.verify(signature, (path / MANIFEST_FILE).read_bytes())
    except InvalidSignature as error:
        raise ModelError(
            f"the signature of '{path}' is stale or forged: '{MANIFEST_FILE}' was changed after "
            "the folder was signed. Sign it again only if you know the reason of the change"
        ) from error
    return named.hex()


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "signatures need the package cryptography: pip install 'dnn_reco[sign]'"
        ) from error
