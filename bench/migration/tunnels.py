"""What carries QEMU's own migration from one host to another: nothing, its own TLS, ssh, stunnel.

Each has `open(lab, source, destination)`, hosts by name, which returns a Route: where the destination's QEMU listens,
where the source's connects to, the objects and parameters both need, and what to close afterwards. Tunnels stand
before the clock starts.
"""

import dataclasses
import pathlib
import pwd
import socket
import subprocess

import harness

TLS_PRIORITY = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM"
_TLS_NAME = "host.bench.invalid"
_START_SECONDS = 20


@dataclasses.dataclass
class Route:
    listen: str  # URI for migrate-incoming
    connect: str  # URI for migrate
    objects: dict = dataclasses.field(default_factory=dict)  # by endpoint: object-add arguments
    parameters: dict = dataclasses.field(default_factory=dict)
    processes: list = dataclasses.field(default_factory=list)

    def close(self):
        for process in reversed(self.processes):
            process.stop()


def open_route(transport, lab, source, destination):
    return {"plain": _plain, "tls": _tls, "ssh": _ssh, "stunnel": _stunnel}[transport](lab, source, destination)


def _plain(lab, _source, destination):
    uri = f"tcp:{lab.place(destination).address}:{harness.free_port()}"
    return Route(uri, uri)


# ---- QEMU's own TLS


def _tls(lab, source, destination):
    route = _plain(lab, source, destination)
    credentials = {"qom_type": "tls-creds-x509", "id": "tls", "dir": str(certificates(lab.folder("tls"))),
                   "priority": TLS_PRIORITY, "verify_peer": True}
    route.objects = {"client": {**credentials, "endpoint": "client"}, "server": {**credentials, "endpoint": "server"}}
    route.parameters = {"tls_creds": "tls", "tls_hostname": _TLS_NAME}
    return route


def certificates(folder):
    """Makes, once, a CA and a certificate for each endpoint, named as QEMU wants them."""
    if not (folder / "server-cert.pem").exists():
        _openssl("req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2",
                 "-subj", "/CN=bench CA", "-addext", "keyUsage=critical,keyCertSign",
                 "-keyout", folder / "ca-key.pem", "-out", folder / "ca-cert.pem")
        for endpoint in ("client", "server"):
            _make_certificate(folder, endpoint)
    return folder


def _make_certificate(folder, endpoint):
    request, extensions = folder / f"{endpoint}.csr", folder / f"{endpoint}.ext"
    extensions.write_text(f"subjectAltName=DNS:{_TLS_NAME}\nkeyUsage=critical,digitalSignature\n"
                          f"extendedKeyUsage={endpoint}Auth\nbasicConstraints=critical,CA:FALSE\n")
    _openssl("req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={endpoint}",
             "-keyout", folder / f"{endpoint}-key.pem", "-out", request)
    _openssl("x509", "-req", "-in", request, "-CA", folder / "ca-cert.pem", "-CAkey", folder / "ca-key.pem",
             "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", folder / f"{endpoint}-cert.pem")


def _openssl(*argv):
    subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)


# ---- ssh, as people do it: the migration socket of one host is forwarded to that of the other


def _ssh(lab, source, destination):
    folder = lab.folder("ssh")
    place, port = lab.place(destination), harness.free_port()
    theirs, ours = (lab.fresh_path(name, ".sock") for name in ("ssh-in", "ssh-out"))
    server = lab.start("sshd", place.command(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null",
                                              *_sshd_options(folder, place.address, port)]))
    server.wait_for_output("Server listening", _START_SECONDS)
    client = lab.start("ssh", lab.place(source).command(
        ["ssh", "-F", "none", "-N", "-i", folder / "user", "-c", "aes256-gcm@openssh.com", "-p", port,
         "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "StrictHostKeyChecking=yes",
         "-o", f"HostKeyAlias={_TLS_NAME}", "-o", "BatchMode=yes", "-o", "Compression=no",
         "-o", "ExitOnForwardFailure=yes", "-o", "IdentitiesOnly=yes",
         "-L", f"{ours}:{theirs}", f"{_user()}@{place.address}"]))
    _wait_for(client, lambda: pathlib.Path(ours).exists())
    return Route(f"unix:{theirs}", f"unix:{ours}", processes=[server, client])


def _sshd_options(folder, address, port):
    if not (folder / "known_hosts").exists():
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "known_hosts").write_text(f"{_TLS_NAME} {(folder / 'host.pub').read_text()}")
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation insists
    settings = {"ListenAddress": f"{address}:{port}", "HostKey": folder / "host", "PidFile": "none",
                "AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no", "UsePAM": "no",
                "PermitRootLogin": "prohibit-password", "PasswordAuthentication": "no",
                "AllowStreamLocalForwarding": "yes", "Compression": "no"}
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _user():
    return pwd.getpwuid(0).pw_name


# ---- stunnel, one process on each host, TLS 1.3 with certificates on both sides


def _stunnel(lab, source, destination):
    address = f"{lab.place(destination).address}:{harness.free_port()}"
    entry, exit_ = (f"127.0.0.1:{harness.free_port()}" for _ in range(2))
    server = _start_stunnel(lab, destination, "server", address, exit_)
    client = _start_stunnel(lab, source, "client", entry, address)
    return Route(f"tcp:{exit_}", f"tcp:{entry}", processes=[server, client])


def _start_stunnel(lab, host, endpoint, accept, connect):
    tls = certificates(lab.folder("tls"))
    settings = f"""foreground = yes
pid =
debug = notice
syslog = no
sslVersion = TLSv1.3
ciphersuites = TLS_AES_256_GCM_SHA384
[migration]
client = {"yes" if endpoint == "client" else "no"}
accept = {accept}
connect = {connect}
cert = {tls}/{endpoint}-cert.pem
key = {tls}/{endpoint}-key.pem
CAfile = {tls}/ca-cert.pem
verifyChain = yes
"""
    path = lab.folder("stunnel") / f"{endpoint}-{accept}.conf"
    path.write_text(settings)
    process = lab.start(f"stunnel-{endpoint}", lab.place(host).command(["stunnel4", path]))
    _wait_for(process, lambda: _listens(lab.place(host), accept))
    return process


def _listens(place, accept):
    """Whether somebody listens there, without connecting."""
    address, port = accept.split(":")
    local = int.from_bytes(socket.inet_aton(address), "little")
    table = pathlib.Path(f"/proc/{place.pid}/net/tcp").read_text(encoding="ascii")
    return f" {local:08X}:{int(port):04X} 00000000:0000 0A " in table


def _wait_for(process, condition):
    def ready():
        if not process.is_running():
            raise RuntimeError(f"{process.name} ended:\n{process.output()}")
        return condition()
    harness.wait_for(ready, _START_SECONDS, f"{process.name} to be ready")
