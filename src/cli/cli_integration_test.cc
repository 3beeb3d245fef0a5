// The real `sealift` program against a real server whose answers are written down here.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/socket.h"
#include "cli/testing_child.h"
#include "cli/testing_controller.h"

namespace sealift::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr char kId[] = "00112233445566778899aabbccddeeff";

grpc::Status Error(grpc::StatusCode code, const std::string& text) { return {code, text}; }

v1::Migration MigrationIn(v1::MigrationPhase phase, const std::string& running_on = "a") {
  v1::Migration migration;
  migration.set_id(kId);
  migration.set_vm("web1");
  migration.set_from("a");
  migration.set_to("b");
  migration.set_mode(v1::ENCRYPTION_MODE_REQUIRED);
  migration.set_encrypted(true);
  migration.set_cipher("AES-256-GCM");
  migration.set_engine(v1::ENGINE_STREAM);
  migration.set_running_on(running_on);
  migration.mutable_progress()->set_phase(phase);
  return migration;
}

class CliTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { rpc::RequireTls13(); }

  CliTest()
      : folder_(MakeFolder()),
        authority_(folder_ + "/controller"),
        operator_(authority_.MakeIdentity(pki::Role::kOperator, "admin")),
        controller_(authority_) {
    UseContext(authority_.MakeContext(controller_.port(), operator_));
    environment_ = {{"HOME", folder_},
                    {"TERM", "xterm"},
                    {"PATH", std::string(SEALIFT_BIN_DIR) + ":" + std::getenv("PATH")},
                    {"SEALIFT_CONTEXT", context_path_}};
  }
  ~CliTest() override { std::filesystem::remove_all(folder_); }

  void UseContext(const Context& context) const {
    ASSERT_TRUE(WriteContext(context_path_, context).ok());
  }

  std::unique_ptr<Child> Start(const std::vector<std::string>& arguments,
                               Child::Wiring wiring = Child::Wiring::kPipes) const {
    return std::make_unique<Child>(std::string(SEALIFT_BIN_DIR) + "/sealift", arguments,
                                   environment_, wiring);
  }

  Result Run(const std::vector<std::string>& arguments, const std::string& input = "") const {
    const auto child = Start(arguments);
    child->Type(input);
    return child->Wait();
  }

  std::string WriteFile(const std::string& name, const std::string& text) const {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  Script& script() { return controller_.script; }

  // StartsMigration makes the controller accept a migration of web1.
  void StartsMigration() {
    script().start_migration = [](const auto&, v1::Migration& migration) {
      migration = MigrationIn(v1::MIGRATION_PHASE_PREPARING);
      return grpc::Status::OK;
    };
  }
  // Watches makes every watch send these and end.
  void Watches(const std::vector<v1::Migration>& updates) {
    script().watch_migration = [updates](auto&, const auto& request, auto& writer) {
      EXPECT_EQ(request.id(), kId);
      for (const v1::Migration& update : updates) writer.Write(update);
      return grpc::Status::OK;
    };
  }

  const std::string folder_;
  const std::string context_path_ = folder_ + "/context.yaml";
  Authority authority_;
  const std::string operator_;
  ScriptedController controller_;
  std::map<std::string, std::string> environment_;

 private:
  static std::string MakeFolder() {
    std::string pattern = testing::TempDir() + "sealift-cli-XXXXXX";
    return mkdtemp(pattern.data());
  }
};

// ---- Usage ----

TEST_F(CliTest, WrongUsageIsExitCodeTwoWithAHint) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"vm"},
                                             {"frobnicate"},
                                             {"vm", "migrate", "web1"},
                                             {"vm", "show"},
                                             {"vm", "show", "a", "b"},
                                             {"vm", "list", "-o", "xml"},
                                             {"vm", "list", "--timeout", "0"},
                                             {"vm", "set", "web1", "--encryption", "maybe"}}) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, AllOf(StartsWith("sealift: "), HasSubstr("--help` tells more")));
    EXPECT_THAT(result.out, IsEmpty());
  }
}

TEST_F(CliTest, HelpGoesToStdoutAndDocumentsTheExitCodes) {
  const Result result = Run({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("Exit codes:"), HasSubstr("SEALIFT_CONTEXT")));
  EXPECT_THAT(Run({"vm", "migrate", "--help"}).out, HasSubstr("--to HOST"));
}

