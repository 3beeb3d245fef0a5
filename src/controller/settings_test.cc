#include "controller/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::controller {
namespace {

using ::testing::HasSubstr;

TEST(SettingsTest, ReadsEveryKey) {
  Settings settings;
  ASSERT_TRUE(ApplySettingsYaml("c.yaml",
                                "state_dir: /s\nlisten: 127.0.0.1:1\nenrolment_listen: '[::1]:2'\n"
                                "log_level: debug\ncrypto: {fips: true}\n"
                                "fence: {command: [/bin/fence, --off], timeout_seconds: 7}\n"
                                "limits: {migrations: 9, migrations_per_host: 3}\n",
                                settings)
                  .ok());
  EXPECT_EQ(settings, (Settings{"/s",
                                "127.0.0.1:1",
                                "[::1]:2",
                                "debug",
                                keys::Provider::kFips,
                                {{"/bin/fence", "--off"}, std::chrono::seconds(7)},
                                {.total = 9, .per_host = 3}}));
}

TEST(SettingsTest, KeepsDefaultsForWhatIsNotSaid) {
  Settings settings;
  ASSERT_TRUE(ApplySettingsYaml("c.yaml", "# nothing\n", settings).ok());
  EXPECT_EQ(settings, Settings());
}

struct Bad {
  std::string yaml;
  std::string says;
};
class BadSettingsTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadSettingsTest, NamesFileAndLine) {
  Settings settings;
  const absl::Status status = ApplySettingsYaml("c.yaml", GetParam().yaml, settings);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("c.yaml: " + GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Every, BadSettingsTest,
    ::testing::Values(
        Bad{"log_level: info\nlissen: x\n", "line 2: unknown key 'lissen'"},
        Bad{"listen: [a, b]\n", "line 1: listen"}, Bad{"listen:\n", "line 1: listen"},
        Bad{"crypto: on\n", "line 1: crypto: must be a map"},
        Bad{"crypto: {backend: openssl}\n", "line 1: unknown key 'crypto.backend'"},
        Bad{"crypto:\n  fips: 1\n", "line 2: crypto.fips: is neither"},
        Bad{"crypto: {fips: [true]}\n", "line 1: crypto.fips: is neither"},
        Bad{"fence: /bin/fence\n", "line 1: fence: must be a map"},
        Bad{"fence: {program: x}\n", "line 1: unknown key 'fence.program'"},
        Bad{"fence: {command: []}\n", "line 1: fence.command: must be a list"},
        Bad{"fence: {command: [fence]}\n", "line 1: fence.command: must be a list"},
        Bad{"fence: {command: [[a], b]}\n", "line 1: fence.command: must be a list"},
        Bad{"fence:\n  timeout_seconds: 0\n", "line 2: fence.timeout_seconds: must be"},
        Bad{"fence:\n  timeout_seconds: x\n", "line 2: fence.timeout_seconds: must be"},
        Bad{"limits: 4\n", "line 1: limits: must be a map"},
        Bad{"limits: {hosts: 1}\n", "line 1: unknown key 'limits.hosts'"},
        Bad{"limits: {migrations: 0}\n", "line 1: limits.migrations: must be 1 to"},
        Bad{"limits: {migrations: -1}\n", "line 1: limits.migrations: must be 1 to"},
        Bad{"- listen\n", "line 1"}, Bad{"a: b\n\"x", "line"}));

TEST(SettingsTest, ListensAtAnyFreePortWhenTold) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:0", 7430)->ToString(), "127.0.0.1:0");
  EXPECT_EQ(ParseListenAddress("[::1]:0", 7430)->ToString(), "[::1]:0");
  EXPECT_EQ(ParseListenAddress("127.0.0.1", 7430)->ToString(), "127.0.0.1:7430");
  EXPECT_EQ(ParseListenAddress("127.0.0.1:10", 7430)->ToString(), "127.0.0.1:10");
  EXPECT_FALSE(ParseListenAddress("127.0.0.1:x", 7430).ok());
}

TEST(SettingsTest, OnlyAnOptionalFileMayBeMissing) {
  Settings settings;
  EXPECT_TRUE(ApplySettingsFile("/nonexistent/c.yaml", Presence::kOptional, settings).ok());
  EXPECT_EQ(ApplySettingsFile("/nonexistent/c.yaml", Presence::kRequired, settings).code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace sealift::controller
