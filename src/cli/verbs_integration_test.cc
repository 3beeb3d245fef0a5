// The verbs that ask and get one answer, and the completion of them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "cli/testing_cli.h"

namespace sealift::cli {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

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

TEST_F(CliTest, ShowsWhetherAHostHasTheDirectEngine) {
  v1::HostCapabilities capabilities;
  script().get_host = [&](const auto&, v1::Host& host) {
    *host.mutable_capabilities() = capabilities;
    return grpc::Status::OK;
  };
  const auto shown = [&] { return Run({"host", "show", "a"}).out; };
  EXPECT_THAT(shown(), ContainsRegex("Direct engine +no \\(its agent does not know it\\)"));
  capabilities.set_direct_reason("Linux 6.1 is too old");
  EXPECT_THAT(shown(), ContainsRegex("Direct engine +no \\(Linux 6.1 is too old\\)"));
  EXPECT_THAT(shown(), Not(HasSubstr("Advice")));
  capabilities.set_direct_engine(true);
  capabilities.set_memory_advice("echo advise");
  EXPECT_THAT(shown(),
              AllOf(ContainsRegex("Direct engine +yes\n"), ContainsRegex("Advice +echo advise\n")));
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

TEST_F(CliTest, MigratesWithTheEngineAskedFor) {
  v1::StartMigrationRequest seen;
  script().start_migration = [&](const v1::StartMigrationRequest& request, v1::Migration& started) {
    seen = request;
    started.set_id("0123456789abcdef0123456789abcdef");
    return grpc::Status::OK;
  };
  const std::vector<std::string> migrate = {"vm", "migrate", "web1", "--to", "b", "--detach"};
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = migrate;
    words.insert(words.end(), more.begin(), more.end());
    return Run(words).exit_code;
  };
  EXPECT_EQ(run({}), 0);
  EXPECT_EQ(seen.engine(), v1::ENGINE_UNSPECIFIED);
  EXPECT_EQ(seen.on_no_convergence(), v1::NO_CONVERGENCE_UNSPECIFIED);
  EXPECT_EQ(run({"--engine", "direct", "--on-no-convergence", "fail"}), 0);
  EXPECT_EQ(seen.engine(), v1::ENGINE_DIRECT);
  EXPECT_EQ(seen.on_no_convergence(), v1::NO_CONVERGENCE_FAIL);
  EXPECT_EQ(run({"--engine", "stream", "--on-no-convergence", "throttle"}), 0);
  EXPECT_EQ(seen.engine(), v1::ENGINE_STREAM);
  EXPECT_EQ(seen.on_no_convergence(), v1::NO_CONVERGENCE_THROTTLE);
  EXPECT_EQ(run({"--engine", "auto"}), 0);
  EXPECT_EQ(seen.engine(), v1::ENGINE_AUTO);
  EXPECT_EQ(run({"--engine", "fast"}), 2);
}

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

TEST_F(CliTest, SetsTheModeOfManyAndSaysWhichFailed) {
  v1::SetVmsRequest seen;
  script().set_vms = [&](const v1::SetVmsRequest& request, v1::SetVmsResponse& response) {
    seen = request;
    v1::VmChanged& done = *response.add_results();
    done.set_name("web1");
    done.set_ok(true);
    done.set_changed(true);
    done.set_before(v1::ENCRYPTION_MODE_DISABLED);
    done.set_after(v1::ENCRYPTION_MODE_REQUIRED);
    if (request.all()) return grpc::Status::OK;
    v1::VmChanged& failed = *response.add_results();
    failed.set_name("web2");
    failed.set_error("there is no VM named 'web2'");
    return grpc::Status::OK;
  };
  const Result some = Run({"vm", "set", "web1", "web2", "--encryption", "required", "--label",
                           "env=prod", "--label", "old-"});
  EXPECT_EQ(some.exit_code, 9);
  EXPECT_EQ(some.err, "sealift: 1 of 2 VMs were not changed\n");
  EXPECT_THAT(some.out, HasSubstr("there is no VM named 'web2'"));
  ASSERT_EQ(seen.changes_size(), 2);
  EXPECT_EQ(seen.changes(1).name(), "web2");
  EXPECT_EQ(seen.changes(1).encryption(), v1::ENCRYPTION_MODE_REQUIRED);
  EXPECT_EQ(seen.changes(1).set_labels().at("env"), "prod");
  EXPECT_EQ(seen.changes(1).remove_labels(0), "old");
  EXPECT_EQ(Run({"vm", "set", "--all", "--encryption", "required", "--dry-run"}).exit_code, 0);
  EXPECT_TRUE(seen.all() && seen.dry_run());
}

TEST_F(CliTest, SetNeedsToKnowWhichVmsAndWhat) {
  EXPECT_EQ(Run({"vm", "set", "--encryption", "required"}).exit_code, 2);
  EXPECT_EQ(Run({"vm", "set", "web1", "--all", "--encryption", "required"}).exit_code, 2);
  EXPECT_EQ(Run({"vm", "set", "web1"}).exit_code, 2);
  EXPECT_EQ(Run({"vm", "set", "web1", "--label", "nonsense"}).exit_code, 2);
  EXPECT_EQ(Run({"vm", "set", "--file", "/nowhere", "--dry-run"}).exit_code, 5);
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

// ---- The rest ----

TEST_F(CliTest, VersionAsksTheController) {
  const json version = json::parse(Run({"version", "-o", "json"}).out);
  EXPECT_EQ(version["controller"]["controller_version"], "9.8.7");
  EXPECT_THAT(version["controller"]["identity"], HasSubstr("/admin/admin"));
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
  EXPECT_EQ(Complete("sealift vm list -o ''"), "table json yaml csv\n");
  EXPECT_EQ(Complete("sealift vm create " + folder_ / "context"), context_path_ + "\n");
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
