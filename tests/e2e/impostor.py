"""Somebody who should not be served, with certificates of any kind and messages of any kind."""

import datetime
import socket

import harness
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Codes of gRPC.
OK, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = 0, 3, 5, 6, 7
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 9, 10, 12, 13, 14

DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority: that of an installation, whose key the test has, or one that calls itself the same."""

    def __init__(self, certificate, key):
        self._certificate = certificate
        self._key = key

    @classmethod
    def load(cls, folder):
        """That of the controller whose state is in a folder."""
        return cls(x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()),
                   serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None))

    def lookalike(self, trust_domain=None):
        """One with another key and, unless told otherwise, the same names."""
        key = ec.generate_private_key(ec.SECP384R1())
        name = x509.UniformResourceIdentifier(f"spiffe://{trust_domain or self.trust_domain}")
        certificate = (_builder(self._certificate.subject, self._certificate.subject, key.public_key(), DAY)
                       .add_extension(x509.BasicConstraints(True, 0), True)
                       .add_extension(x509.SubjectAlternativeName([name]), False)
                       .sign(key, hashes.SHA384()))
        return Authority(certificate, key)

    @property
    def trust_domain(self):
        names = self._certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0].removeprefix("spiffe://")

    def identity(self, path, trust_domain=None):
        return f"spiffe://{trust_domain or self.trust_domain}/{path}"

    def issue(self, file, *uris, lifetime=DAY):
        """Writes a new key, and a certificate for it that names `uris`, to a file, which is returned. A negative lifetime
        ended that long ago."""
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "impostor")])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        certificate = (_builder(subject, self._certificate.subject, key.public_key(), lifetime)
                       .add_extension(x509.BasicConstraints(False, None), True)
                       .add_extension(x509.ExtendedKeyUsage(usages), False)
                       .add_extension(x509.SubjectAlternativeName(
                           [x509.UniformResourceIdentifier(uri) for uri in uris]), False)
                       .sign(self._key, hashes.SHA384()))
        pem = serialization.Encoding.PEM
        file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) +
                         certificate.public_bytes(pem) + self._certificate.public_bytes(pem))
        return file


def _builder(subject, issuer, public_key, lifetime):
    now = datetime.datetime.utcnow()
    begin = now - DAY if lifetime > datetime.timedelta(0) else now + 10 * lifetime
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
            .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(now + lifetime))


class Caller:
    """Makes calls of one identity (None: without a certificate) at a server, as raw-caller does."""

    def __init__(self, stage, place, address, server, ca, identity=None):
        ours, theirs = socket.socketpair()
        argv = [harness.binary("raw-caller"), address, server, ca] + ([identity] if identity else [])
        with theirs:
            self._process = stage.start_piped("caller", place.command(argv), theirs)
        self._lines = ours.makefile("rw")
        ours.close()

    def call(self, method, message=b""):
        """The code, the response and the text that a call comes to."""
        self._lines.write(f"{method} {message.hex() or '-'}\n")
        self._lines.flush()
        code, response, text = self._lines.readline().rstrip("\n").split(" ", 2)
        return int(code), bytes.fromhex("" if response == "-" else response), text

    def close(self):
        self._lines.close()
        self._process.kill()


def message(**fields):
    """The bytes of a protobuf message: `_3="x"` is its field 3. Values are bytes, text, numbers and lists of them."""
    parts = []
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            number = int(name.removeprefix("_"))
            if isinstance(item, int):
                parts.append(_varint(number << 3) + _varint(item))
            else:
                data = item.encode() if isinstance(item, str) else item
                parts.append(_varint(number << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def fields_of(data):
    """{field number: its last value} of a protobuf message of numbers, texts and bytes."""
    found, at = {}, 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        found[key >> 3] = value
    return found


def _varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def _read_varint(data, at):
    value = shift = 0
    while data[at] & 128:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1
