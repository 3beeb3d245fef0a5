// What a client gets that repeats a call because it has not heard the answer: the answer, and
// nothing is done twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "controller/test_controller.h"
#include "pki/certificate.h"

namespace sealift::controller {
namespace {

using ::testing::HasSubstr;

constexpr char kVm[] = "name: web1\nmemory: 512MiB\nencryption: required\n";

class RepeatedCallsTest : public ::testing::Test {
 protected:
  void SetUp() override { controller_.Join("a", a_); }

  template <typename Response, typename Stub, typename Request>
  static grpc::Status Call(Stub& stub,
                           grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                        Response*),
                           const Request& request, Response* response = nullptr) {
    Response ignored;
    ShortCall call;
    return (stub.*method)(&call, request, response == nullptr ? &ignored : response);
  }
  template <typename Request>
  static Request Named(const std::string& name) {
    Request request;
    request.set_name(name);
    return request;
  }

  grpc::Status Create(const std::string& yaml, const std::string& host = "", bool start = false,
                      v1::Vm* vm = nullptr) {
    v1::CreateVmRequest request;
    request.set_definition_yaml(yaml);
    request.set_host(host);
    request.set_start(start);
    return Call<v1::Vm>(*admin().vms, &v1::VmService::Stub::Create, request, vm);
  }
  grpc::Status StartVm(v1::Vm* vm = nullptr) {
    return Call<v1::Vm>(*admin().vms, &v1::VmService::Stub::Start,
                        Named<v1::StartVmRequest>("web1"), vm);
  }
  grpc::Status StopVm(v1::Vm* vm = nullptr) {
    return Call<v1::Vm>(*admin().vms, &v1::VmService::Stub::Stop, Named<v1::StopVmRequest>("web1"),
                        vm);
  }
  grpc::Status DeleteVm() {
    return Call<v1::DeleteVmResponse>(*admin().vms, &v1::VmService::Stub::Delete,
                                      Named<v1::DeleteVmRequest>("web1"));
  }
  grpc::Status AddHost(const v1::AddHostRequest& request, v1::AddHostResponse* response) {
    return Call<v1::AddHostResponse>(*admin().hosts, &v1::HostService::Stub::Add, request,
                                     response);
  }
  grpc::Status RemoveHost(const std::string& name) {
    return Call<v1::RemoveHostResponse>(*admin().hosts, &v1::HostService::Stub::Remove,
                                        Named<v1::RemoveHostRequest>(name));
  }
  grpc::Status AddUser(const v1::AddUserRequest& request, v1::AddUserResponse* response) {
    return Call<v1::AddUserResponse>(*admin().users, &v1::UserService::Stub::Add, request,
                                     response);
  }
  grpc::Status RevokeUser(const std::string& name) {
    return Call<v1::RevokeUserResponse>(*admin().users, &v1::UserService::Stub::Revoke,
                                        Named<v1::RevokeUserRequest>(name));
  }
  // How often it happened.
  long Count(const std::string& type) {
    return std::ranges::count(controller_.Events(), type,
                              [](const v1::Event& e) { return e.type(); });
  }
  OperatorClient& admin() { return controller_.admin(); }

  TestController controller_;
  FakeAgent a_;
};

TEST_F(RepeatedCallsTest, AVmIsCreatedOnce) {
  v1::Vm first;
  v1::Vm again;
  ASSERT_TRUE(Create(kVm, "a", false, &first).ok());
  ASSERT_TRUE(Create(kVm, "a", false, &again).ok());
  EXPECT_EQ(again.uuid(), first.uuid());
  EXPECT_EQ(again.state(), v1::VM_STATE_STOPPED);
  EXPECT_TRUE(Create(kVm).ok()) << "the host was chosen for the client";
  EXPECT_EQ(Count("vm.created"), 1);
}

TEST_F(RepeatedCallsTest, ACreationWithStartIsFinishedAndNotDoneTwice) {
  a_.Fail("StartVm", {grpc::StatusCode::UNAVAILABLE, "later"});
  EXPECT_FALSE(Create(kVm, "a", true).ok());
  a_.Fail("StartVm", grpc::Status::OK);
  v1::Vm vm;
  ASSERT_TRUE(Create(kVm, "a", true, &vm).ok());
  EXPECT_EQ(vm.state(), v1::VM_STATE_RUNNING);
  const int started = a_.Called("StartVm");
  ASSERT_TRUE(Create(kVm, "a", true, &vm).ok());
  EXPECT_EQ(a_.Called("StartVm"), started);
  EXPECT_EQ(Count("vm.created"), 1);
  EXPECT_EQ(Count("vm.started"), 1);
}

TEST_F(RepeatedCallsTest, AnotherVmOfTheSameNameIsRefused) {
  ASSERT_TRUE(Create(kVm, "a").ok());
  for (const std::string other : {"name: web1\nmemory: 1GiB\nencryption: required\n",
                                  "name: web1\nmemory: 512MiB\nencryption: opportunistic\n",
                                  "name: web1\nmemory: 512MiB\nencryption: required\nuuid: "
                                  "01234567-89ab-4def-8123-456789abcdef\n"}) {
    const grpc::Status status = Create(other, "a");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS) << other;
    EXPECT_THAT(status.error_message(), HasSubstr("choose another name"));
  }
}

