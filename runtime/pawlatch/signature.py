"""Who made a bundle: an OpenSSH signature over its card, which names all else by hash.

`ssh-keygen -Y` does it (OpenSSH 8.2 and later, on every Raspberry Pi OS since 11): no dependency, and keys that people have. It
tells who, not when: a bundle that was signed once is good for ever, an old one too.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from pawlatch.card import CARD_NAME, read_bundle
from pawlatch.errors import UpdateError
from pawlatch.files import write_atomic

SIGNATURE_NAME = f"{CARD_NAME}.sig"
LONGEST = 1 << 16  # bytes of a signature
_NAMESPACE = "pawlatch-model"  # so that a signature of a mail or a commit is none of a model
_WHO = "publisher"
_KEY = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[\w@.-]+ [A-Za-z0-9+/=]+(?: .*)?")
_PATIENCE_S = 60.0


def sign(folder: Path, key: Path) -> Path:
    """Sign the card of a bundle with a private key (or a public one whose other half ssh-agent holds); the signature's path.

    Raises:
        ModelCardError: no bundle.
        UpdateError: the key cannot sign.
    """
    bundle, _ = read_bundle(folder)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", _NAMESPACE]
    done = _run(command, (bundle / CARD_NAME).read_bytes())
    if done.returncode or not done.stdout:
        raise UpdateError(f"{key} cannot sign: {_said(done)}; make a key with ssh-keygen -t ed25519")
    write_atomic(bundle / SIGNATURE_NAME, done.stdout)
    return bundle / SIGNATURE_NAME


def require_signature(card: bytes, signature: bytes, key: Path) -> None:
    """Refuse a card that none of the public keys in the file `key` (a line each, as in `id_ed25519.pub`) has signed.

    Raises:
        UpdateError: no such keys, or no signature of theirs.
    """
    signers = "".join(f'{_WHO} namespaces="{_NAMESPACE}" {line}\n' for line in public_keys(key))
    with TemporaryDirectory(prefix="pawlatch-") as folder:
        allowed, signed = Path(folder, "allowed_signers"), Path(folder, SIGNATURE_NAME)
        allowed.write_text(signers, encoding="utf-8")
        signed.write_bytes(signature)
        done = _run(["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", _WHO, "-n", _NAMESPACE, "-s", str(signed)], card)
    if done.returncode:
        raise UpdateError(f"the card is not signed by {key} ({_said(done)}); it is not used")


def public_keys(path: Path) -> list[str]:
    """The public keys in a file, a line each.

    Raises:
        UpdateError: it cannot be read, or holds anything else.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UpdateError(f"cannot read the public key {path}: {error}") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or not all(map(_KEY.fullmatch, keys)):
        raise UpdateError(f"{path} must hold public keys alone, a line each as in id_ed25519.pub")
    return keys


def _run(command: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=_PATIENCE_S, check=False)
    except FileNotFoundError as error:
        raise UpdateError("signatures need ssh-keygen, which is not there; type: sudo apt install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise UpdateError(f"ssh-keygen did not answer within {_PATIENCE_S:.0f} s") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"status {done.returncode}"
