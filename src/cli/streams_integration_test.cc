// The verbs that last: migrations, events, the console.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/testing_cli.h"

namespace sealift::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// ---- Migrations ----

TEST_F(CliTest, MigratesAndSumsUp) {
  StartsMigration();
  Watches(
      {MigrationIn(v1::MIGRATION_PHASE_COPYING), MigrationIn(v1::MIGRATION_PHASE_COMPLETED, "b")});
  const Result result = Run({"vm", "migrate", "web1", "--to", "b"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, IsEmpty());
  EXPECT_THAT(result.err, AllOf(StartsWith(fmt::format("migration {}: web1 from a to b\n", kId)),
                                HasSubstr("preparing"), HasSubstr("copying"),
                                HasSubstr("completed"), HasSubstr("web1 runs on b: ")));
}

TEST_F(CliTest, AMigrationAsJsonIsOneObject) {
  StartsMigration();
  Watches({MigrationIn(v1::MIGRATION_PHASE_COMPLETED, "b")});
  const json migration = json::parse(Run({"vm", "migrate", "web1", "--to", "b", "-o", "json"}).out);
  EXPECT_EQ(migration["progress"]["phase"], "completed");
  EXPECT_EQ(migration["running_on"], "b");
}

TEST_F(CliTest, AFailedMigrationIsExitCodeOneAndSaysWhereTheVmRuns) {
  StartsMigration();
  v1::Migration failed = MigrationIn(v1::MIGRATION_PHASE_FAILED);
  failed.mutable_progress()->set_detail("host b went away");
  Watches({failed});
  const Result result = Run({"vm", "migrate", "web1", "--to", "b", "-o", "json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("failed: host b went away; web1 runs on a"));
  EXPECT_EQ(json::parse(result.out)["progress"]["phase"], "failed");
}

TEST_F(CliTest, ACancelledMigrationIsExitCodeSeven) {
  StartsMigration();
  Watches({MigrationIn(v1::MIGRATION_PHASE_CANCELLED)});
  EXPECT_EQ(Run({"vm", "migrate", "web1", "--to", "b"}).exit_code, 7);
}

TEST_F(CliTest, ARefusedMigrationIsExitCodeEight) {
  script().start_migration = [](const auto&, auto&) {
    return Error(grpc::StatusCode::FAILED_PRECONDITION, "host b cannot encrypt");
  };
  const Result result = Run({"vm", "migrate", "web1", "--to", "b"});
  EXPECT_EQ(result.exit_code, 8);
  EXPECT_EQ(result.err, "sealift: host b cannot encrypt\n");
}

TEST_F(CliTest, WarnsWhenAVmFallsBackToTheClear) {
  script().start_migration = [](const auto&, v1::Migration& migration) {
    migration = MigrationIn(v1::MIGRATION_PHASE_COMPLETED, "b");
    migration.set_mode(v1::ENCRYPTION_MODE_OPPORTUNISTIC);
    migration.set_encrypted(false);
    migration.set_decision_reason("host b cannot encrypt");
    return grpc::Status::OK;
  };
  EXPECT_THAT(Run({"vm", "migrate", "web1", "--to", "b"}).err,
              HasSubstr("warning: web1 moves in the clear: host b cannot encrypt"));
}

TEST_F(CliTest, EveryStartHasARequestIdOfItsOwnUnlessGiven) {
  std::vector<std::string> ids;
  script().start_migration = [&](const v1::StartMigrationRequest& request, v1::Migration& started) {
    ids.push_back(request.request_id());
    started = MigrationIn(v1::MIGRATION_PHASE_PREPARING);
    return grpc::Status::OK;
  };
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Run({"vm", "migrate", "web1", "--to", "b", "--detach"}).out, std::string(kId) + "\n");
  }
  EXPECT_EQ(
      Run({"vm", "migrate", "web1", "--to", "b", "--detach", "--request-id", "mine"}).exit_code, 0);
  ASSERT_EQ(ids.size(), 3U);
  EXPECT_EQ(ids[0].size(), 32U);
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_EQ(ids[2], "mine");
}

TEST_F(CliTest, AnUnknownOutcomeOfTheStartNamesTheRequestId) {
  script().start_migration = [](const auto&, auto&) {
    return Error(grpc::StatusCode::UNAVAILABLE, "host a does not answer");
  };
  const Result result = Run({"vm", "migrate", "web1", "--to", "b", "--request-id", "mine"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("--request-id mine"));
}

// A drain of web1 and web2, whose migrations end at once.
void Drains(Script& script) {
  script.drain_host = [](const auto&, v1::DrainHostResponse& plan) {
    plan.mutable_host()->set_name("a");
    for (const char* vm : {"web1", "web2"}) {
      v1::DrainStep& step = *plan.add_steps();
      step.set_vm(vm);
      step.set_to("b");
    }
    return grpc::Status::OK;
  };
  script.get_migration = [](const auto&, v1::Migration& migration) {
    migration = MigrationIn(v1::MIGRATION_PHASE_COMPLETED, "b");
    return grpc::Status::OK;
  };
}

TEST_F(CliTest, ADrainThatLosesAnAnswerAsksAgainForTheSameMigration) {
  Drains(script());
  std::map<std::string, std::vector<std::string>> ids;
  script().start_migration = [&](const v1::StartMigrationRequest& request, v1::Migration& started) {
    ids[request.vm()].push_back(request.request_id());
    if (ids["web1"].size() == 1) return Error(grpc::StatusCode::UNAVAILABLE, "it is restarted");
    started = MigrationIn(v1::MIGRATION_PHASE_PREPARING);
    started.set_id(request.vm());
    return grpc::Status::OK;
  };
  const Result result = Run({"host", "drain", "a"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("2 VMs moved, 0 stay"));
  ASSERT_EQ(ids["web1"].size(), 2U);
  EXPECT_EQ(ids["web1"][0], ids["web1"][1]);
  EXPECT_EQ(ids["web1"][0].size(), 32U);
  ASSERT_EQ(ids["web2"].size(), 1U);
  EXPECT_NE(ids["web1"][0], ids["web2"][0]);
}

TEST_F(CliTest, ADrainThatDoesNotKnowWhatBecomesOfAVmSaysSo) {
  Drains(script());
  script().start_migration = [&](const v1::StartMigrationRequest& request, v1::Migration& started) {
    if (request.vm() == "web1") return Error(grpc::StatusCode::UNAVAILABLE, "it is restarted");
    started = MigrationIn(v1::MIGRATION_PHASE_PREPARING);
    return grpc::Status::OK;
  };
  const Result result = Run({"host", "drain", "a"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("web1: it is not known whether it moves: it is restarted"),
                    HasSubstr("1 VMs moved, 0 stay, of 1 it is not known")));
}

TEST_F(CliTest, CtrlCDetachesAndLeavesTheMigrationAlone) {
  StartsMigration();
  std::atomic<bool> cancelled = false;
  script().cancel_migration = [&](const auto&, auto&) {
    cancelled = true;
    return grpc::Status::OK;
  };
  script().watch_migration = [](grpc::ServerContext& context, const auto&, auto& writer) {
    writer.Write(MigrationIn(v1::MIGRATION_PHASE_COPYING));
    WaitUntilCancelled(context);
    return grpc::Status::CANCELLED;
  };
  const auto child = Start({"vm", "migrate", "web1", "--to", "b"});
  ASSERT_TRUE(child->WaitForErr("copying"));
  child->Signal(SIGINT);
  const Result result = child->Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr(fmt::format("migration {0} goes on; watch it with `sealift "
                                                "migration watch {0}`, cancel it with `sealift "
                                                "migration cancel {0}`",
                                                kId)));
  EXPECT_FALSE(cancelled);
}

TEST_F(CliTest, CtrlCEndsOtherVerbsAsUsual) {
  script().list_events = [](grpc::ServerContext& context, const auto&, auto& writer) {
    v1::Event event;
    event.set_number(1);
    writer.Write(event);
    WaitUntilCancelled(context);
    return grpc::Status::OK;
  };
  const auto child = Start({"events", "--follow", "-o", "json"});
  ASSERT_TRUE(child->WaitForOut("\"number\":1"));
  child->Signal(SIGINT);
  EXPECT_EQ(child->Wait().signal, SIGINT);
}

TEST_F(CliTest, AWatchOutlivesARestartOfTheController) {
  StartsMigration();
  script().watch_migration = [](grpc::ServerContext& context, const auto&, auto& writer) {
    writer.Write(MigrationIn(v1::MIGRATION_PHASE_COPYING));
    WaitUntilCancelled(context);
    return grpc::Status::CANCELLED;
  };
  const auto child = Start({"vm", "migrate", "web1", "--to", "b"});
  ASSERT_TRUE(child->WaitForErr("copying"));
  controller_.Stop();
  ASSERT_TRUE(child->WaitForErr("connection to the controller is lost, trying again"));
  Watches({MigrationIn(v1::MIGRATION_PHASE_COMPLETED, "b")});
  controller_.Start();
  const Result result = child->Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("web1 runs on b"));
}

TEST_F(CliTest, AWatchGivesUpAfterItsTimeout) {
  StartsMigration();
  Watches({MigrationIn(v1::MIGRATION_PHASE_COPYING)});
  const auto child = Start({"vm", "migrate", "web1", "--to", "b", "--timeout", "1"});
  ASSERT_TRUE(child->WaitForErr("copying"));
  controller_.Stop();
  const Result result = child->Wait();
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr(fmt::format("watching migration {}", kId)));
}

