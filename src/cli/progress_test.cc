#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "base/status.h"
#include "cli/lost_stream.h"
#include "cli/migration_view.h"
#include "cli/vm.h"

namespace sealift::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

v1::Migration Copying() {
  v1::Migration migration;
  migration.set_id("00ff");
  migration.set_vm("web1");
  migration.set_from("a");
  migration.set_to("b");
  migration.set_encrypted(true);
  migration.set_cipher("AES-256-GCM");
  migration.set_engine(v1::ENGINE_STREAM);
  v1::MigrationProgress& progress = *migration.mutable_progress();
  progress.set_phase(v1::MIGRATION_PHASE_COPYING);
  progress.set_ram_total_bytes(4ULL << 30);
  progress.set_ram_remaining_bytes(1ULL << 30);
  progress.set_bytes_per_second(1'250'000'000);
  progress.set_dirty_bytes_per_second(176'258'176);
  progress.set_iterations(3);
  return migration;
}

v1::Migration Ended(v1::MigrationPhase phase, const std::string& running_on) {
  v1::Migration migration = Copying();
  migration.mutable_progress()->set_phase(phase);
  migration.set_running_on(running_on);
  return migration;
}

TEST(FormatProgress, SaysAllThatMatters) {
  EXPECT_EQ(FormatProgress(Copying()),
            "copying  75%  round 3  1.25 GB/s  1 GiB left  dirty 176 MB/s  ETA 1.0 s  AES-256-GCM  "
            "stream");
}

TEST(FormatProgress, AdmitsThatTheEndIsNotInSight) {
  v1::Migration migration = Copying();
  migration.mutable_progress()->set_dirty_bytes_per_second(2'000'000'000);
  EXPECT_THAT(FormatProgress(migration), HasSubstr("ETA ?"));
}

TEST(FormatProgress, SaysThatNothingIsEncrypted) {
  v1::Migration migration = Copying();
  migration.set_encrypted(false);
  EXPECT_THAT(FormatProgress(migration), HasSubstr("in the clear"));
}

TEST(FormatProgress, KnowsNothingBeforeTheStart) {
  v1::Migration migration;
  migration.mutable_progress()->set_phase(v1::MIGRATION_PHASE_COPYING);
  EXPECT_THAT(FormatProgress(migration), HasSubstr("0%"));
}

class ProgressLineTest : public testing::Test {
 protected:
  ProgressLine Make(ProgressLine::Style style) {
    return {out_, style, [this] { return width_; }, clock_};
  }
  std::string Taken() {
    std::string text = out_.str();
    out_.str("");
    return text;
  }
  std::size_t width_ = 20;
  base::FakeClock clock_;
  std::ostringstream out_;
};

TEST_F(ProgressLineTest, RedrawsOneLineClippedToTheTerminal) {
  ProgressLine line = Make(ProgressLine::Style::kRedraw);
  line.Update(Copying());
  EXPECT_EQ(Taken(), "\rcopying  75%  round");
}

TEST_F(ProgressLineTest, OverwritesWhatALongerLineLeft) {
  ProgressLine line = Make(ProgressLine::Style::kRedraw);
  line.Update(Copying());
  Taken();
  v1::Migration migration;
  migration.mutable_progress()->set_phase(v1::MIGRATION_PHASE_FAILED);
  migration.set_encrypted(true);
  line.Update(migration);
  EXPECT_EQ(Taken(), "\rfailed  " + std::string(11, ' '));
  line.Clear();
  EXPECT_EQ(Taken(), "\r" + std::string(8, ' ') + "\r");
  line.Clear();
  EXPECT_EQ(Taken(), "");
}

TEST_F(ProgressLineTest, FollowsAWindowThatShrinks) {
  ProgressLine line = Make(ProgressLine::Style::kRedraw);
  line.Update(Copying());
  Taken();
  width_ = 5;
  line.Update(Copying());
  EXPECT_EQ(Taken(), "\rcopy");
}

TEST_F(ProgressLineTest, ALogGetsALineEveryTwoSeconds) {
  ProgressLine line = Make(ProgressLine::Style::kLines);
  line.Update(Copying());
  EXPECT_THAT(Taken(), HasSubstr("stream\n"));
  clock_.Advance(std::chrono::milliseconds(1999));
  line.Update(Copying());
  EXPECT_EQ(Taken(), "");
  clock_.Advance(std::chrono::milliseconds(1));
  line.Update(Copying());
  EXPECT_THAT(Taken(), HasSubstr("copying"));
}

TEST_F(ProgressLineTest, ALogGetsALineAtEachPhase) {
  ProgressLine line = Make(ProgressLine::Style::kLines);
  line.Update(Copying());
  Taken();
  line.Update(Ended(v1::MIGRATION_PHASE_COMPLETED, "b"));
  EXPECT_THAT(Taken(), HasSubstr("completed"));
  line.Clear();
  EXPECT_EQ(Taken(), "");
}

TEST(Outcome, SaysWhereTheVmRuns) {
  EXPECT_TRUE(OutcomeOf(Ended(v1::MIGRATION_PHASE_COMPLETED, "b")).ok());
  v1::Migration failed = Ended(v1::MIGRATION_PHASE_FAILED, "a");
  failed.mutable_progress()->set_detail("b went away");
  EXPECT_EQ(OutcomeOf(failed),
            absl::AbortedError("migration 00ff failed: b went away; web1 runs on a"));
  EXPECT_EQ(OutcomeOf(Ended(v1::MIGRATION_PHASE_CANCELLED, "a")),
            absl::CancelledError("migration 00ff was cancelled; web1 runs on a"));
  EXPECT_THAT(base::MessageOf(OutcomeOf(Ended(v1::MIGRATION_PHASE_FAILED, ""))),
              HasSubstr("`sealift vm show web1`"));
}

TEST(Outcome, SummaryHasTheNumbers) {
  v1::Migration migration = Ended(v1::MIGRATION_PHASE_COMPLETED, "b");
  migration.mutable_progress()->set_wire_bytes(2'000'000'000);
  migration.mutable_progress()->set_elapsed_ms(2000);
  migration.mutable_progress()->set_downtime_ms(41);
  EXPECT_EQ(Summary(migration),
            "web1 runs on b: 4 GiB of memory, 1.86 GiB on the wire in 2.0 s (1 GB/s), downtime 41 "
            "ms, AES-256-GCM, engine stream");
}

TEST(WithFile, PutsFileAndLineInFront) {
  EXPECT_EQ(WithFile(absl::InvalidArgumentError("line 4: memory: too small"), "web1.yaml"),
            absl::InvalidArgumentError("web1.yaml:4: memory: too small"));
  EXPECT_EQ(WithFile(absl::InvalidArgumentError("line 12: x"), "-"),
            absl::InvalidArgumentError("stdin:12: x"));
}

TEST(WithFile, LeavesOtherErrorsAlone) {
  for (const absl::Status& status :
       {absl::InvalidArgumentError("line up"), absl::InvalidArgumentError("line 4"),
        absl::AlreadyExistsError("line 4: name: taken"), absl::InvalidArgumentError("")}) {
    EXPECT_EQ(WithFile(status, "f"), status);
  }
}

class LostStreamTest : public testing::Test {
 protected:
  base::FakeClock clock_;
  std::ostringstream out_;
  std::ostringstream err_;
  Output output_{OutputFormat::kTable, out_, err_, Colour::kOff};
  LostStream lost_{std::chrono::seconds(10), clock_, output_};
};

TEST_F(LostStreamTest, TriesAgainUntilItsPatienceEnds) {
  EXPECT_TRUE(lost_.Judge(absl::UnavailableError("gone")).ok());
  clock_.Advance(std::chrono::milliseconds(9999));
  EXPECT_TRUE(lost_.Judge(absl::OkStatus()).ok());
  clock_.Advance(std::chrono::milliseconds(1));
  EXPECT_TRUE(absl::IsUnavailable(lost_.Judge(absl::UnavailableError("gone"))));
}

TEST_F(LostStreamTest, IsPatientAnewAfterAnythingReceived) {
  EXPECT_TRUE(lost_.Judge(absl::CancelledError("")).ok());
  clock_.Advance(std::chrono::seconds(9));
  lost_.Received();
  EXPECT_TRUE(lost_.Judge(absl::UnavailableError("gone")).ok());
  clock_.Advance(std::chrono::seconds(9));
  EXPECT_TRUE(lost_.Judge(absl::UnavailableError("gone")).ok());
}

TEST_F(LostStreamTest, TellsTheUserOncePerLoss) {
  EXPECT_TRUE(lost_.Judge(absl::UnavailableError("")).ok());
  const std::string told = err_.str();
  EXPECT_THAT(told, HasSubstr("connection to the controller is lost"));
  EXPECT_TRUE(lost_.Judge(absl::UnavailableError("")).ok());
  EXPECT_EQ(err_.str(), told);
}

TEST_F(LostStreamTest, ReturnsErrorsThatWillNotGoAway) {
  EXPECT_EQ(lost_.Judge(absl::NotFoundError("no such migration")),
            absl::NotFoundError("no such migration"));
  EXPECT_EQ(err_.str(), "");
}

}  // namespace
}  // namespace sealift::cli
