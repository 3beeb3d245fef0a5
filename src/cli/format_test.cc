#include "cli/format.h"

#include <gtest/gtest.h>

#include "cli/exit_code.h"

namespace sealift::cli {
namespace {

TEST(Format, BytesInBinaryUnits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1 KiB");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(512ULL << 20), "512 MiB");
  EXPECT_EQ(FormatBytes((1ULL << 30) - 1), "1 GiB");
  EXPECT_EQ(FormatBytes(1320702444), "1.23 GiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16384 PiB");
}

TEST(Format, RatesInDecimalUnits) {
  EXPECT_EQ(FormatRate(0), "0 B/s");
  EXPECT_EQ(FormatRate(1'250'000'000), "1.25 GB/s");
  EXPECT_EQ(FormatRate(12'500'000), "12.5 MB/s");
  EXPECT_EQ(FormatRate(999'999), "1 MB/s");
}

TEST(Format, SpansGetCoarserAsTheyGrow) {
  EXPECT_EQ(FormatMillis(0), "0 ms");
  EXPECT_EQ(FormatMillis(999), "999 ms");
  EXPECT_EQ(FormatMillis(3260), "3.2 s");
  EXPECT_EQ(FormatMillis(252'000), "4 min 12 s");
  EXPECT_EQ(FormatMillis(7'380'000), "2 h 3 min");
}

TEST(Format, TimesAreUtc) {
  EXPECT_EQ(FormatTime(1'769'862'896'789), "2026-01-31T12:34:56.789Z");
  EXPECT_EQ(FormatShortTime(1'769'862'896'789), "2026-01-31T12:34:56Z");
  EXPECT_EQ(FormatShortTime(0), "-");
}

TEST(Format, ForeignTextCannotSteerTheTerminal) {
  EXPECT_EQ(Printable("ok\x1b[2J\r\a"), "ok?[2J??");
  EXPECT_EQ(Printable("a\nb\tc\x7f"), "a b?c?");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "?31m");  // CSI as one C1 character
  EXPECT_EQ(Printable("größe …"), "größe …");
}

TEST(Format, WidthCountsCodePoints) {
  EXPECT_EQ(DisplayWidth("abc"), 3U);
  EXPECT_EQ(DisplayWidth("ä…"), 2U);
}

TEST(ExitCodeOf, MapsEveryStatusTheControllerSends) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), ExitCode::kDone);
  EXPECT_EQ(ExitCodeOf(absl::AbortedError("")), ExitCode::kFailed);
  EXPECT_EQ(ExitCodeOf(absl::InternalError("")), ExitCode::kFailed);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), ExitCode::kUsage);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("")), ExitCode::kUnreachable);
  EXPECT_EQ(ExitCodeOf(absl::PermissionDeniedError("")), ExitCode::kNotAllowed);
  EXPECT_EQ(ExitCodeOf(absl::UnauthenticatedError("")), ExitCode::kNotAllowed);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError("")), ExitCode::kNotFound);
  EXPECT_EQ(ExitCodeOf(absl::DeadlineExceededError("")), ExitCode::kTimeout);
  EXPECT_EQ(ExitCodeOf(absl::CancelledError("")), ExitCode::kCancelled);
  EXPECT_EQ(ExitCodeOf(absl::FailedPreconditionError("")), ExitCode::kRefused);
  EXPECT_EQ(ExitCodeOf(absl::AlreadyExistsError("")), ExitCode::kRefused);
  EXPECT_EQ(ExitCodeOf(absl::ResourceExhaustedError("")), ExitCode::kRefused);
}

}  // namespace
}  // namespace sealift::cli
