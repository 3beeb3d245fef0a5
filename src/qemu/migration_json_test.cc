#include "qemu/migration_json.h"

#include <gtest/gtest.h>

namespace sealift::qemu {
namespace {

using hypervisor::MigrationState;
using hypervisor::RunState;

TEST(MigrationJson, KnowsEveryStateOfAPreCopy) {
  EXPECT_EQ(ParseMigrationState("none"), MigrationState::kNone);
  EXPECT_EQ(ParseMigrationState("setup"), MigrationState::kSetup);
  EXPECT_EQ(ParseMigrationState("active"), MigrationState::kActive);
  EXPECT_EQ(ParseMigrationState("pre-switchover"), MigrationState::kPreSwitchover);
  EXPECT_EQ(ParseMigrationState("device"), MigrationState::kDevice);
  EXPECT_EQ(ParseMigrationState("completed"), MigrationState::kCompleted);
  EXPECT_EQ(ParseMigrationState("failed"), MigrationState::kFailed);
  EXPECT_EQ(ParseMigrationState("cancelling"), MigrationState::kCancelling);
  EXPECT_EQ(ParseMigrationState("cancelled"), MigrationState::kCancelled);
}

TEST(MigrationJson, TakesAnUnknownStateForUnfinished) {
  EXPECT_EQ(ParseMigrationState("postcopy-active"), MigrationState::kActive);
  EXPECT_EQ(ParseMigrationState(""), MigrationState::kActive);
}

TEST(MigrationJson, MapsRunStates) {
  const auto map = [](const char* word) { return ParseRunState(word, MigrationState::kNone); };
  EXPECT_EQ(map("running"), RunState::kRunning);
  EXPECT_EQ(map("prelaunch"), RunState::kPaused);
  EXPECT_EQ(map("paused"), RunState::kPaused);
  EXPECT_EQ(map("io-error"), RunState::kIoError);
  EXPECT_EQ(map("inmigrate"), RunState::kIncoming);
  EXPECT_EQ(map("finish-migrate"), RunState::kSwitching);
  EXPECT_EQ(map("shutdown"), RunState::kShutdown);
  EXPECT_EQ(map("guest-panicked"), RunState::kCrashed);
  EXPECT_EQ(map("internal-error"), RunState::kCrashed);
}

TEST(MigrationJson, PostmigrateIsFinalOnlyAfterACompletedMigration) {
  EXPECT_EQ(ParseRunState("postmigrate", MigrationState::kCompleted), RunState::kMigrated);
  EXPECT_EQ(ParseRunState("finish-migrate", MigrationState::kCompleted), RunState::kMigrated);
  EXPECT_EQ(ParseRunState("postmigrate", MigrationState::kCancelled), RunState::kPaused);
  EXPECT_EQ(ParseRunState("postmigrate", MigrationState::kFailed), RunState::kPaused);
}

TEST(MigrationJson, ReadsProgress) {
  const auto progress = ParseProgress(nlohmann::json::parse(R"({
    "status": "active", "ram": {"total": 100, "transferred": 60, "remaining": 40,
    "dirty-pages-rate": 3, "page-size": 4096, "dirty-sync-count": 2, "mbps": 12.5}})"));
  ASSERT_TRUE(progress.ok());
  EXPECT_EQ(progress->state, MigrationState::kActive);
  EXPECT_EQ(progress->ram_total_bytes, 100U);
  EXPECT_EQ(progress->ram_transferred_bytes, 60U);
  EXPECT_EQ(progress->ram_remaining_bytes, 40U);
  EXPECT_EQ(progress->dirty_bytes_per_second, 3U * 4096U);
  EXPECT_EQ(progress->iterations, 2U);
}

TEST(MigrationJson, ReadsAFailureAndAnEmptyReply) {
  const auto failed = ParseProgress({{"status", "failed"}, {"error-desc", "no route"}});
  ASSERT_TRUE(failed.ok());
  EXPECT_EQ(failed->state, MigrationState::kFailed);
  EXPECT_EQ(failed->error, "no route");
  EXPECT_EQ(ParseProgress(nlohmann::json::object())->state, MigrationState::kNone);
}

TEST(MigrationJson, RefusesAReplyOfTheWrongShape) {
  EXPECT_FALSE(ParseProgress(nlohmann::json::array()).ok());
  EXPECT_FALSE(ParseProgress({{"status", 7}}).ok());
  EXPECT_FALSE(ParseProgress({{"status", "active"}, {"ram", 7}}).ok());
  EXPECT_FALSE(ParseProgress({{"status", "active"}, {"ram", {{"total", "x"}}}}).ok());
  EXPECT_FALSE(ParseProgress({{"status", "active"}, {"ram", {{"total", 4e34}}}}).ok());
  EXPECT_FALSE(ParseProgress({{"status", "active"}, {"ram", {{"total", -1}}}}).ok());
}

TEST(MigrationJson, SetsTheSafeCapabilities) {
  const auto state_of = [](unsigned channels, const std::string& name) {
    const auto arguments = MigrationCapabilities({.multifd_channels = channels}, true);
    for (const auto& capability : arguments.at("capabilities")) {
      if (capability.at("capability") == name) return capability.at("state").get<bool>();
    }
    return false;
  };
  for (const char* name : {"events", "return-path", "pause-before-switchover",
                           "late-block-activate", "validate-uuid", "multifd"}) {
    EXPECT_TRUE(state_of(2, name)) << name;
  }
  EXPECT_FALSE(state_of(0, "multifd"));
  EXPECT_TRUE(state_of(0, "return-path"));
  EXPECT_FALSE(state_of(0, "auto-converge"));
}

TEST(MigrationJson, SetsWhatAnEarlierMigrationMayHaveLeftOn) {
  const auto text = [](bool on, bool known) {
    return MigrationCapabilities({.ignore_shared = on, .auto_converge = on}, known).dump();
  };
  EXPECT_NE(text(false, true).find(R"({"capability":"x-ignore-shared","state":false})"),
            std::string::npos);
  EXPECT_NE(text(true, true).find(R"({"capability":"x-ignore-shared","state":true})"),
            std::string::npos);
  EXPECT_NE(text(false, true).find(R"({"capability":"auto-converge","state":false})"),
            std::string::npos);
  EXPECT_NE(text(true, true).find(R"({"capability":"auto-converge","state":true})"),
            std::string::npos);
  EXPECT_EQ(text(false, false).find("x-ignore-shared"), std::string::npos);
}

TEST(MigrationJson, LooksForIgnoreShared) {
  EXPECT_TRUE(HasIgnoreShared(nlohmann::json::parse(
      R"([{"state": false, "capability": "xbzrle"}, {"state": true, "capability": "x-ignore-shared"}])")));
  EXPECT_FALSE(HasIgnoreShared(nlohmann::json::parse(R"([{"capability": "xbzrle"}, 7, {}])")));
  EXPECT_FALSE(HasIgnoreShared(nullptr));
}

TEST(MigrationJson, SetsTheParameters) {
  const auto arguments = MigrationParametersJson(
      {.multifd_channels = 3, .downtime_limit = std::chrono::milliseconds(250)});
  EXPECT_EQ(arguments.at("multifd-channels"), 3);
  EXPECT_EQ(arguments.at("downtime-limit"), 250);
  EXPECT_EQ(arguments.at("max-bandwidth"), 1ULL << 40);
  EXPECT_FALSE(MigrationParametersJson({.multifd_channels = 0}).contains("multifd-channels"));
}

}  // namespace
}  // namespace sealift::qemu
