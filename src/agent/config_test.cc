#include "agent/config.h"

#include <gtest/gtest.h>

#include <utility>

#include "base/status.h"

namespace sealift::agent {
namespace {

TEST(Config, AnEmptyFileIsTheDefaults) {
  const auto config = ParseConfig("");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->listen, "0.0.0.0:7432");
  EXPECT_EQ(config->crypto, Crypto());
}

TEST(Config, ReadsEveryKindOfKey) {
  const auto config = ParseConfig("listen: 192.0.2.1:1\nmigration_ports: 100-110\ncrypto: off\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "192.0.2.1:1");
  EXPECT_EQ(config->migration_first_port, 100);
  EXPECT_EQ(config->migration_last_port, 110);
  EXPECT_EQ(config->crypto, Crypto{.off = true});
}

TEST(Config, ReadsWhereMoversRun) {
  const auto config = ParseConfig("mover_nice: 10\nmover_cpus: 0-2,8\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->mover_scheduling, (Scheduling{10, {0, 1, 2, 8}}));
  for (const char* nice : {"-1", "20", "x", "''"}) {
    EXPECT_FALSE(ParseConfig(std::string("mover_nice: ") + nice).ok()) << nice;
  }
  for (const char* cpus : {"x", "3-1", "1-", "-1", "0,,1", "0-1-2", "1024", "''"}) {
    EXPECT_FALSE(ParseConfig(std::string("mover_cpus: ") + cpus).ok()) << cpus;
  }
}

TEST(Config, ReadsHowLongAMigrationWaitsForAConnection) {
  EXPECT_EQ(ParseConfig("").value().reconnect_seconds, 30);
  EXPECT_EQ(ParseConfig("reconnect_seconds: 3600\n").value().reconnect_seconds, 3600);
  for (const char* seconds : {"0", "3601", "-1", "1.5", "30s", "''"}) {
    EXPECT_FALSE(ParseConfig(std::string("reconnect_seconds: ") + seconds).ok()) << seconds;
  }
}

TEST(Config, ReadsOneMigrationAddressOrSeveral) {
  using Addresses = std::vector<std::string>;
  const auto read = [](const std::string& yaml) {
    return ParseConfig(yaml).value().migration_addresses;
  };
  EXPECT_EQ(read(""), Addresses());
  EXPECT_EQ(read("migration_addresses: [192.0.2.1, 198.51.100.1]"),
            Addresses({"192.0.2.1", "198.51.100.1"}));
  EXPECT_EQ(read("migration_addresses: 192.0.2.1"), Addresses({"192.0.2.1"}));
  EXPECT_EQ(read("migration_address: 192.0.2.1"), Addresses({"192.0.2.1"}));
  for (const char* wrong :
       {"[a, a]", "[a, '']", "[[a]]", "{a: b}", "[1, 2, 3, 4, 5, 6, 7, 8, 9]"}) {
    EXPECT_FALSE(ParseConfig(std::string("migration_addresses: ") + wrong).ok()) << wrong;
  }
}

TEST(Config, RefusalsNameLineAndKey) {
  const auto message = [](const std::string& yaml) {
    return base::MessageOf(ParseConfig(yaml).status());
  };
  EXPECT_EQ(message("listen: a\nlistn: b\n"), "line 2: unknown key 'listn'");
  EXPECT_EQ(message("crypto: maybe\n"),
            "line 1: crypto: 'maybe' is neither auto nor off nor a map of backend and fips");
  EXPECT_EQ(message("listen: [a, b]\n"), "line 1: listen: must be one value");
  for (const char* ports : {"0-5", "9-5", "x", "5-", "70000"}) {
    EXPECT_NE(message(std::string("migration_ports: ") + ports).find("range of ports"),
              std::string::npos)
        << ports;
  }
  EXPECT_FALSE(ParseConfig("- a\n").ok());
  EXPECT_FALSE(ParseConfig("a: [\n").ok());
}

// ---- crypto

using record::AeadBackend;

Crypto CryptoOf(const std::string& yaml) {
  const auto config = ParseConfig(yaml);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->crypto : Crypto{.off = true};
}

TEST(CryptoConfig, ReadsBothForms) {
  constexpr auto kDefault = keys::Provider::kDefault;
  constexpr auto kFips = keys::Provider::kFips;
  EXPECT_EQ(CryptoOf("crypto: auto"), Crypto());
  EXPECT_EQ(CryptoOf("crypto: {}"), Crypto());
  EXPECT_EQ(CryptoOf("crypto: {backend: auto, fips: false}"), Crypto());
  EXPECT_EQ(CryptoOf("crypto:\n  backend: openssl\n"),
            (Crypto{false, AeadBackend::kOpenssl, kDefault}));
  EXPECT_EQ(CryptoOf("crypto: {backend: ipsec-mb}"),
            (Crypto{false, AeadBackend::kIpsecMb, kDefault}));
  EXPECT_EQ(CryptoOf("crypto: {fips: true}"), (Crypto{false, AeadBackend::kOpenssl, kFips}));
  EXPECT_EQ(CryptoOf("crypto: {fips: true, backend: auto}"),
            (Crypto{false, AeadBackend::kOpenssl, kFips}));
  EXPECT_EQ(CryptoOf("crypto: {backend: openssl, fips: true}"),
            (Crypto{false, AeadBackend::kOpenssl, kFips}));
}

TEST(CryptoConfig, FipsLeavesNoOtherBackend) {
  for (const char* yaml :
       {"crypto: {backend: ipsec-mb, fips: true}", "crypto: {fips: true, backend: ipsec-mb}"}) {
    EXPECT_EQ(base::MessageOf(ParseConfig(yaml).status()),
              "line 1: crypto: backend ipsec-mb has no FIPS provider: with fips: true use openssl "
              "or auto");
  }
}

TEST(CryptoConfig, RefusesEverythingElse) {
  const std::pair<const char*, const char*> lies[] = {
      {"crypto: []", "line 1: crypto: must be one value"},
      {"crypto:", "line 1: crypto: must be one value"},
      {"crypto: ''", "line 1: crypto: '' is neither auto nor off"},
      {"crypto: openssl", "line 1: crypto: 'openssl' is neither auto nor off"},
      {"crypto: {backend: off}", "line 1: crypto.backend: 'off' is neither"},
      {"crypto: {backend: OpenSSL}", "line 1: crypto.backend: 'OpenSSL' is neither"},
      {"crypto: {backend: [openssl]}", "line 1: crypto.backend: must be one value"},
      {"crypto:\n  backend:\n", "line 2: crypto.backend: must be one value"},
      {"crypto: {fips: yes}", "line 1: crypto.fips: 'yes' is neither true nor false"},
      {"crypto: {fips: True}", "line 1: crypto.fips: 'True' is neither true nor false"},
      {"crypto: {fips: {a: b}}", "line 1: crypto.fips: must be one value"},
      {"crypto:\n  fips: true\n  fips: false\n", "line 3: crypto.fips: given twice"},
      {"crypto:\n  backnd: auto\n", "line 2: crypto: unknown key 'backnd'"},
      {"crypto: {provider: fips}", "line 1: crypto: unknown key 'provider'"},
  };
  for (const auto& [yaml, refusal] : lies) {
    EXPECT_TRUE(base::MessageOf(ParseConfig(yaml).status()).starts_with(refusal))
        << yaml << ": " << ParseConfig(yaml).status();
  }
}

}  // namespace
}  // namespace sealift::agent
