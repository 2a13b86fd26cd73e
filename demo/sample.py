"""Real input for the demonstration: an application's ``.env`` and a binary keystore, made afresh."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["KEYSTORE_SIZE", "digest_of", "keystore", "variables", "write_env_file"]

KEYSTORE_SIZE: Final = 1024 * 1024
"""Bytes."""


def variables() -> dict[str, str]:
    """Twenty variables of a web shop, with what makes such files hard: see the names that are commented."""
    token = os.urandom(24).hex
    return {
        "SHOP_ENV": "production",
        "SHOP_DEBUG": "false",
        "SHOP_HOST": "0.0.0.0",
        "SHOP_PORT": "8443",
        # special characters in a URL
        "SHOP_DATABASE_URL": "postgresql://shop:p%40ss:w/rd?&#=$'\"@db.internal:5432/shop?sslmode=require",
        "SHOP_DATABASE_POOL_SIZE": "20",
        "SHOP_REDIS_URL": f"redis://:{token()}@cache.internal:6379/0",
        "SHOP_SECRET_KEY": token(),
        "SHOP_SESSION_COOKIE": "__Host-shop",
        "SHOP_JWT_PRIVATE_KEY": _private_key(),  # several lines
        "SHOP_STRIPE_API_KEY": f"sk_live_{token()}",
        "SHOP_STRIPE_WEBHOOK_SECRET": f"whsec_{token()}",
        "SHOP_SMTP_HOST": "smtp.internal",
        "SHOP_SMTP_USER": "shop@example.org",
        "SHOP_SMTP_PASSWORD": "correct horse battery staple",
        "SHOP_SMTP_GREETING": "Grüße aus Zürich, 東京 и Москва ✉",  # not ASCII
        "SHOP_S3_ACCESS_KEY": token()[:20],
        "SHOP_S3_SECRET_KEY": token(),
        "SHOP_SENTRY_DSN": "",  # empty
        "SHOP_FEATURE_FLAGS": '{"checkout": "v2", "search": true, "price": "10 # not a comment"}',
    }


def write_env_file(path: Path, values: dict[str, str]) -> None:
    """Write ``values`` as a ``.env`` file that only its owner can read."""
    lines = ["# configuration of the shop", ""]
    for name, value in values.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'export {name}="{escaped}"' if value else f"{name}=")
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def keystore() -> bytes:
    """A binary keystore; to an agent it is bytes, every one of which may be any."""
    return bytes(range(256)) + os.urandom(KEYSTORE_SIZE - 256)


def digest_of(values: dict[str, str]) -> str:
    """What ``app.py`` prints if it got exactly these values."""
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(f"{name}\0{values[name]}\0".encode())
    return digest.hexdigest()


def _private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()