TEST_F(CliTest, NamesThatAreVerbsAreStillNames) {
  script().get_vm = [](const auto& request, v1::Vm& vm) {
    vm.set_name(request.name());
    return grpc::Status::OK;
  };
  EXPECT_EQ(json::parse(Run({"vm", "show", "list", "-o", "json"}).out)["name"], "list");
  EXPECT_EQ(json::parse(Run({"-o", "json", "vm", "show", "host"}).out)["name"], "host");
}

// ---- Settings ----

TEST_F(CliTest, WithoutAContextItSaysWhereItLooked) {
  environment_.erase("SEALIFT_CONTEXT");
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr(folder_ + "/.config/sealift/context.yaml"),
                                HasSubstr("sealift-controllerd init")));
}

TEST_F(CliTest, TheFlagWinsOverTheEnvironment) {
  const Result result = Run({"vm", "list", "--context", "/none"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("no context file /none"));
}

TEST_F(CliTest, TheUsersFileIsFound) {
  environment_.erase("SEALIFT_CONTEXT");
  std::filesystem::create_directories(folder_ + "/.config/sealift");
  std::filesystem::rename(context_path_, folder_ + "/.config/sealift/context.yaml");
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  EXPECT_EQ(Run({"vm", "list"}).exit_code, 0);
}

TEST_F(CliTest, AContextThatOthersMayReadIsRefused) {
  std::filesystem::permissions(context_path_, std::filesystem::perms(0644));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr("chmod 600 " + context_path_));
}

TEST_F(CliTest, FormatAndTimeoutComeFromTheEnvironmentToo) {
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  environment_["SEALIFT_OUTPUT"] = "json";
  EXPECT_EQ(Run({"vm", "list"}).out, "[]\n");
  EXPECT_THAT(Run({"vm", "list", "-o", "table"}).out, StartsWith("NAME"));
  environment_["SEALIFT_TIMEOUT"] = "soon";
  EXPECT_EQ(Run({"vm", "list"}).exit_code, 2);
}

// ---- Connection ----

TEST_F(CliTest, AnUnreachableControllerIsNamedWithTheContextFile) {
  controller_.Stop();
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, AllOf(HasSubstr(fmt::format("127.0.0.1:{}", controller_.port())),
                                HasSubstr(context_path_), HasSubstr("Connection refused")));
}

TEST_F(CliTest, AServerThatNeverAnswersIsUnreachable) {
  const auto listener = base::ListenTcp("127.0.0.1", 0, 0);
  ASSERT_TRUE(listener.ok());
  const Result result = Run({"vm", "list", "--timeout", "1", "--controller",
                             fmt::format("127.0.0.1:{}", listener->second)});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("no answer within 1 s"));
}

TEST_F(CliTest, AControllerOfAnotherInstallationIsNotTrusted) {
  Authority other(folder_ + "/other");
  UseContext(
      other.MakeContext(controller_.port(), other.MakeIdentity(pki::Role::kOperator, "admin")));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr(context_path_));
}

TEST_F(CliTest, AHostCannotPoseAsTheController) {
  ScriptedController host(authority_, pki::Role::kHost);
  host.script.list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  UseContext(authority_.MakeContext(host.port(), operator_));
  EXPECT_EQ(Run({"vm", "list"}).exit_code, 3);
}

TEST_F(CliTest, ACertificateOfAnotherCaIsFoundBeforeConnecting) {
  Authority other(folder_ + "/other");
  UseContext(authority_.MakeContext(controller_.port(),
                                    other.MakeIdentity(pki::Role::kOperator, "admin")));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("not signed by its CA"));
}

TEST_F(CliTest, AnExpiredCertificateIsExitCodeFour) {
  UseContext(authority_.MakeContext(
      controller_.port(),
      authority_.MakeIdentity(pki::Role::kOperator, "admin", std::chrono::hours(24 * 91))));
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr(context_path_));
}

TEST_F(CliTest, ARevokedOperatorIsNotAllowed) {
  controller_.admit = [](const rpc::Peer& peer) {
    return absl::PermissionDeniedError(peer.identity.name + " was revoked");
  };
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr("admin was revoked"));
}

TEST_F(CliTest, ACertificateThatEndsSoonIsRenewedSilently) {
  const std::string old =
      authority_.MakeIdentity(pki::Role::kOperator, "admin", std::chrono::hours(24 * 80));
  UseContext(authority_.MakeContext(controller_.port(), old));
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  script().renew_certificate = [this](const auto& request, auto& response) {
    response.set_certificate_chain_pem(
        authority_.Sign(request.certificate_request_pem(),
                        {authority_.trust_domain(), pki::Role::kOperator, "admin"}));
    return grpc::Status::OK;
  };
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, IsEmpty());
  const auto context = ReadContext(context_path_);
  ASSERT_TRUE(context.ok());
  EXPECT_NE(context->identity_pem, old);
  script().renew_certificate = nullptr;
  EXPECT_EQ(Run({"vm", "list"}).err, "");  // the new one works and is not due
}

