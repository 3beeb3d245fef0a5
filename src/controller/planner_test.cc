#include "controller/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/status.h"

namespace sealift::controller {
namespace {

using ::testing::HasSubstr;

v1::HostCapabilities GoodHost() {
  v1::HostCapabilities host;
  host.set_cpu_model("Fictional CPU");
  host.set_memory_available_bytes(std::uint64_t{8} << 30);
  host.set_accelerator("kvm");
  host.set_qemu_version("7.2.0");
  host.add_machine_types("pc-q35-7.2");
  host.add_usable_cpu_models("Westmere");
  host.set_host_cpu_digest("d1");
  host.set_aead_backend("openssl");
  return host;
}

MigrationQuestion GoodQuestion() {
  MigrationQuestion q;
  q.vm.name = "web1";
  q.vm.memory_bytes = std::uint64_t{2} << 30;
  q.vm.machine = "pc-q35-7.2";
  q.vm.cpu_model = "Westmere";
  q.state = v1::VM_STATE_RUNNING;
  q.source = {"a", HostReach::kReady, "", GoodHost()};
  q.destination = {"b", HostReach::kReady, "", GoodHost()};
  return q;
}

TEST(PlannerTest, EncryptsWhenBothHostsCan) {
  const auto plan = PlanMigration(GoodQuestion());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->encryption.outcome, policy::Outcome::kEncrypted);
  EXPECT_EQ(plan->engine, v1::ENGINE_STREAM);
  EXPECT_FALSE(plan->engine_reason.empty());
}

TEST(PlannerTest, FallsBackToPlainOnlyWhenOpportunistic) {
  auto q = GoodQuestion();
  q.destination.capabilities.clear_aead_backend();
  const auto plan = PlanMigration(q);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->encryption.outcome, policy::Outcome::kPlain);
  EXPECT_THAT(plan->encryption.reason, HasSubstr("host b"));
}

// Everything that the direct engine needs is there.
MigrationQuestion DirectQuestion() {
  auto q = GoodQuestion();
  q.source.capabilities.set_direct_engine(true);
  q.destination.capabilities.set_direct_engine(true);
  q.direct = true;
  return q;
}

TEST(PlannerTest, TakesTheDirectEngineWhereEverythingAllowsIt) {
  const auto plan = PlanMigration(DirectQuestion());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->engine, v1::ENGINE_DIRECT);
  EXPECT_EQ(plan->engine_reason, "both hosts and the VM's memory allow it");
  EXPECT_EQ(plan->streams, kDefaultDirectStreams);
  auto q = DirectQuestion();
  q.streams = 9;
  EXPECT_EQ(PlanMigration(q)->streams, 9U);
}

TEST(PlannerTest, SaysWhyItDoesNotTakeTheDirectEngine) {
  const auto reason = [](void (*spoil)(MigrationQuestion&)) {
    auto q = DirectQuestion();
    spoil(q);
    const auto plan = PlanMigration(q);
    EXPECT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->engine, v1::ENGINE_STREAM);
    return plan->engine_reason;
  };
  EXPECT_EQ(reason([](auto& q) {
              q.destination.capabilities.set_direct_engine(false);
              q.destination.capabilities.set_direct_reason("Linux 6.1 has no PAGEMAP_SCAN");
            }),
            "host b: Linux 6.1 has no PAGEMAP_SCAN");
  EXPECT_EQ(reason([](auto& q) { q.source.capabilities.set_direct_engine(false); }),
            "host a: its agent does not know the direct engine");
  EXPECT_EQ(reason([](auto& q) {
              q.direct = false;
              q.direct_reason = "VM web1 runs with private memory";
            }),
            "VM web1 runs with private memory");
  EXPECT_EQ(reason([](auto& q) { q.vm.huge_pages = hypervisor::HugePages::k1G; }),
            "VM web1 has huge pages of 1GiB, which are written and sent as a whole");
  EXPECT_EQ(reason([](auto& q) { q.direct = false; }),
            "host a does not say what VM web1's memory is made of");
  EXPECT_EQ(reason([](auto& q) { q.streams = kMinDirectStreams - 1; }),
            "it needs at least 2 data streams, and --streams asks for 1");
  EXPECT_EQ(reason([](auto& q) { q.engine = v1::ENGINE_STREAM; }), "asked for");
  EXPECT_EQ(reason([](auto& q) { q.vm.engine = hypervisor::Engine::kStream; }),
            "wanted by the VM's definition");
}

