#include "pki/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::pki {
namespace {

TEST(Identity, RoundTrips) {
  const std::string longest(63, 'a');
  for (const Identity& identity :
       {Identity{"sealift-1", Role::kController, ""}, Identity{"d", Role::kHost, "a"},
        Identity{"d", Role::kOperator, "admin-2"}, Identity{"d", Role::kViewer, "v"},
        Identity{"d", Role::kAdmin, "admin"}, Identity{longest, Role::kHost, longest},
        Identity{"d", Role::kHost, "controller"}}) {
    const absl::StatusOr<Identity> parsed = ParseIdentity(identity.ToUri());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, identity);
  }
  EXPECT_EQ((Identity{"d", Role::kHost, "a"}.ToUri()), "spiffe://d/host/a");
  EXPECT_EQ((Identity{"d", Role::kController, ""}.ToUri()), "spiffe://d/controller");
}

class NotAnIdentity : public testing::TestWithParam<std::string> {};

TEST_P(NotAnIdentity, IsRefused) {
  EXPECT_EQ(ParseIdentity(GetParam()).status().code(), absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(
    , NotAnIdentity,
    testing::Values("", "d/host/a", "spiffe:/d/host/a", "SPIFFE://d/host/a", "https://d/host/a",
                    " spiffe://d/host/a", "spiffe://d/host/a ", "spiffe://", "spiffe://d",
                    "spiffe://d/", "spiffe:///host/a", "spiffe://d/host", "spiffe://d/host/",
                    "spiffe://d/host//a", "spiffe://d//host/a", "spiffe://d/host/a/",
                    "spiffe://d/host/a/b", "spiffe://d/host/A", "spiffe://D/host/a",
                    "spiffe://d/host/-a", "spiffe://d/host/a-", "spiffe://d/host/a.b",
                    "spiffe://d/host/a_b", "spiffe://d/host/..", "spiffe://d/host/a%62",
                    "spiffe://d/host/a?x=1", "spiffe://d/host/a#x", "spiffe://d:443/host/a",
                    "spiffe://user@d/host/a", "spiffe://d/controller/", "spiffe://d/controller/a",
                    "spiffe://d/controllers", "spiffe://d/Controller", "spiffe://d/guest/a",
                    "spiffe://d/operator/", "spiffe://d/host/\xc3\xa4",
                    std::string("spiffe://d/host/a\0", 18), std::string("spiffe://d/host/a\0b", 19),
                    "spiffe://d/host/a\n", "spiffe://d/host/" + std::string(64, 'a'),
                    "spiffe://" + std::string(64, 'd') + "/host/a"));

TEST(CheckName, SaysWhatIsAllowedWithoutRepeatingUnprintableText) {
  EXPECT_TRUE(CheckName("host", "hypervisor-7").ok());
  const absl::Status status = CheckName("host", "a\x1b[2Jb");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(base::MessageOf(status), testing::HasSubstr("host name \"a?[2Jb\""));
  EXPECT_THAT(base::MessageOf(status), testing::HasSubstr("lower-case letters"));
}

}  // namespace
}  // namespace sealift::pki