TEST_F(CliTest, ARenewalThatFailsIsOnlyAWarning) {
  const std::string old =
      authority_.MakeIdentity(pki::Role::kOperator, "admin", std::chrono::hours(24 * 80));
  UseContext(authority_.MakeContext(controller_.port(), old));
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  const Result result = Run({"vm", "list"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("warning: the certificate in " + context_path_));
  EXPECT_EQ(ReadContext(context_path_)->identity_pem, old);
}

TEST_F(CliTest, AnAnswerThatDoesNotComeIsATimeout) {
  std::atomic<bool> done = false;
  script().list_events = [&](grpc::ServerContext& context, const auto&, auto&) {
    while (!context.IsCancelled()) std::this_thread::yield();
    done = true;
    return grpc::Status::OK;
  };
  const Result result = Run({"events", "--timeout", "1"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_THAT(result.err, HasSubstr("did not answer within 1 s"));
}

// ---- Errors of the controller ----

TEST_F(CliTest, ErrorsOfTheControllerKeepTheirTextAndGetTheirExitCode) {
  const std::vector<std::pair<grpc::StatusCode, int>> codes = {
      {grpc::StatusCode::NOT_FOUND, 5},         {grpc::StatusCode::FAILED_PRECONDITION, 8},
      {grpc::StatusCode::ALREADY_EXISTS, 8},    {grpc::StatusCode::PERMISSION_DENIED, 4},
      {grpc::StatusCode::DEADLINE_EXCEEDED, 6}, {grpc::StatusCode::INVALID_ARGUMENT, 2},
      {grpc::StatusCode::UNAVAILABLE, 3},       {grpc::StatusCode::INTERNAL, 1}};
  for (const auto& [code, exit_code] : codes) {
    script().get_vm = [code = code](const auto&, auto&) {
      return Error(code, "there is no VM 'x': `sealift vm list` shows those there are");
    };
    const Result result = Run({"vm", "show", "x", "-o", "json"});
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sealift: there is no VM 'x': `sealift vm list` shows those there are\n");
    EXPECT_THAT(result.out, IsEmpty());
  }
}

// ---- Hosts ----

TEST_F(CliTest, AddingAHostPrintsTheCommandThatJoinsIt) {
  script().add_host = [](const v1::AddHostRequest& request, v1::AddHostResponse& response) {
    EXPECT_EQ(request.name(), "b");
    EXPECT_EQ(request.address(), "192.0.2.2");
    EXPECT_EQ(request.token_lifetime_s(), 60U);
    response.mutable_host()->set_name("b");
    response.set_token("sealift1.x");
    response.set_join_command("sealift-agentd join --controller c:7431 --token sealift1.x");
    return grpc::Status::OK;
  };
  const std::vector<std::string> add = {
      "host", "add", "b", "--address", "192.0.2.2", "--token-lifetime", "60"};
  const Result result = Run(add);
  EXPECT_EQ(result.out, "sealift-agentd join --controller c:7431 --token sealift1.x\n");
  EXPECT_THAT(result.err, HasSubstr("host b can join"));
  std::vector<std::string> add_json = add;
  add_json.insert(add_json.end(), {"-o", "json"});
  EXPECT_EQ(json::parse(Run(add_json).out)["token"], "sealift1.x");
}

TEST_F(CliTest, ListsHostsInEveryFormat) {
  script().list_hosts = [](const auto&, v1::ListHostsResponse& response) {
    v1::Host& host = *response.add_hosts();
    host.set_name("a");
    host.set_state(v1::HOST_STATE_READY);
    host.mutable_capabilities()->set_memory_bytes(8ULL << 30);
    return grpc::Status::OK;
  };
  EXPECT_THAT(Run({"host", "list"}).out, AllOf(StartsWith("NAME"), HasSubstr("0 B of 8 GiB free")));
  EXPECT_EQ(json::parse(Run({"host", "list", "-o", "json"}).out)[0]["state"], "ready");
  EXPECT_THAT(Run({"host", "list", "-o", "yaml"}).out, StartsWith("- name: a\n"));
}

// ---- VMs ----

TEST_F(CliTest, CreatesAVmFromAFileOrStdin) {
  v1::CreateVmRequest seen;
  script().create_vm = [&](const v1::CreateVmRequest& request, v1::Vm& vm) {
    seen = request;
    vm.set_name("web1");
    vm.set_host("a");
    vm.set_state(v1::VM_STATE_RUNNING);
    return grpc::Status::OK;
  };
  const std::string file = WriteFile("web1.yaml", "name: web1\n");
  const Result result = Run({"vm", "create", file, "--host", "a", "--start"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "VM web1 is running on a\n");
  EXPECT_EQ(seen.definition_yaml(), "name: web1\n");
  EXPECT_EQ(seen.host(), "a");
  EXPECT_TRUE(seen.start());
  EXPECT_EQ(Run({"vm", "create", "-"}, "name: x\n").exit_code, 0);
  EXPECT_EQ(seen.definition_yaml(), "name: x\n");
  EXPECT_FALSE(seen.start());
}

TEST_F(CliTest, ErrorsInADefinitionNameFileAndLine) {
  script().create_vm = [](const auto&, auto&) {
    return Error(grpc::StatusCode::INVALID_ARGUMENT, "line 4: memory: '12 parsecs' is not a size");
  };
  const std::string file = WriteFile("web1.yaml", "x\n");
  const Result result = Run({"vm", "create", file});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err, "sealift: " + file + ":4: memory: '12 parsecs' is not a size\n");
}

TEST_F(CliTest, ADefinitionThatIsNotThereIsWrongUsage) {
  const Result result = Run({"vm", "create", "/none.yaml"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("/none.yaml"));
}

TEST_F(CliTest, StopsAVmWithTheGuestsOwnTimeout) {
  v1::StopVmRequest seen;
  script().stop_vm = [&](const v1::StopVmRequest& request, v1::Vm& vm) {
    seen = request;
    vm.set_name(request.name());
    vm.set_state(v1::VM_STATE_STOPPED);
    return grpc::Status::OK;
  };
  EXPECT_EQ(Run({"vm", "stop", "web1", "--timeout", "7"}).exit_code, 0);
  EXPECT_EQ(seen.timeout_s(), 7U);
  EXPECT_FALSE(seen.force());
  EXPECT_EQ(Run({"--timeout", "9", "vm", "stop", "web1", "--force"}).exit_code, 0);
  EXPECT_EQ(seen.timeout_s(), 0U);
  EXPECT_TRUE(seen.force());
}

TEST_F(CliTest, SetsTheEncryptionMode) {
  script().set_vm = [](const v1::SetVmRequest& request, v1::Vm& vm) {
    vm.set_name(request.name());
    vm.set_encryption(request.encryption());
    return grpc::Status::OK;
  };
  EXPECT_EQ(Run({"vm", "set", "web1", "--encryption", "required"}).err,
            "VM web1: encryption of migrations is required\n");
}

TEST_F(CliTest, AsksAPersonBeforeDeleting) {
  std::atomic<int> deleted = 0;
  script().delete_vm = [&](const auto&, auto&) {
    ++deleted;
    return grpc::Status::OK;
  };
  EXPECT_EQ(Run({"vm", "delete", "web1"}).exit_code, 0);  // no terminal: not asked
  EXPECT_EQ(deleted, 1);
  const auto no = Start({"vm", "delete", "web1"}, Child::Wiring::kTerminal);
  ASSERT_TRUE(no->WaitForOut("Delete VM web1?"));
  no->Type("\n");
  EXPECT_EQ(no->Wait().exit_code, 7);
  EXPECT_EQ(deleted, 1);
  const auto yes = Start({"vm", "delete", "web1"}, Child::Wiring::kTerminal);
  ASSERT_TRUE(yes->WaitForOut("Delete VM web1?"));
  yes->Type("y\n");
  EXPECT_EQ(yes->Wait().exit_code, 0);
  EXPECT_EQ(deleted, 2);
  EXPECT_THAT(Start({"vm", "delete", "web1", "--yes"}, Child::Wiring::kTerminal)->Wait().out,
              Not(HasSubstr("?")));
}

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
  Run({"vm", "migrate", "web1", "--to", "b", "--detach", "--request-id", "mine"});
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

TEST_F(CliTest, CtrlCDetachesAndLeavesTheMigrationAlone) {
  StartsMigration();
  std::atomic<bool> cancelled = false;
  script().cancel_migration = [&](const auto&, auto&) {
    cancelled = true;
    return grpc::Status::OK;
  };
  script().watch_migration = [](grpc::ServerContext& context, const auto&, auto& writer) {
    writer.Write(MigrationIn(v1::MIGRATION_PHASE_COPYING));
    while (!context.IsCancelled()) std::this_thread::yield();
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
  std::atomic<bool> called = false;
  script().list_events = [&](grpc::ServerContext& context, const auto&, auto& writer) {
    v1::Event event;
    event.set_number(1);
    writer.Write(event);
    while (!context.IsCancelled()) std::this_thread::yield();
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
    while (!context.IsCancelled()) std::this_thread::yield();
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
  EXPECT_EQ(result.exit_code, 3);
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
  EXPECT_THAT(Run({"migration", "show", kId}).out, HasSubstr("AES-256-GCM"));
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
    while (!context.IsCancelled()) std::this_thread::yield();
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
  child->Type("a\x03");  // raw: Ctrl-C goes to the guest
  ASSERT_TRUE(child->WaitForOut("\x03]") || child->WaitForOut("[\x03]"));
  EXPECT_TRUE(child->Raw());
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
  EXPECT_NE(result.exit_code, 0);
  EXPECT_FALSE(result.raw);
}

// ---- The rest ----

TEST_F(CliTest, VersionAsksTheController) {
  const json version = json::parse(Run({"version", "-o", "json"}).out);
  EXPECT_EQ(version["controller"]["controller_version"], "9.8.7");
  EXPECT_THAT(version["controller"]["identity"], HasSubstr("/operator/admin"));
  EXPECT_THAT(Run({"version"}).out, HasSubstr("9.8.7 (API 1) at 127.0.0.1:"));
}

TEST_F(CliTest, VersionWorksWithoutAController) {
  controller_.Stop();
  const Result unreachable = Run({"version"});
  EXPECT_EQ(unreachable.exit_code, 3);
  EXPECT_THAT(unreachable.out, StartsWith("sealift  "));
  EXPECT_EQ(Run({"version", "--client"}).exit_code, 0);
  environment_.erase("SEALIFT_CONTEXT");
  const Result alone = Run({"version", "-o", "json"});
  EXPECT_EQ(alone.exit_code, 0);
  EXPECT_TRUE(json::parse(alone.out)["controller"].is_null());
}

TEST_F(CliTest, AResultThatCannotBeWrittenIsAnError) {
  script().list_vms = [](const auto&, auto&) { return grpc::Status::OK; };
  Child child("/bin/sh", {"-c", "exec sealift vm list >/dev/full"}, environment_,
              Child::Wiring::kPipes);
  EXPECT_EQ(child.Wait().exit_code, 1);
}

class BashCompletionTest : public CliTest {
 protected:
  // Complete gives what bash offers for the last word of a line.
  std::string Complete(const std::string& words) const {
    const std::string script = fmt::format(
        "source <(sealift completion bash)\n"
        "COMP_WORDS=({}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_sealift\necho "
        "\"${{COMPREPLY[*]}}\"",
        words);
    Child child("/bin/bash", {"-c", script}, environment_, Child::Wiring::kPipes);
    const Result result = child.Wait();
    EXPECT_EQ(result.err, "");
    return result.out;
  }
};

TEST_F(BashCompletionTest, OffersNounsVerbsAndOptions) {
  EXPECT_EQ(Complete("sealift h"), "host\n");
  EXPECT_EQ(Complete("sealift vm st"), "start stop\n");
  EXPECT_EQ(Complete("sealift vm migrate --str"), "--streams\n");
  EXPECT_EQ(Complete("sealift vm list --con"), "--context --controller\n");
  EXPECT_EQ(Complete("sealift --context /x vm sh"), "show\n");
}

TEST_F(BashCompletionTest, OffersValues) {
  EXPECT_EQ(Complete("sealift vm set web1 --encryption re"), "required\n");
  EXPECT_EQ(Complete("sealift vm list -o ''"), "table json yaml\n");
  EXPECT_EQ(Complete("sealift vm create " + folder_ + "/context"), context_path_ + "\n");
  EXPECT_EQ(Complete("sealift vm migrate --streams ''"), "\n");
}

TEST_F(BashCompletionTest, OffersTheNamesThatTheControllerKnows) {
  script().list_vms = [](const auto&, v1::ListVmsResponse& response) {
    response.add_vms()->set_name("web1");
    response.add_vms()->set_name("db1");
    return grpc::Status::OK;
  };
  script().list_hosts = [](const auto&, v1::ListHostsResponse& response) {
    response.add_hosts()->set_name("b");
    return grpc::Status::OK;
  };
  EXPECT_EQ(Complete("sealift vm start w"), "web1\n");
  EXPECT_EQ(Complete("sealift vm migrate web1 --to ''"), "b\n");
}

}  // namespace
}  // namespace sealift::cli
