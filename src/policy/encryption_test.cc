#include "policy/encryption.h"

#include <gtest/gtest.h>

namespace sealift::policy {
namespace {

struct Row {
  EncryptionMode mode;
  bool source;
  bool destination;
  Outcome outcome;
};

// The table of docs/encryption_modes.md, whole.
class EncryptionTable : public testing::TestWithParam<Row> {};

TEST_P(EncryptionTable, Decides) {
  const Row& row = GetParam();
  const EncryptionDecision decision = DecideEncryption(row.mode, {"a", row.source, "no AES"},
                                                       {"b", row.destination, "crypto is off"});
  EXPECT_EQ(decision.outcome, row.outcome);
  EXPECT_NE(decision.reason.find(ModeName(row.mode)), std::string::npos) << decision.reason;
}

constexpr auto kOff = EncryptionMode::kDisabled;
constexpr auto kMaybe = EncryptionMode::kOpportunistic;
constexpr auto kMust = EncryptionMode::kRequired;

INSTANTIATE_TEST_SUITE_P(
    All, EncryptionTable,
    testing::Values(
        Row{kOff, true, true, Outcome::kPlain}, Row{kOff, true, false, Outcome::kPlain},
        Row{kOff, false, true, Outcome::kPlain}, Row{kOff, false, false, Outcome::kPlain},
        Row{kMaybe, true, true, Outcome::kEncrypted}, Row{kMaybe, true, false, Outcome::kPlain},
        Row{kMaybe, false, true, Outcome::kPlain}, Row{kMaybe, false, false, Outcome::kPlain},
        Row{kMust, true, true, Outcome::kEncrypted}, Row{kMust, true, false, Outcome::kRefused},
        Row{kMust, false, true, Outcome::kRefused}, Row{kMust, false, false, Outcome::kRefused}));

TEST(Encryption, RefusalNamesTheHostAndTheReason) {
  const EncryptionDecision decision =
      DecideEncryption(kMust, {"a", true, ""}, {"b", false, "crypto is off in its agent.yaml"});
  EXPECT_EQ(decision.reason,
            "mode is required and host b cannot encrypt (crypto is off in its agent.yaml)");
}

TEST(Encryption, NamesRoundTripAndNothingElseParses) {
  for (const EncryptionMode mode : {kOff, kMaybe, kMust})
    EXPECT_EQ(ParseMode(ModeName(mode)), mode);
  EXPECT_FALSE(ParseMode("Required").has_value());
  EXPECT_FALSE(ParseMode("").has_value());
}

// ---- Floors

const std::vector<Floor> kFloors{{"the installation", kMaybe}, {"group prod", kMust}};

TEST(Floors, RaiseAModeToTheHighest) {
  EXPECT_EQ(RaiseToFloors(kOff, {}).mode, kOff);
  EXPECT_EQ(RaiseToFloors(kOff, {}).reason, "");
  EXPECT_EQ(RaiseToFloors(kOff, {kFloors[0]}).mode, kMaybe);
  EXPECT_EQ(RaiseToFloors(kOff, kFloors).mode, kMust);
  EXPECT_EQ(RaiseToFloors(kOff, kFloors).reason, "raised from disabled to the floor of group prod");
  EXPECT_EQ(RaiseToFloors(kMaybe, kFloors).mode, kMust);
  EXPECT_EQ(RaiseToFloors(kMust, kFloors).reason, "") << "nothing had to be raised";
  EXPECT_EQ(RaiseToFloors(kMust, {kFloors[0]}).mode, kMust);
}

TEST(Floors, RefuseAModeBelow) {
  EXPECT_TRUE(CheckFloors(kMust, kFloors).ok());
  EXPECT_TRUE(CheckFloors(kOff, {}).ok());
  const absl::Status refused = CheckFloors(kMaybe, kFloors);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("floor of group prod, which is required"),
            absl::string_view::npos);
}

TEST(Encryption, OnlyRequiredForbidsPlaintext) {
  EXPECT_TRUE(MayRunInTheClear(kOff));
  EXPECT_TRUE(MayRunInTheClear(kMaybe));
  EXPECT_FALSE(MayRunInTheClear(kMust));
}

}  // namespace
}  // namespace sealift::policy
