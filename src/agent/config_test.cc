#include "agent/config.h"

#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::agent {
namespace {

TEST(Config, AnEmptyFileIsTheDefaults) {
  const auto config = ParseConfig("");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->listen, "0.0.0.0:7432");
  EXPECT_EQ(config->crypto, Crypto::kAuto);
}

TEST(Config, ReadsEveryKindOfKey) {
  const auto config = ParseConfig("listen: 192.0.2.1:1\nmigration_ports: 100-110\ncrypto: off\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "192.0.2.1:1");
  EXPECT_EQ(config->migration_first_port, 100);
  EXPECT_EQ(config->migration_last_port, 110);
  EXPECT_EQ(config->crypto, Crypto::kOff);
}

TEST(Config, RefusalsNameLineAndKey) {
  const auto message = [](const std::string& yaml) {
    return base::MessageOf(ParseConfig(yaml).status());
  };
  EXPECT_EQ(message("listen: a\nlistn: b\n"), "line 2: unknown key 'listn'");
  EXPECT_EQ(message("crypto: maybe\n"), "line 1: crypto: 'maybe' is neither auto nor off");
  EXPECT_EQ(message("listen: [a, b]\n"), "line 1: listen: must be one value");
  for (const char* ports : {"0-5", "9-5", "x", "5-", "70000"}) {
    EXPECT_NE(message(std::string("migration_ports: ") + ports).find("range of ports"),
              std::string::npos)
        << ports;
  }
  EXPECT_FALSE(ParseConfig("- a\n").ok());
  EXPECT_FALSE(ParseConfig("a: [\n").ok());
}

}  // namespace
}  // namespace sealift::agent