TEST_F(CliTest, ATerminalGetsOneLineRedrawn) {
  StartsMigration();
  Watches(
      {MigrationIn(v1::MIGRATION_PHASE_COPYING), MigrationIn(v1::MIGRATION_PHASE_COMPLETED, "b")});
  const Result result =
      Start({"vm", "migrate", "web1", "--to", "b"}, Child::Wiring::kTerminal)->Wait();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("\rpreparing"), HasSubstr("\rcopying  0%"),
                                HasSubstr(" \rweb1 runs on b: ")));
}

TEST_F(CliTest, WatchesAMigrationThatHasEnded) {
  script().get_migration = [](const auto&, v1::Migration& migration) {
    migration = MigrationIn(v1::MIGRATION_PHASE_COMPLETED, "b");
    return grpc::Status::OK;
  };
  EXPECT_EQ(Run({"migration", "watch", kId}).exit_code, 0);
}

TEST_F(CliTest, ShowsHowFastAMigrationIsWhileItCopies) {
  v1::Migration migration = MigrationIn(v1::MIGRATION_PHASE_COPYING);
  v1::MigrationProgress& progress = *migration.mutable_progress();
  progress.set_iterations(3);
  progress.set_ram_remaining_bytes(1ULL << 30);
  progress.set_bytes_per_second(1'250'000'000);
  progress.set_dirty_bytes_per_second(176'258'176);
  script().get_migration = [&](const auto&, v1::Migration& shown) {
    shown = migration;
    return grpc::Status::OK;
  };
  EXPECT_THAT(Run({"migration", "show", kId}).out,
              AllOf(ContainsRegex("Protection +AES-256-GCM"), ContainsRegex("Rounds +3\n"),
                    ContainsRegex("Remaining +1 GiB\n"), ContainsRegex("Rate +1.25 GB/s\n"),
                    ContainsRegex("Dirty rate +176 MB/s\n"), ContainsRegex("ETA +1.0 s\n")));
  progress.set_phase(v1::MIGRATION_PHASE_COMPLETED);
  EXPECT_THAT(Run({"migration", "show", kId}).out,
              AllOf(ContainsRegex("Rate +-\n"), ContainsRegex("Dirty rate +-\n"),
                    ContainsRegex("ETA +-\n")));
}

// ---- Events ----

v1::Event NumberedEvent(std::int64_t number) {
  v1::Event event;
  event.set_number(number);
  event.set_type("vm.created");
  event.set_subject("vm/web1");
  return event;
}

TEST_F(CliTest, ListsEvents) {
  script().list_events = [](auto&, const v1::ListEventsRequest& request, auto& writer) {
    EXPECT_EQ(request.limit(), 5U);
    EXPECT_EQ(request.subject(), "vm/web1");
    writer.Write(NumberedEvent(1));
    writer.Write(NumberedEvent(2));
    return grpc::Status::OK;
  };
  const std::vector<std::string> list = {"events", "--limit", "5", "--subject", "vm/web1"};
  EXPECT_THAT(Run(list).out, AllOf(StartsWith("TIME"), HasSubstr("vm.created")));
  std::vector<std::string> list_json = list;
  list_json.insert(list_json.end(), {"-o", "json"});
  const json events = json::parse(Run(list_json).out);
  EXPECT_EQ(events[1]["number"], 2);
  EXPECT_TRUE(events[1]["time"].is_null());
}

TEST_F(CliTest, FollowingEventsGoesOnWhereALostStreamEnded) {
  script().list_events = [](grpc::ServerContext& context, const v1::ListEventsRequest& request,
                            auto& writer) {
    EXPECT_TRUE(request.follow());
    writer.Write(NumberedEvent(request.after_number() + 1));
    if (request.after_number() == 0) return Error(grpc::StatusCode::UNAVAILABLE, "restarting");
    WaitUntilCancelled(context);
    return grpc::Status::OK;
  };
  const auto child = Start({"events", "-f", "-o", "json"});
  EXPECT_TRUE(child->WaitForOut("{\"number\":1,"));
  EXPECT_TRUE(child->WaitForOut("\n{\"number\":2,"));
}

// ---- Console ----

// Echoes answers every input with itself in brackets, and "bye" ends it.
grpc::Status Echoes(grpc::ServerReaderWriter<v1::ConsoleOutput, v1::ConsoleInput>& stream) {
  v1::ConsoleInput input;
  if (!stream.Read(&input) || input.name() != "web1") {
    return Error(grpc::StatusCode::NOT_FOUND, "there is no VM '" + input.name() + "'");
  }
  while (stream.Read(&input)) {
    v1::ConsoleOutput output;
    output.set_data("[" + input.data() + "]");
    stream.Write(output);
    if (input.data() == "bye") break;
  }
  return grpc::Status::OK;
}

TEST_F(CliTest, AConsoleOnPipesLeavesWhenTheGuestIsSilent) {
  script().console = Echoes;
  const Result result = Run({"vm", "console", "web1", "--linger", "0.3"}, "uname\x1d\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "[uname\x1d\n]");
  EXPECT_THAT(result.err, IsEmpty());
}

TEST_F(CliTest, AConsoleOnPipesEndsWithTheGuest) {
  script().console = Echoes;
  const Result result = Run({"vm", "console", "web1", "--linger", "0"}, "bye");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "[bye]");
}

TEST_F(CliTest, AConsoleOfAnUnknownVmIsExitCodeFive) {
  script().console = Echoes;
  const Result result = Run({"vm", "console", "x", "--linger", "0"});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.err, HasSubstr("there is no VM 'x'"));
}

