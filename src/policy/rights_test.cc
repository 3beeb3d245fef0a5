#include "policy/rights.h"

#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::policy {
namespace {

constexpr Right kAll[] = {
    Right::kRead,       Right::kOperate,    Right::kMigrate,     Right::kMigrateEncrypted,
    Right::kChangeMode, Right::kLowerFloor, Right::kManageHosts, Right::kManageUsers};

// The table of docs/rights.md, whole.
TEST(Rights, OfEachRole) {
  EXPECT_EQ(FormatRights(RightsOf(UserRole::kViewer)), "read");
  EXPECT_EQ(FormatRights(RightsOf(UserRole::kOperator)), "read,operate,migrate");
  EXPECT_EQ(FormatRights(RightsOf(UserRole::kAdmin)),
            "read,operate,migrate,migrate-encrypted,change-mode,lower-floor,manage-hosts,"
            "manage-users");
}

TEST(Rights, ARefusalNamesTheRight) {
  const absl::Status refused = CheckRight(RightsOf(UserRole::kOperator), Right::kMigrateEncrypted);
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_NE(base::MessageOf(refused).find("'migrate-encrypted'"), std::string::npos);
  EXPECT_TRUE(CheckRight(RightsOf(UserRole::kAdmin), Right::kMigrateEncrypted).ok());
  EXPECT_FALSE(CheckRight({}, Right::kRead).ok());
}

TEST(Rights, NamesRoundTripAndNothingElseParses) {
  for (const Right right : kAll) EXPECT_EQ(ParseRight(RightName(right)), right);
  for (const UserRole role : {UserRole::kViewer, UserRole::kOperator, UserRole::kAdmin}) {
    EXPECT_EQ(ParseUserRole(RoleName(role)), role);
    EXPECT_EQ(*ParseRights(FormatRights(RightsOf(role))), RightsOf(role));
  }
  EXPECT_FALSE(ParseRight("Read").has_value());
  EXPECT_FALSE(ParseUserRole("root").has_value());
  EXPECT_TRUE(ParseRights("")->empty());
  for (const char* bad : {"fly", ",read", "read,fly", "read operate", "read,,migrate"}) {
    EXPECT_EQ(ParseRights(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace sealift::policy
