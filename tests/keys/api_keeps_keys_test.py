#!/usr/bin/python3
"""No call, field, option or setting could give a key away: everything that might is listed here with its reason."""

import os
import pathlib
import re
import unittest

SOURCE = pathlib.Path(os.environ["SEALIFT_SOURCE"])
SUSPICIOUS = re.compile(r"key|secret|nonce|seed|token|private|password|dump|debug(?!.*log)|inspect", re.IGNORECASE)

# Every field of bytes, and every field whose name sounds like a secret.
FIELDS = {
    # agent.proto
    "AgentConsoleInput.data": "what an operator types into a guest's serial console",
    "AgentConsoleOutput.data": "what a guest prints on its serial console",
    "AgentMigration.id": "16 random bytes that name a migration; public",
    "AgentMigrationRequest.id": "the same",
    "ForgetMigrationRequest.id": "the same",
    "MigrationSpec.id": "the same",
    "StartAgentMigrationRequest.id": "the same",
    "TellDecisionRequest.id": "the same",
    "PrepareDestinationResponse.mover_public_key": "the public half of a mover's ephemeral key pair",
    "PrepareSourceResponse.mover_public_key": "the same",
    "StartAgentMigrationRequest.sealed_key":
        "to an agent only, and only what HPKE made of the migration key for its mover: no agent can open it",
    # controller.proto
    "AddHostRequest.token_lifetime_s": "a number of seconds",
    "AddHostRequest.renew_token": "whether to make a new join token",
    "AddHostResponse.token": "a one-time join token, for the operator who adds a host; it opens no migration",
    "AddHostResponse.token_expires_ms": "a time",
    "ConsoleInput.data": "what an operator types into a guest's serial console",
    "ConsoleOutput.data": "what a guest prints on its serial console",
    # enrolment.proto
    "EnrolRequest.token_secret": "the join token, from the host that redeems it",
    # types.proto
    "HostCapabilities.secret_memory": "the kind of memory, memfd_secret or mlock",
}

# Every flag of a program whose name sounds like a secret.
OPTIONS = {
    ("src/agent/options.cc", "--token"): "the join token that a host redeems: goes in, and is of no use afterwards",
    ("src/controller/command_line.cc", "--without-ca-key"):
        "leaves the private key of the CA out of a backup; it opens no migration",
}

# Every key of a configuration file, VM definition or context file of that kind.
SETTINGS = {}

MESSAGE = re.compile(r"\bmessage\s+(\w+)\s*\{([^{}]*)\}")
FIELD = re.compile(r"(?:repeated\s+|optional\s+)?([\w.]+|map<[^>]*>)\s+(\w+)\s*=\s*\d+\s*;")


def fields_of(text):
    """{"Message.field": type} of a .proto file."""
    text = re.sub(r"//.*", "", text)
    return {f"{message}.{name}": kind for message, body in MESSAGE.findall(text) for kind, name in FIELD.findall(body)}


def is_suspicious(field, kind):
    return "bytes" in kind or SUSPICIOUS.search(field.split(".")[1]) is not None


class ApiTest(unittest.TestCase):

    def all_fields(self):
        return {field: kind for path in (SOURCE / "api/sealift/v1").glob("*.proto")
                for field, kind in fields_of(path.read_text()).items()}

    def test_the_parser_sees_every_field(self):
        for path in (SOURCE / "api/sealift/v1").glob("*.proto"):
            text = re.sub(r"//.*", "", path.read_text())
            enums = "".join(re.findall(r"\benum\s+\w+\s*\{[^}]*\}", text))
            numbered = len(re.findall(r"=\s*\d+\s*;", text)) - len(re.findall(r"=\s*\d+\s*;", enums))
            self.assertEqual(len(fields_of(path.read_text())), numbered, path.name)

    def test_every_field_that_could_carry_a_key_is_known(self):
        suspicious = {field for field, kind in self.all_fields().items() if is_suspicious(field, kind)}
        self.assertEqual(suspicious, set(FIELDS))

    def test_nothing_of_a_key_goes_to_an_operator(self):
        operators = fields_of((SOURCE / "api/sealift/v1/controller.proto").read_text())
        self.assertEqual([field for field in operators if "key" in field.lower()], [])

    def test_a_new_field_would_be_noticed(self):
        added = fields_of("message Migration {\n  string id = 1;  // key\n  string session_key = 2; bytes x = 3;\n}")
        self.assertEqual([field for field, kind in added.items() if is_suspicious(field, kind)],
                         ["Migration.session_key", "Migration.x"])


class OptionsTest(unittest.TestCase):

    def test_every_flag_that_could_mean_a_key_is_known(self):
        found = set()
        for path in (SOURCE / "src").rglob("*.cc"):
            for words in re.findall(r"add_(?:option|flag)\w*\(\s*\"([^\"]*)\"", path.read_text()):
                found |= {(str(path.relative_to(SOURCE)), word) for word in words.split(",")
                          if SUSPICIOUS.search(word.replace("--log-level", ""))}
        self.assertEqual(found, set(OPTIONS))

    def test_no_documented_flag_of_the_command_line_is_about_keys(self):
        page = (SOURCE / "docs/command_line.md").read_text()
        flags = set(re.findall(r"--[a-z][a-z-]*", page))
        self.assertGreater(len(flags), 10)
        self.assertEqual({flag for flag in flags if SUSPICIOUS.search(flag)}, {"--token-lifetime", "--renew-token"})

    def test_every_setting_that_could_mean_a_key_is_known(self):
        found = set()
        for name in ("src/agent/config.cc", "src/controller/settings.cc"):
            keys = re.findall(r"\{\"(\w+)\", (?:Text|Set|&Settings)|Key\{\"(\w+)\"", (SOURCE / name).read_text())
            self.assertTrue(keys, name)
            found |= {key for pair in keys for key in pair if key and SUSPICIOUS.search(key)}
        self.assertEqual(found, set(SETTINGS))

    def test_no_program_reads_its_environment_for_keys(self):
        for path in (SOURCE / "src").rglob("*.cc"):
            if path.name.endswith("_test.cc") or path.name.startswith("test"):
                continue
            for variable in re.findall(r"getenv\(\s*\"([^\"]*)\"", path.read_text()):
                self.assertIsNone(SUSPICIOUS.search(variable), f"{path}: {variable}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