TEST_F(CliTest, TheEscapeLeavesAConsoleAndRestoresTheTerminal) {
  script().console = Echoes;
  const auto child = Start({"vm", "console", "web1"}, Child::Wiring::kTerminal);
  ASSERT_TRUE(child->WaitForOut("Ctrl-]"));
  child->Type("a");
  ASSERT_TRUE(child->WaitForOut("[a]"));
  EXPECT_TRUE(child->Raw());
  child->Type("\x03");  // Ctrl-C goes to the guest
  ASSERT_TRUE(child->WaitForOut("[\x03]"));
  child->Type("\x1d");
  const Result result = child->Wait();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_FALSE(result.raw);
}

TEST_F(CliTest, ATerminationRestoresTheTerminalToo) {
  script().console = Echoes;
  const auto child = Start({"vm", "console", "web1"}, Child::Wiring::kTerminal);
  ASSERT_TRUE(child->WaitForOut("Ctrl-]"));
  child->Type("a");
  ASSERT_TRUE(child->WaitForOut("[a]"));
  child->Signal(SIGTERM);
  const Result result = child->Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_FALSE(result.raw);
}

TEST_F(CliTest, AControllerThatGoesAwayRestoresTheTerminalToo) {
  script().console = Echoes;
  const auto child = Start({"vm", "console", "web1"}, Child::Wiring::kTerminal);
  ASSERT_TRUE(child->WaitForOut("Ctrl-]"));
  child->Type("a");
  ASSERT_TRUE(child->WaitForOut("[a]"));
  controller_.Stop();
  const Result result = child->Wait();
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_FALSE(result.raw);
}

}  // namespace
}  // namespace sealift::cli
