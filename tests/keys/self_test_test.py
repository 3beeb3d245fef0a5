#!/usr/bin/python3
"""Each daemon notices at its start that OpenSSL computes something wrong, says what, and does not serve."""

import json
import os
import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(os.environ["SEALIFT_SOURCE"]) / "tests" / "e2e"))
import harness  # noqa: E402

SHIM = pathlib.Path(os.environ["SEALIFT_CORRUPT_LIBCRYPTO"])

# What is damaged, and what is said about it.
DAMAGES = {
    "EVP_Digest": "SHA-512 gave a wrong result",
    "EVP_MAC_final": "HMAC-SHA512 gave a wrong result",
    "EVP_KDF_derive": "HKDF-SHA512 expand gave a wrong result",
    "EVP_PKEY_derive": r"HPKE \(P-521, HKDF-SHA512\) gave a wrong result",
    "EVP_CipherUpdate": r"HPKE \(AES-256-GCM, sealing\) gave a wrong result",
    "EVP_CipherFinal_ex": "HPKE opened a forged message",
}


def damaged(function):
    return {**os.environ, "LD_PRELOAD": str(SHIM), "SEALIFT_TEST_CORRUPT": function}


class SelfTestTest(harness.TestCase):

    def start_daemon(self, name, environment):
        """Starts a daemon that has nothing to serve with; it tests itself before it looks."""
        state = self.dir / "state"
        config = self.dir / "empty.yaml"
        config.write_text("")
        return self.start(name, [harness.binary(name), "run", "--config", config, "--state-dir", state],
                          env=environment)

    def expect_refusal(self, process, complaint):
        self.assertNotIn(process.wait(20), (0, 2))
        self.assertRegex(process.output(), f"self-test: {complaint}")

    def test_the_daemons(self):
        for name in ("sealift-controllerd", "sealift-agentd"):
            for function, complaint in DAMAGES.items():
                with self.subTest(daemon=name, damaged=function):
                    process = self.start_daemon(name, damaged(function))
                    self.expect_refusal(process, complaint)
                    process.log.unlink()

    def test_the_mover_tells_its_agent_instead_of_offering_a_key(self):
        for function, complaint in DAMAGES.items():
            with self.subTest(damaged=function):
                agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with agent, theirs:
                    process = self.start("mover", [harness.binary("sealift-mover"), theirs.fileno()],
                                         pass_fds=[theirs.fileno()], env=damaged(function))
                    theirs.close()
                    agent.settimeout(20)
                    said = json.loads(agent.recv(1 << 16))
                    self.assertEqual(said["type"], "failed")
                    self.assertRegex(said["reason"], complaint)
                    self.expect_refusal(process, complaint)
                    process.log.unlink()

    def test_the_shim_alone_changes_nothing(self):
        for name, complaint in (("sealift-controllerd", "init"), ("sealift-agentd", "has not joined")):
            process = self.start_daemon(name, damaged("nothing"))
            self.assertNotEqual(process.wait(20), 0)
            self.assertNotIn("self-test", process.output())
            self.assertIn(complaint, process.output())


class FipsTest(harness.TestCase):
    """Debian 12 ships no FIPS provider: what can be shown there is the refusal."""

    def setUp(self):
        super().setUp()
        loads = subprocess.run(["openssl", "list", "-providers", "-provider", "fips"], capture_output=True, check=False)
        if loads.returncode == 0:
            self.skipTest("this machine has a FIPS provider")

    def test_no_daemon_starts_without_the_provider(self):
        config = self.dir / "fips.yaml"
        config.write_text("crypto: {fips: true}\n")
        for name in ("sealift-controllerd", "sealift-agentd"):
            with self.subTest(name):
                process = self.start(name, [harness.binary(name), "run", "--config", config,
                                            "--state-dir", self.dir / "state"])
                self.assertNotIn(process.wait(20), (0, 2))
                self.assertRegex(process.output(), "crypto.fips is true.*fipsinstall.*set crypto.fips to false")

    def test_no_mover_starts_without_the_provider(self):
        agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with agent, theirs:
            process = self.start("mover", [harness.binary("sealift-mover"), theirs.fileno(), "openssl", "fips"],
                                 pass_fds=[theirs.fileno()])
            theirs.close()
            agent.settimeout(20)
            said = json.loads(agent.recv(1 << 16))
            self.assertEqual(said["type"], "failed")
            self.assertIn("fipsinstall", said["reason"])
            self.assertNotEqual(process.wait(20), 0)


if __name__ == "__main__":
    harness.main()
