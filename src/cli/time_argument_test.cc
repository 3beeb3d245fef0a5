#include "cli/time_argument.h"

#include <gtest/gtest.h>

namespace sealift::cli {
namespace {

const base::WallTime kNow{std::chrono::seconds(1'800'000'000)};

TEST(ParseTime, DatesAreUtc) {
  EXPECT_EQ(*ParseTime("1970-01-02", kNow), 86'400'000);
  EXPECT_EQ(*ParseTime("2026-01-31T12:34:56Z", kNow), 1'769'862'896'000);
}

TEST(ParseTime, SpansAreBeforeNow) {
  EXPECT_EQ(*ParseTime("90m", kNow), 1'800'000'000'000 - 90 * 60'000);
  EXPECT_EQ(*ParseTime("36h", kNow), 1'800'000'000'000 - 36 * 3'600'000LL);
  EXPECT_EQ(*ParseTime("7d", kNow), 1'800'000'000'000 - 7 * 86'400'000LL);
}

TEST(ParseTime, AnythingElseIsRefused) {
  for (const char* bad : {"", "yesterday", "7", "d", "-7d", "7dd", "2026-13-01", "2026-01-31T12:34",
                          "2026-01-31 12:34:56Z", "99999999999d"}) {
    EXPECT_EQ(ParseTime(bad, kNow).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace sealift::cli