TEST_F(RepeatedCallsTest, AVmIsStartedStoppedAndDeletedOnce) {
  ASSERT_TRUE(Create(kVm).ok());
  for (int i = 0; i < 2; ++i) {
    v1::Vm vm;
    ASSERT_TRUE(StartVm(&vm).ok());
    EXPECT_EQ(vm.state(), v1::VM_STATE_RUNNING);
    EXPECT_EQ(vm.epoch(), 1U);
  }
  for (int i = 0; i < 2; ++i) {
    v1::Vm vm;
    ASSERT_TRUE(StopVm(&vm).ok());
    EXPECT_EQ(vm.state(), v1::VM_STATE_STOPPED);
  }
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(DeleteVm().ok());
  EXPECT_EQ(a_.Called("StartVm"), 1);
  EXPECT_EQ(a_.Called("StopVm"), 1);
  EXPECT_EQ(a_.Called("ForgetVm"), 1);
  for (const char* type : {"vm.started", "vm.stopped", "vm.deleted"}) EXPECT_EQ(Count(type), 1);
  EXPECT_EQ(StartVm().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(RepeatedCallsTest, AfterADeletionTheNameIsFree) {
  ASSERT_TRUE(Create(kVm).ok());
  ASSERT_TRUE(DeleteVm().ok());
  v1::Vm vm;
  ASSERT_TRUE(Create(kVm, "", false, &vm).ok());
  EXPECT_EQ(Count("vm.created"), 2);
  ASSERT_TRUE(DeleteVm().ok());
  EXPECT_EQ(a_.Report().vms_size(), 0) << "the second one is deleted, too";
}

TEST_F(RepeatedCallsTest, AHostThatHasNotJoinedGetsAFreshToken) {
  v1::AddHostRequest request;
  request.set_name("b");
  request.set_address("192.0.2.2");
  v1::AddHostResponse first;
  v1::AddHostResponse again;
  ASSERT_TRUE(AddHost(request, &first).ok());
  ASSERT_TRUE(AddHost(request, &again).ok());
  EXPECT_EQ(again.host().address(), first.host().address());
  EXPECT_EQ(Count("host.added"), 2) << "a and b";
  EXPECT_FALSE(controller_.Enrol(*pki::DecodeJoinToken(first.token()), "b").ok());
  ASSERT_TRUE(controller_.Enrol(*pki::DecodeJoinToken(again.token()), "b").ok());
  EXPECT_EQ(AddHost(request, &again).error_code(), grpc::StatusCode::ALREADY_EXISTS)
      << "somebody has its certificate now";
}

TEST_F(RepeatedCallsTest, AHostIsRemovedAndAUserRevokedOnce) {
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(RemoveHost("a").ok());
  EXPECT_EQ(Count("host.removed"), 1);
  EXPECT_EQ(RemoveHost("b").error_code(), grpc::StatusCode::NOT_FOUND);
  (void)controller_.AddUser("kim", v1::USER_ROLE_VIEWER);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(RevokeUser("kim").ok());
  EXPECT_EQ(Count("user.revoked"), 1);
  EXPECT_EQ(RevokeUser("lee").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(RepeatedCallsTest, AUserIsMadeOnceForOneKey) {
  v1::AddUserRequest request;
  request.set_name("kim");
  request.set_role(v1::USER_ROLE_OPERATOR);
  const std::string key = *pki::GeneratePrivateKey();
  const pki::Identity kim{controller_.trust_domain(), pki::Role::kOperator, "kim"};
  request.set_certificate_request_pem(*pki::MakeRequest(key, kim));
  v1::AddUserResponse first;
  v1::AddUserResponse again;
  ASSERT_TRUE(AddUser(request, &first).ok());
  ASSERT_TRUE(AddUser(request, &again).ok());
  EXPECT_EQ(again.user().created_ms(), first.user().created_ms());
  EXPECT_EQ(Count("user.added"), 1);

  const rpc::CredentialFiles files{controller_.folder() + "/kim.pem", controller_.admin_files().ca};
  ASSERT_TRUE(base::WriteFileDurably(files.identity, key + again.certificate_chain_pem()).ok());
  OperatorClient client = controller_.ClientWith(files);
  EXPECT_TRUE(Call<v1::ListVmsResponse>(*client.vms, &v1::VmService::Stub::List, {}).ok());

  v1::AddUserRequest other = request;
  other.set_role(v1::USER_ROLE_ADMIN);
  EXPECT_EQ(AddUser(other, &again).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  other = request;
  other.set_certificate_request_pem(*pki::MakeRequest(*pki::GeneratePrivateKey(), kim));
  EXPECT_EQ(AddUser(other, &again).error_code(), grpc::StatusCode::ALREADY_EXISTS)
      << "another key is another person's";
}

TEST_F(RepeatedCallsTest, APolicyIsChangedOnce) {
  ASSERT_TRUE(Create(kVm).ok());
  v1::SetPolicyRequest request;
  request.set_floor(v1::ENCRYPTION_MODE_REQUIRED);
  v1::Policy policy;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(
        Call<v1::Policy>(*admin().policy, &v1::PolicyService::Stub::Set, request, &policy).ok());
    EXPECT_EQ(policy.floor(), v1::ENCRYPTION_MODE_REQUIRED);
  }
  EXPECT_EQ(Count("policy.changed"), 1);
}

TEST_F(RepeatedCallsTest, AHostIsConfirmedDeadOnce) {
  controller_.Lose("a", a_);
  v1::Host first;
  v1::Host again;
  const auto request = Named<v1::ConfirmDeadHostRequest>("a");
  ASSERT_TRUE(
      Call<v1::Host>(*admin().hosts, &v1::HostService::Stub::ConfirmDead, request, &first).ok());
  ASSERT_TRUE(
      Call<v1::Host>(*admin().hosts, &v1::HostService::Stub::ConfirmDead, request, &again).ok());
  EXPECT_EQ(again.dead_since_ms(), first.dead_since_ms());
  EXPECT_EQ(Count("host.confirmed_dead"), 1);
}

}  // namespace
}  // namespace sealift::controller
