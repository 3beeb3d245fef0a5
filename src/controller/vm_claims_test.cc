#include "controller/vm_claims.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::controller {
namespace {

TEST(VmClaimsTest, OneOperationAtATimeOnEachVm) {
  VmClaims claims;
  auto first = claims.Take("web1", "being stopped");
  ASSERT_TRUE(first.ok());
  const auto second = claims.Take("web1", "being started");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(second.status()), ::testing::HasSubstr("web1 is being stopped"));
  EXPECT_TRUE(claims.Take("web2", "being started").ok());
  first->reset();
  EXPECT_TRUE(claims.Take("web1", "being started").ok());
}

}  // namespace
}  // namespace sealift::controller