TEST(PlannerTest, AnEarlierAgentGetsAsManyStreamsAsItTakes) {
  auto q = DirectQuestion();
  q.engine = v1::ENGINE_STREAM;
  EXPECT_EQ(PlanMigration(q)->streams, kDefaultStreams);
  q.destination.capabilities.set_direct_engine(false);
  EXPECT_EQ(PlanMigration(q)->streams, kStreamsOfEarlierAgents);
  q.streams = 4;
  EXPECT_EQ(PlanMigration(q)->streams, 4U);
  q.streams = 0;
  q.destination.capabilities.set_direct_reason("Linux 6.1 has no PAGEMAP_SCAN");
  EXPECT_EQ(PlanMigration(q)->streams, kDefaultStreams);
}

TEST(PlannerTest, SaysThatEmulationMayForgetWritesOfTheStreamEngine) {
  const auto reason = [](const char* accelerator, const char* version, v1::Engine engine) {
    auto q = DirectQuestion();
    for (HostFacts* host : {&q.source, &q.destination}) {
      host->capabilities.set_accelerator(accelerator);
      host->capabilities.set_qemu_version(version);
    }
    q.engine = engine;
    const auto plan = PlanMigration(q);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan->engine_reason;
  };
  EXPECT_EQ(reason("tcg", "7.2.22", v1::ENGINE_STREAM),
            "asked for; the emulation of QEMU 7.2.22 can forget what the guest writes while it is "
            "copied (that of QEMU 9 does not, nor does kvm)");
  EXPECT_EQ(reason("tcg", "9.0.0", v1::ENGINE_STREAM), "asked for");
  EXPECT_EQ(reason("tcg", "", v1::ENGINE_STREAM), "asked for");
  EXPECT_EQ(reason("kvm", "7.2.22", v1::ENGINE_STREAM), "asked for");
  EXPECT_EQ(reason("tcg", "7.2.22", v1::ENGINE_DIRECT), "asked for");
}

TEST(PlannerTest, WhatIsAskedForWinsOverTheDefinition) {
  auto q = DirectQuestion();
  q.vm.engine = hypervisor::Engine::kStream;
  q.engine = v1::ENGINE_DIRECT;
  EXPECT_EQ(PlanMigration(q)->engine, v1::ENGINE_DIRECT);
  EXPECT_EQ(PlanMigration(q)->engine_reason, "asked for");
  q.engine = v1::ENGINE_AUTO;
  EXPECT_EQ(PlanMigration(q)->engine, v1::ENGINE_DIRECT);
  q.vm.engine = hypervisor::Engine::kDirect;
  q.direct = false;
  EXPECT_EQ(PlanMigration(q)->engine, v1::ENGINE_STREAM);
}

TEST(PlannerTest, LeavesReservedHugePagesToTheDestination) {
  auto q = GoodQuestion();
  q.destination.capabilities.set_memory_available_bytes(0);
  q.vm.huge_pages = hypervisor::HugePages::k2M;
  EXPECT_TRUE(PlanMigration(q).ok());
}

TEST(PlannerTest, TakesTheStreamsAskedFor) {
  auto q = GoodQuestion();
  q.streams = 7;
  EXPECT_EQ(PlanMigration(q)->streams, 7U);
}

TEST(PlannerTest, AcceptsTheHostsOwnCpuWhenBothAreTheSame) {
  auto q = GoodQuestion();
  q.vm.cpu_model = "host";
  EXPECT_TRUE(PlanMigration(q).ok());
}

TEST(PlannerTest, AcceptsTcgOnAHostWithKvmWhenTheDefinitionSaysSo) {
  auto q = GoodQuestion();
  q.vm.accelerator = hypervisor::Accelerator::kTcg;
  q.destination.capabilities.set_accelerator("tcg");
  EXPECT_TRUE(PlanMigration(q).ok());
}

struct Refusal {
  std::string name;
  std::function<void(MigrationQuestion&)> spoil;
  std::vector<std::string> says;  // each of these is in the text
  absl::StatusCode code = absl::StatusCode::kFailedPrecondition;
};

class RefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, NamesVmHostCauseAndRemedy) {
  auto q = GoodQuestion();
  GetParam().spoil(q);
  const auto plan = PlanMigration(q);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), GetParam().code);
  for (const std::string& words : GetParam().says) {
    EXPECT_THAT(base::MessageOf(plan.status()), HasSubstr(words));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Every, RefusalTest,
    ::testing::Values(
        Refusal{"TooManyStreams",
                [](auto& q) { q.streams = kMaxStreams + 1; },
                {"33", "at most 32"},
                absl::StatusCode::kInvalidArgument},
        Refusal{"TooFewStreamsForTheDirectEngine",
                [](auto& q) {
                  q = DirectQuestion();
                  q.engine = v1::ENGINE_DIRECT;
                  q.streams = kMinDirectStreams - 1;
                },
                {"direct", "2 data streams", "--streams asks for 1", "--engine auto"}},
        Refusal{"SameHost", [](auto& q) { q.destination = q.source; }, {"web1", "host a", "--to"}},
        Refusal{"UnderWay",
                [](auto& q) {
                  q.migration_under_way = "00ff";
                  q.state = v1::VM_STATE_MIGRATING;
                },
                {"web1", "migration 00ff", "cancel"}},
        Refusal{"Stopped",
                [](auto& q) { q.state = v1::VM_STATE_STOPPED; },
                {"web1", "host a", "stopped", "vm start web1"}},
        Refusal{"Crashed", [](auto& q) { q.state = v1::VM_STATE_CRASHED; }, {"web1", "crashed"}},
        Refusal{"Paused", [](auto& q) { q.state = v1::VM_STATE_PAUSED; }, {"web1", "paused"}},
        Refusal{
            "UnknownState", [](auto& q) { q.state = v1::VM_STATE_UNKNOWN; }, {"web1", "unknown"}},
        Refusal{"SourceUnreachable",
                [](auto& q) {
                  q.source.reach = HostReach::kUnreachable;
                  q.source.reason = "connection refused";
                },
                {"host a", "web1", "connection refused", "sealift-agentd"}},
        Refusal{"DestinationUnreachable",
                [](auto& q) {
                  q.destination.reach = HostReach::kUnreachable;
                  q.destination.reason = "no route";
                },
                {"host b", "web1", "no route", "sealift-agentd"}},
        Refusal{"DestinationNotJoined",
                [](auto& q) { q.destination.reach = HostReach::kNotJoined; },
                {"host b", "has not joined", "--renew-token"}},
        Refusal{"OtherProtocol",
                [](auto& q) { q.destination.capabilities.set_protocol_version(2); },
                {"web1", "versions 1 and 2", "upgrade sealift on host a"}},
        Refusal{"OtherAccelerator",
                [](auto& q) {
                  q.destination.capabilities.set_accelerator("tcg");
                  q.destination.capabilities.set_accelerator_reason("no /dev/kvm");
                },
                {"web1", "kvm", "host b", "tcg", "no /dev/kvm"}},
        Refusal{"KvmDemandedButMissing",
                [](auto& q) {
                  q.vm.accelerator = hypervisor::Accelerator::kKvm;
                  q.destination.capabilities.set_accelerator("tcg");
                },
                {"web1 needs kvm", "host b"}},
        Refusal{"MachineMissing",
                [](auto& q) { q.vm.machine = "pc-q35-9.0"; },
                {"web1", "pc-q35-9.0", "host b", "QEMU 7.2.0", "pc-q35-7.2"}},
        Refusal{"CpuMissing",
                [](auto& q) { q.vm.cpu_model = "EPYC"; },
                {"web1", "EPYC", "host b", "Fictional CPU"}},
        Refusal{"OtherHostCpu",
                [](auto& q) {
                  q.vm.cpu_model = "host";
                  q.destination.capabilities.set_host_cpu_digest("d2");
                },
                {"web1", "'host'", "host b"}},
        Refusal{"OtherMaxCpu",
                [](auto& q) {
                  q.vm.cpu_model = "max";
                  q.destination.capabilities.set_host_cpu_digest("d2");
                },
                {"web1", "'max'", "host b"}},
        Refusal{"HostCpuNotReported",
                [](auto& q) {
                  q.vm.cpu_model = "host";
                  q.source.capabilities.clear_host_cpu_digest();
                  q.destination.capabilities.clear_host_cpu_digest();
                },
                {"web1", "'host'"}},
        Refusal{"DestinationIsDraining",
                [](auto& q) { q.destination.draining = true; },
                {"web1", "host b", "drained", "sealift host undrain b"}},
        Refusal{"NotEnoughMemory",
                [](auto& q) {
                  q.destination.capabilities.set_memory_available_bytes(std::uint64_t{1} << 30);
                },
                {"web1", "2GiB", "host b", "1024MiB"}},
        Refusal{"DirectIsAskedForAndAHostCannot",
                [](auto& q) {
                  q.engine = v1::ENGINE_DIRECT;
                  q.source.capabilities.set_direct_engine(true);
                  q.destination.capabilities.set_direct_reason("Linux 6.1 has no PAGEMAP_SCAN");
                },
                {"web1", "direct", "asked for", "host b: Linux 6.1", "--engine auto"}},
        Refusal{"DirectIsWantedAndTheVmCannot",
                [](auto& q) {
                  q.vm.engine = hypervisor::Engine::kDirect;
                  q.source.capabilities.set_direct_engine(true);
                  q.destination.capabilities.set_direct_engine(true);
                  q.direct_reason = "private memory";
                },
                {"web1", "the VM's definition", "private memory", "--engine auto"}},
        Refusal{"DestinationCannotEncrypt",
                [](auto& q) {
                  q.mode.mode = policy::EncryptionMode::kRequired;
                  q.destination.capabilities.clear_aead_backend();
                  q.destination.capabilities.set_aead_reason("self-test failed");
                },
                {"web1", "required", "host b", "self-test failed", "--encryption"}},
        Refusal{"SourceCannotEncrypt",
                [](auto& q) {
                  q.mode.mode = policy::EncryptionMode::kRequired;
                  q.source.capabilities.clear_aead_backend();
                },
                {"web1", "required", "host a"}}),
    [](const auto& test) { return test.param.name; });

