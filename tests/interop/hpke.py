"""HPKE (RFC 9180), base mode, single-shot: DHKEM(P-521, HKDF-SHA512), HKDF-SHA512, AES-256-GCM."""

import hmac
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_KEM = b"KEM" + struct.pack(">H", 0x0012)
_HPKE = b"HPKE" + struct.pack(">HHH", 0x0012, 0x0003, 0x0002)
_CURVE = ec.SECP521R1()


def _extract(suite, salt, label, input_key):
    return hmac.digest(salt, b"HPKE-v1" + suite + label + input_key, "sha512")


def _expand(suite, key, label, info, size):
    labeled = struct.pack(">H", size) + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA512(), size, labeled).derive(key)


def seal(public_key, info, message, aad=b"", ephemeral=None):
    """Encapsulated key and sealed message, joined. `public_key` is an uncompressed point; `ephemeral` a private
    number for a known-answer test."""
    own = ec.derive_private_key(ephemeral, _CURVE) if ephemeral else ec.generate_private_key(_CURVE)
    encapsulated = own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = own.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, public_key))
    shared_secret = _expand(_KEM, _extract(_KEM, b"", b"eae_prk", shared), b"shared_secret",
                            encapsulated + public_key, 64)
    context = (b"\0" + _extract(_HPKE, b"", b"psk_id_hash", b"") + _extract(_HPKE, b"", b"info_hash", info))
    secret = _extract(_HPKE, shared_secret, b"secret", b"")
    key = _expand(_HPKE, secret, b"key", context, 32)
    nonce = _expand(_HPKE, secret, b"base_nonce", context, 12)
    return encapsulated + AESGCM(key).encrypt(nonce, message, aad)
