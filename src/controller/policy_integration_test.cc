// Modes, floors, users and rights against a real controller over real mutual TLS. Only the hosts
// are fictional.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/file.h"
#include "controller/test_controller.h"

namespace sealift::controller {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kDisabled = v1::ENCRYPTION_MODE_DISABLED;
constexpr auto kOpportunistic = v1::ENCRYPTION_MODE_OPPORTUNISTIC;
constexpr auto kRequired = v1::ENCRYPTION_MODE_REQUIRED;

class PolicyTest : public ::testing::Test {
 protected:
  PolicyTest() {
    controller_.Join("a", a_);
    controller_.Join("b", b_);
  }

  void CreateVm(const std::string& name, const std::string& more = "") {
    const grpc::Status status =
        controller_.CreateVm(fmt::format("name: {}\nmemory: 512MiB\n{}", name, more), "a");
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  v1::SetVmsResponse Set(const v1::SetVmsRequest& request) {
    v1::SetVmsResponse response;
    ShortCall call;
    const grpc::Status status = controller_.admin().vms->Set(&call, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  v1::VmChanged SetMode(const std::string& vm, v1::EncryptionMode mode) {
    v1::SetVmsRequest request;
    request.add_changes()->set_name(vm);
    request.mutable_changes(0)->set_encryption(mode);
    return Set(request).results(0);
  }
  static v1::SetPolicyRequest Floor(v1::EncryptionMode floor, const std::string& group = "") {
    v1::SetPolicyRequest request;
    request.set_group(group);
    request.set_floor(floor);
    return request;
  }
  grpc::Status SetPolicy(OperatorClient& client, const v1::SetPolicyRequest& request) {
    v1::Policy response;
    ShortCall call;
    return client.policy->Set(&call, request, &response);
  }
  grpc::Status SetGroup(OperatorClient& client, const std::string& host, const std::string& group) {
    v1::SetHostRequest request;
    request.set_name(host);
    request.set_group(group);
    v1::Host response;
    ShortCall call;
    return client.hosts->Set(&call, request, &response);
  }
  grpc::Status Migrate(OperatorClient& client, const std::string& vm, const std::string& to = "b",
                       v1::Migration* migration = nullptr) {
    v1::StartMigrationRequest request;
    request.set_vm(vm);
    request.set_to(to);
    v1::Migration response;
    ShortCall call;
    const grpc::Status status = client.migrations->Start(&call, request, &response);
    if (migration != nullptr) *migration = response;
    return status;
  }
  v1::AgentVm AtAgent(FakeAgent& agent, const std::string& vm) {
    const v1::AgentStatus report = agent.Report();
    for (const v1::AgentVm& candidate : report.vms()) {
      if (candidate.name() == vm) return candidate;
    }
    return {};
  }
  // The agent gets to know sooner or later.
  bool AwaitModeAt(FakeAgent& agent, const std::string& vm, v1::EncryptionMode mode) {
    for (int i = 0; i < 1000; ++i) {
      if (AtAgent(agent, vm).encryption() == mode && !controller_.GetVm(vm).encryption_pending()) {
        return true;
      }
      static_cast<void>(controller_.LastEvent());  // a round trip
    }
    return false;
  }

  TestController controller_;
  FakeAgent a_;
  FakeAgent b_;
};

// ---- Modes

TEST_F(PolicyTest, AModeIsChangedWhileTheVmRunsAndItsHostIsTold) {
  CreateVm("web1");
  const v1::VmChanged result = SetMode("web1", kRequired);
  EXPECT_TRUE(result.ok() && result.changed());
  EXPECT_FALSE(result.pending());
  EXPECT_EQ(result.before(), kOpportunistic);
  EXPECT_EQ(AtAgent(a_, "web1").encryption(), kRequired);
  EXPECT_FALSE(SetMode("web1", kRequired).changed());
}

TEST_F(PolicyTest, AHostThatIsAwayShowsAsPendingUntilItIsBack) {
  CreateVm("web1");
  controller_.Lose("a", a_);
  EXPECT_TRUE(SetMode("web1", kRequired).pending());
  EXPECT_TRUE(controller_.GetVm("web1").encryption_pending());
  EXPECT_EQ(AtAgent(a_, "web1").encryption(), kOpportunistic);
  controller_.Reconnect("a", a_);
  EXPECT_TRUE(AwaitModeAt(a_, "web1", kRequired));
}

TEST_F(PolicyTest, AVmThatIsDeletedWhileItsHostIsToldOfOthersStaysDeleted) {
  CreateVm("web1");
  CreateVm("web2");
  controller_.Lose("a", a_);
  SetMode("web1", kRequired);
  SetMode("web2", kRequired);
  a_.Change([](v1::AgentStatus& status) {
    for (v1::AgentVm& vm : *status.mutable_vms()) vm.set_state(v1::VM_STATE_STOPPED);
  });
  a_.Hold("PutVm");
  const int told = a_.Called("PutVm");
  controller_.Reconnect("a", a_);
  ASSERT_TRUE(a_.WaitFor("PutVm", told + 1));
  v1::DeleteVmRequest request;
  request.set_name("web2");
  v1::DeleteVmResponse response;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().vms->Delete(&call, request, &response).ok());
  a_.Release();
  EXPECT_TRUE(AwaitModeAt(a_, "web1", kRequired));
  ASSERT_TRUE(a_.WaitFor("GetStatus", a_.Called("GetStatus") + 3));
  EXPECT_EQ(a_.Epoch("web2"), 0U);
}

TEST_F(PolicyTest, AMigrationWaitsUntilTheSourceKnowsTheMode) {
  CreateVm("web1");
  a_.Fail("PutVm", {grpc::StatusCode::INTERNAL, "disk full"});
  EXPECT_TRUE(SetMode("web1", kRequired).pending());
  const grpc::Status refused = Migrate(controller_.admin(), "web1");
  EXPECT_THAT(refused.error_message(), HasSubstr("has not been told the mode of VM web1"));
  EXPECT_EQ(a_.Called("PrepareSource"), 0);
  a_.Fail("PutVm", grpc::Status::OK);
  v1::Migration migration;
  ASSERT_TRUE(Migrate(controller_.admin(), "web1", "b", &migration).ok());
  EXPECT_EQ(AtAgent(a_, "web1").encryption(), kRequired);
  EXPECT_EQ(migration.mode(), kRequired);
}

TEST_F(PolicyTest, OneThatFailsDoesNotStopTheOthers) {
  CreateVm("web1");
  CreateVm("vault", "encrypted: true\n");
  v1::SetVmsRequest request;
  for (const char* name : {"web1", "nobody", "vault"}) {
    request.add_changes()->set_name(name);
    request.mutable_changes()->rbegin()->set_encryption(kDisabled);
  }
  const v1::SetVmsResponse response = Set(request);
  EXPECT_TRUE(response.results(0).ok());
  EXPECT_THAT(response.results(1).error(), HasSubstr("no VM named 'nobody'"));
  EXPECT_THAT(response.results(2).error(), HasSubstr("VM vault is encrypted"));
  EXPECT_EQ(controller_.GetVm("web1").encryption(), kDisabled);
  EXPECT_EQ(controller_.GetVm("vault").encryption(), kRequired);
}

TEST_F(PolicyTest, ADryRunChangesNothing) {
  CreateVm("web1");
  v1::SetVmsRequest request;
  request.set_all(true);
  request.mutable_change()->set_encryption(kRequired);
  request.set_dry_run(true);
  const v1::SetVmsResponse response = Set(request);
  EXPECT_TRUE(response.results(0).changed());
  EXPECT_EQ(controller_.GetVm("web1").encryption(), kOpportunistic);
  EXPECT_EQ(AtAgent(a_, "web1").policy_version(), 1U);
}

TEST_F(PolicyTest, VmsAreChosenByTheirLabels) {
  CreateVm("web1", "labels: {env: prod}\n");
  CreateVm("web2", "labels: {env: test}\n");
  v1::SetVmsRequest request;
  request.set_selector("env=prod");
  request.mutable_change()->set_encryption(kRequired);
  (*request.mutable_change()->mutable_set_labels())["checked"] = "yes";
  request.mutable_change()->add_remove_labels("env");
  EXPECT_EQ(Set(request).results_size(), 1);
  EXPECT_EQ(controller_.GetVm("web1").encryption(), kRequired);
  EXPECT_EQ(controller_.GetVm("web1").labels().count("env"), 0U);
  EXPECT_EQ(controller_.GetVm("web1").labels().at("checked"), "yes");
  EXPECT_EQ(controller_.GetVm("web2").encryption(), kOpportunistic);
}

TEST_F(PolicyTest, ChangesOfOneVmAtTheSameTimeDoNotUndoEachOther) {
  CreateVm("web1");
  const auto change = [&](const std::string& label, v1::EncryptionMode mode) {
    for (int i = 0; i < 20; ++i) {
      v1::SetVmsRequest request;
      v1::VmChange& one = *request.add_changes();
      one.set_name("web1");
      one.set_encryption(mode);
      (*one.mutable_set_labels())[fmt::format("{}{}", label, i)] = "";
      EXPECT_TRUE(Set(request).results(0).ok());
    }
  };
  std::thread other([&] { change("a", v1::ENCRYPTION_MODE_UNSPECIFIED); });
  change("b", kRequired);
  other.join();
  EXPECT_EQ(controller_.GetVm("web1").encryption(), kRequired);
  EXPECT_EQ(controller_.GetVm("web1").labels_size(), 40);
}

TEST_F(PolicyTest, ARequestThatDoesNotSayWhichVmsIsRefused) {
  v1::SetVmsResponse response;
  for (const bool both : {false, true}) {
    v1::SetVmsRequest request;
    request.mutable_change()->set_encryption(kRequired);
    request.set_all(both);
    if (both) request.set_selector("a=b");
    ShortCall call;
    EXPECT_EQ(controller_.admin().vms->Set(&call, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_F(PolicyTest, AnEncryptedVmStaysRequiredWhenTheFlagGoes) {
  CreateVm("vault", "encrypted: true\n");
  EXPECT_TRUE(controller_.GetVm("vault").encrypted());
  v1::SetVmsRequest request;
  request.add_changes()->set_name("vault");
  request.mutable_changes(0)->set_encrypted(false);
  EXPECT_TRUE(Set(request).results(0).ok());
  EXPECT_FALSE(controller_.GetVm("vault").encrypted());
  EXPECT_EQ(controller_.GetVm("vault").encryption(), kRequired);
  EXPECT_TRUE(SetMode("vault", kDisabled).ok());
}

// ---- Floors and defaults

TEST_F(PolicyTest, AFloorRaisesTheModeInForceAndEveryAgentIsTold) {
  CreateVm("web1", "encryption: disabled\n");
  ASSERT_TRUE(SetPolicy(controller_.admin(), Floor(kRequired)).ok());
  EXPECT_TRUE(AwaitModeAt(a_, "web1", kRequired));
  const v1::Vm vm = controller_.GetVm("web1");
  EXPECT_EQ(vm.encryption(), kDisabled);
  EXPECT_EQ(vm.effective_encryption(), kRequired);
  EXPECT_THAT(vm.effective_reason(), HasSubstr("floor of the installation"));
  ASSERT_TRUE(SetPolicy(controller_.admin(), Floor(v1::ENCRYPTION_MODE_UNSPECIFIED)).ok());
  EXPECT_TRUE(AwaitModeAt(a_, "web1", kDisabled));
}

TEST_F(PolicyTest, NothingBelowAFloorIsSetOrCreated) {
  CreateVm("web1");
  ASSERT_TRUE(SetPolicy(controller_.admin(), Floor(kOpportunistic)).ok());
  EXPECT_THAT(SetMode("web1", kDisabled).error(), HasSubstr("below the floor"));
  const grpc::Status refused =
      controller_.CreateVm("name: web2\nmemory: 512MiB\nencryption: disabled\n", "a");
  EXPECT_THAT(refused.error_message(), HasSubstr("below the floor"));
  EXPECT_EQ(AtAgent(a_, "web2").name(), "");
}

TEST_F(PolicyTest, ANewVmGetsTheDefaultOfItsGroupButNeverBelowAFloor) {
  ASSERT_TRUE(SetGroup(controller_.admin(), "a", "prod").ok());
  v1::SetPolicyRequest defaults;
  defaults.set_group("prod");
  defaults.set_default_mode(kDisabled);
  ASSERT_TRUE(SetPolicy(controller_.admin(), defaults).ok());
  CreateVm("web1");
  EXPECT_EQ(controller_.GetVm("web1").encryption(), kDisabled);
  ASSERT_TRUE(SetPolicy(controller_.admin(), Floor(kRequired)).ok());
  CreateVm("web2");
  EXPECT_EQ(controller_.GetVm("web2").encryption(), kRequired);
}

TEST_F(PolicyTest, TheFloorsOfBothHostsCountOnTheWay) {
  CreateVm("web1", "encryption: disabled\n");
  ASSERT_TRUE(SetGroup(controller_.admin(), "b", "prod").ok());
  ASSERT_TRUE(SetPolicy(controller_.admin(), Floor(kRequired, "prod")).ok());
  v1::Migration migration;
  ASSERT_TRUE(Migrate(controller_.admin(), "web1", "b", &migration).ok());
  EXPECT_TRUE(migration.encrypted());
  EXPECT_EQ(migration.mode(), kRequired);
  EXPECT_THAT(migration.decision_reason(), HasSubstr("floor of group prod"));
}

TEST_F(PolicyTest, AVmShowsWhatWouldHappenNow) {
  CreateVm("web1", "encryption: required\n");
  EXPECT_EQ(controller_.GetVm("web1").moves(0).host(), "b");
  EXPECT_EQ(controller_.GetVm("web1").moves(0).outcome(), v1::MOVE_OUTCOME_ENCRYPTED);
  b_.Change([](v1::AgentStatus& status) {
    status.mutable_capabilities()->clear_aead_backend();
    status.mutable_capabilities()->set_aead_reason("crypto is off");
  });
  for (int i = 0; i < 1000; ++i) {
    if (controller_.GetVm("web1").moves(0).outcome() != v1::MOVE_OUTCOME_ENCRYPTED) break;
  }
  EXPECT_EQ(controller_.GetVm("web1").moves(0).outcome(), v1::MOVE_OUTCOME_REFUSED);
  EXPECT_THAT(controller_.GetVm("web1").moves(0).reason(), HasSubstr("crypto is off"));
  SetMode("web1", kOpportunistic);
  v1::CheckPolicyResponse response;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().policy->Check(&call, {}, &response).ok());
  EXPECT_EQ(response.vms(0).moves(0).outcome(), v1::MOVE_OUTCOME_PLAIN);
}

// ---- Draining

TEST_F(PolicyTest, ADrainedHostTakesNoVmsAndSaysWhereItsOwnMayGo) {
  CreateVm("web1");
  CreateVm("vault", "encrypted: true\n");
  v1::DrainHostRequest request;
  request.set_name("a");
  v1::DrainHostResponse plan;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().hosts->Drain(&call, request, &plan).ok());
  EXPECT_TRUE(plan.host().draining());
  ASSERT_EQ(plan.steps_size(), 2);
  for (const v1::DrainStep& step : plan.steps()) {
    EXPECT_EQ(step.to(), "b") << step.reason();
    EXPECT_EQ(step.outcome(), v1::MOVE_OUTCOME_ENCRYPTED);
  }
  request.set_name("b");
  ShortCall second;
  ASSERT_TRUE(controller_.admin().hosts->Drain(&second, request, &plan).ok());
  EXPECT_THAT(Migrate(controller_.admin(), "web1").error_message(), HasSubstr("being drained"));
  v1::UndrainHostRequest undrain;
  undrain.set_name("b");
  v1::Host host;
  ShortCall third;
  ASSERT_TRUE(controller_.admin().hosts->Undrain(&third, undrain, &host).ok());
  EXPECT_FALSE(host.draining());
  EXPECT_TRUE(Migrate(controller_.admin(), "web1").ok());
}

TEST_F(PolicyTest, WhatCannotLeaveADrainedHostIsSaidWithTheReason) {
  CreateVm("vault", "encrypted: true\n");
  controller_.Lose("b", b_);
  v1::DrainHostRequest request;
  request.set_name("a");
  request.set_dry_run(true);
  v1::DrainHostResponse plan;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().hosts->Drain(&call, request, &plan).ok());
  EXPECT_FALSE(plan.host().draining());
  EXPECT_EQ(plan.steps(0).to(), "");
  EXPECT_THAT(plan.steps(0).reason(), HasSubstr("host b does not answer"));
}

// ---- Rights

struct RightCase {
  const char* what;
  v1::UserRole least;
  grpc::Status (*act)(OperatorClient& client);
};

template <typename Response, typename Stub, typename Request>
grpc::Status Call(Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request = {}) {
  Response response;
  ShortCall call;
  return (stub.*method)(&call, request, &response);
}

const RightCase kRightCases[] = {
    {"see VMs", v1::USER_ROLE_VIEWER,
     [](OperatorClient& c) {
       return Call<v1::ListVmsResponse>(*c.vms, &v1::VmService::Stub::List, {});
     }},
    {"start a VM", v1::USER_ROLE_OPERATOR,
     [](OperatorClient& c) { return Call<v1::Vm>(*c.vms, &v1::VmService::Stub::Start, {}); }},
    {"stop a VM", v1::USER_ROLE_OPERATOR,
     [](OperatorClient& c) { return Call<v1::Vm>(*c.vms, &v1::VmService::Stub::Stop, {}); }},
    {"create a VM", v1::USER_ROLE_OPERATOR,
     [](OperatorClient& c) { return Call<v1::Vm>(*c.vms, &v1::VmService::Stub::Create, {}); }},
    {"delete a VM", v1::USER_ROLE_OPERATOR,
     [](OperatorClient& c) {
       return Call<v1::DeleteVmResponse>(*c.vms, &v1::VmService::Stub::Delete, {});
     }},
    {"migrate", v1::USER_ROLE_OPERATOR,
     [](OperatorClient& c) {
       return Call<v1::Migration>(*c.migrations, &v1::MigrationService::Stub::Start, {});
     }},
    {"cancel", v1::USER_ROLE_OPERATOR,
     [](OperatorClient& c) {
       return Call<v1::Migration>(*c.migrations, &v1::MigrationService::Stub::Cancel, {});
     }},
    {"drain", v1::USER_ROLE_OPERATOR,
     [](OperatorClient& c) {
       return Call<v1::DrainHostResponse>(*c.hosts, &v1::HostService::Stub::Drain, {});
     }},
    {"change modes", v1::USER_ROLE_ADMIN,
     [](OperatorClient& c) {
       return Call<v1::SetVmsResponse>(*c.vms, &v1::VmService::Stub::Set, {});
     }},
    {"change floors", v1::USER_ROLE_ADMIN,
     [](OperatorClient& c) {
       return Call<v1::Policy>(*c.policy, &v1::PolicyService::Stub::Set, {});
     }},
    {"add hosts", v1::USER_ROLE_ADMIN,
     [](OperatorClient& c) {
       return Call<v1::AddHostResponse>(*c.hosts, &v1::HostService::Stub::Add, {});
     }},
    {"remove hosts", v1::USER_ROLE_ADMIN,
     [](OperatorClient& c) {
       return Call<v1::RemoveHostResponse>(*c.hosts, &v1::HostService::Stub::Remove, {});
     }},
    {"add users", v1::USER_ROLE_ADMIN,
     [](OperatorClient& c) {
       return Call<v1::AddUserResponse>(*c.users, &v1::UserService::Stub::Add, {});
     }},
    {"list users", v1::USER_ROLE_ADMIN,
     [](OperatorClient& c) {
       return Call<v1::ListUsersResponse>(*c.users, &v1::UserService::Stub::List, {});
     }},
    {"revoke users", v1::USER_ROLE_ADMIN,
     [](OperatorClient& c) {
       return Call<v1::RevokeUserResponse>(*c.users, &v1::UserService::Stub::Revoke, {});
     }},
};

TEST_F(PolicyTest, EveryCallNeedsItsRight) {
  for (const v1::UserRole role :
       {v1::USER_ROLE_VIEWER, v1::USER_ROLE_OPERATOR, v1::USER_ROLE_ADMIN}) {
    OperatorClient client =
        controller_.AddUser(fmt::format("user{}", static_cast<int>(role)), role);
    for (const RightCase& item : kRightCases) {
      const bool denied = item.act(client).error_code() == grpc::StatusCode::PERMISSION_DENIED;
      EXPECT_EQ(denied, role < item.least) << item.what << " as " << v1::UserRole_Name(role);
    }
  }
}

TEST_F(PolicyTest, AnEncryptedVmNeedsARightOfItsOwn) {
  CreateVm("vault", "encrypted: true\n");
  OperatorClient plain = controller_.AddUser("kim", v1::USER_ROLE_OPERATOR);
  EXPECT_EQ(Migrate(plain, "vault").error_code(), grpc::StatusCode::PERMISSION_DENIED);
  OperatorClient trusted =
      controller_.AddUser("lee", v1::USER_ROLE_OPERATOR, {"migrate-encrypted"});
  EXPECT_TRUE(Migrate(trusted, "vault").ok());
}

TEST_F(PolicyTest, RaisingAFloorAndLoweringOneAreTwoRights) {
  OperatorClient raiser = controller_.AddUser("kim", v1::USER_ROLE_OPERATOR, {"change-mode"});
  EXPECT_TRUE(SetPolicy(raiser, Floor(kRequired)).ok());
  EXPECT_EQ(SetPolicy(raiser, Floor(kOpportunistic)).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(SetPolicy(raiser, Floor(v1::ENCRYPTION_MODE_UNSPECIFIED)).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  OperatorClient mover = controller_.AddUser("lee", v1::USER_ROLE_OPERATOR, {"manage-hosts"});
  ASSERT_TRUE(SetPolicy(controller_.admin(), Floor(kRequired, "prod")).ok());
  EXPECT_TRUE(SetGroup(mover, "a", "prod").ok());
  EXPECT_TRUE(SetGroup(mover, "a", "").ok()) << "the floor of the installation is as high";
  EXPECT_TRUE(SetGroup(mover, "a", "prod").ok());
  ASSERT_TRUE(SetPolicy(controller_.admin(), Floor(v1::ENCRYPTION_MODE_UNSPECIFIED)).ok());
  EXPECT_EQ(SetGroup(mover, "a", "").error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(SetGroup(controller_.admin(), "a", "").ok());
}

// ---- Users

TEST_F(PolicyTest, ARevokedUserIsOutAtOnceOnAnOpenConnectionToo) {
  OperatorClient kim = controller_.AddUser("kim", v1::USER_ROLE_VIEWER);
  const auto list = [&] {
    return Call<v1::ListVmsResponse>(*kim.vms, &v1::VmService::Stub::List, {});
  };
  EXPECT_TRUE(list().ok());
  v1::RevokeUserRequest request;
  request.set_name("kim");
  EXPECT_TRUE(Call<v1::RevokeUserResponse>(*controller_.admin().users,
                                           &v1::UserService::Stub::Revoke, request)
                  .ok());
  EXPECT_EQ(list().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  // A namesake does not revive the old certificate.
  OperatorClient namesake = controller_.AddUser("kim", v1::USER_ROLE_VIEWER);
  EXPECT_EQ(list().error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(PolicyTest, TheLastAdministratorStays) {
  v1::RevokeUserRequest request;
  request.set_name("admin");
  const auto revoke = [&](OperatorClient& client) {
    return Call<v1::RevokeUserResponse>(*client.users, &v1::UserService::Stub::Revoke, request);
  };
  EXPECT_EQ(revoke(controller_.admin()).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  OperatorClient other = controller_.AddUser("second", v1::USER_ROLE_ADMIN);
  EXPECT_TRUE(revoke(other).ok());
  EXPECT_EQ(revoke(controller_.admin()).error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(PolicyTest, BadUsersAreRefused) {
  const auto add = [&](const std::string& name, v1::UserRole role, const std::string& right) {
    v1::AddUserRequest request;
    request.set_name(name);
    request.set_role(role);
    if (!right.empty()) request.add_rights(right);
    request.set_certificate_request_pem("not a request");
    return Call<v1::AddUserResponse>(*controller_.admin().users, &v1::UserService::Stub::Add,
                                     request)
        .error_code();
  };
  EXPECT_EQ(add("Kim", v1::USER_ROLE_VIEWER, ""), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(add("kim", v1::USER_ROLE_UNSPECIFIED, ""), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(add("kim", v1::USER_ROLE_VIEWER, "fly"), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(add("kim", v1::USER_ROLE_VIEWER, ""), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(add("admin", v1::USER_ROLE_ADMIN, ""), grpc::StatusCode::ALREADY_EXISTS);
  v1::ListUsersResponse users;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().users->List(&call, {}, &users).ok());
  EXPECT_EQ(users.users_size(), 1) << "a user without a certificate is not left behind";
}

TEST_F(PolicyTest, ALostAdministratorGetsAnotherContextOnTheControllersMachine) {
  const base::SystemClock clock;
  const std::string file = controller_.folder() + "/another.pem";
  const auto make = [&] {
    return MakeAdminContext(controller_.folder() + "/state", clock,
                            [&](const AdminContext& context) {
                              return base::WriteFileDurably(file, context.identity_pem);
                            });
  };
  EXPECT_EQ(make().code(), absl::StatusCode::kFailedPrecondition) << "the controller runs";
  controller_.Stop();
  ASSERT_TRUE(make().ok());
  controller_.Start();
  OperatorClient again = controller_.ClientWith({file, controller_.admin_files().ca});
  EXPECT_TRUE(SetPolicy(again, Floor(kRequired)).ok());
}

// ---- Audit

TEST_F(PolicyTest, TheAuditListsWhatWentInTheClear) {
  CreateVm("web1", "encryption: disabled\n");
  CreateVm("web2");
  ASSERT_TRUE(Migrate(controller_.admin(), "web1").ok());
  ASSERT_TRUE(Migrate(controller_.admin(), "web2").ok());
  const auto audit = [&](const v1::AuditMigrationsRequest& request) {
    std::vector<std::string> vms;
    ShortCall call;
    const auto stream = controller_.admin().migrations->Audit(&call, request);
    v1::Migration migration;
    while (stream->Read(&migration)) vms.push_back(migration.vm());
    EXPECT_TRUE(stream->Finish().ok());
    return vms;
  };
  v1::AuditMigrationsRequest request;
  EXPECT_THAT(audit(request), ElementsAre("web2", "web1"));
  request.set_in_the_clear(true);
  EXPECT_THAT(audit(request), ElementsAre("web1"));
  request.set_vm("web2");
  EXPECT_THAT(audit(request), IsEmpty());
  v1::AuditMigrationsRequest later;
  later.set_since_ms(base::UnixMillis(base::SystemClock().Now()) + 60'000);
  EXPECT_THAT(audit(later), IsEmpty());
  v1::AuditMigrationsRequest earlier;
  earlier.set_until_ms(1);
  EXPECT_THAT(audit(earlier), IsEmpty());
}

}  // namespace
}  // namespace sealift::controller