TEST(PlannerTest, AForecastDoesNotMindWhetherTheVmRuns) {
  MigrationQuestion question = GoodQuestion();
  question.state = v1::VM_STATE_STOPPED;
  EXPECT_EQ(ForecastMove(question).outcome(), v1::MOVE_OUTCOME_ENCRYPTED);
  EXPECT_EQ(ForecastMove(question).host(), "b");
  question.mode = {policy::EncryptionMode::kDisabled, ""};
  EXPECT_EQ(ForecastMove(question).outcome(), v1::MOVE_OUTCOME_PLAIN);
  question.mode = {policy::EncryptionMode::kRequired, "raised from disabled to the floor of x"};
  question.destination.capabilities.clear_aead_backend();
  EXPECT_EQ(ForecastMove(question).outcome(), v1::MOVE_OUTCOME_REFUSED);
  EXPECT_THAT(ForecastMove(question).reason(), HasSubstr("floor of x"));
  question.destination.draining = true;
  EXPECT_THAT(ForecastMove(question).reason(), HasSubstr("drained"));
}

TEST(PlannerTest, AForecastMindsWhetherTheHostsHaveTheEngine) {
  MigrationQuestion question = GoodQuestion();
  question.vm.engine = hypervisor::Engine::kDirect;
  EXPECT_THAT(ForecastMove(question).reason(), HasSubstr("host a: its agent does not know"));
  question.source.capabilities.set_direct_engine(true);
  question.destination.capabilities.set_direct_engine(true);
  EXPECT_EQ(ForecastMove(question).outcome(), v1::MOVE_OUTCOME_ENCRYPTED);
}

TEST(PlannerTest, UnknownNamesAreNotFound) {
  EXPECT_EQ(NoSuchVm("web1").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(base::MessageOf(NoSuchVm("web1")), HasSubstr("'web1'"));
  EXPECT_EQ(NoSuchHost("c").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(base::MessageOf(NoSuchHost("c")), HasSubstr("'c'"));
}

}  // namespace
}  // namespace sealift::controller
