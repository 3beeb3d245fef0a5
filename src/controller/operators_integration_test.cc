// Operators, hosts and VMs against a real controller over real mutual TLS. Only the hosts are
// fictional.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/bytes.h"
#include "base/file.h"
#include "controller/test_controller.h"
#include "rpc/protocol.h"
#include "store/sqlite_store.h"

namespace sealift::controller {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kVm[] = "name: web1\nmemory: 512MiB\n";

class OperatorsTest : public ::testing::Test {
 protected:
  grpc::Status Info(OperatorClient& client) {
    v1::GetInfoResponse response;
    ShortCall call;
    return client.session->GetInfo(&call, {}, &response);
  }
  std::string SerialOf(const std::string& file) {
    return pki::ReadCertificate(*base::ReadFile(file))->serial;
  }
  grpc::Status Remove(const std::string& host) {
    v1::RemoveHostRequest request;
    request.set_name(host);
    v1::RemoveHostResponse response;
    ShortCall call;
    return controller_.admin().hosts->Remove(&call, request, &response);
  }
  grpc::Status SetMode(const std::string& vm, v1::EncryptionMode mode) {
    v1::SetVmsRequest request;
    v1::VmChange& change = *request.add_changes();
    change.set_name(vm);
    change.set_encryption(mode);
    v1::SetVmsResponse response;
    ShortCall call;
    return controller_.admin().vms->Set(&call, request, &response);
  }
  grpc::Status Stop(const std::string& vm) {
    v1::StopVmRequest request;
    request.set_name(vm);
    v1::Vm response;
    ShortCall call;
    return controller_.admin().vms->Stop(&call, request, &response);
  }
  grpc::Status Delete(const std::string& vm) {
    v1::DeleteVmRequest request;
    request.set_name(vm);
    v1::DeleteVmResponse response;
    ShortCall call;
    return controller_.admin().vms->Delete(&call, request, &response);
  }

  TestController controller_;
  FakeAgent a_;
  FakeAgent b_;
};

// ---- Who gets in.

TEST_F(OperatorsTest, TellsTheAdministratorWhoTheyAre) {
  v1::GetInfoResponse info;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().session->GetInfo(&call, {}, &info).ok());
  EXPECT_EQ(info.identity(), "spiffe://" + controller_.trust_domain() + "/admin/admin");
  EXPECT_EQ(info.api_version(), rpc::kApiVersion);
}

TEST_F(OperatorsTest, AnAgentCannotCallOperatorMethods) {
  rpc::CredentialFiles files;
  ASSERT_TRUE(controller_.Enrol(controller_.AddHost("a"), "a", &files).ok());
  OperatorClient agent = controller_.ClientWith(files);
  EXPECT_FALSE(Info(agent).ok());
}

TEST_F(OperatorsTest, AStrangerIsRefused) {
  TestController elsewhere;
  OperatorClient stranger =
      controller_.ClientWith({elsewhere.admin_files().identity, controller_.admin_files().ca});
  EXPECT_FALSE(Info(stranger).ok());
}

TEST_F(OperatorsTest, AnotherApiVersionIsRefused) {
  grpc::ClientContext call;
  call.AddMetadata(rpc::kApiVersionKey, "999");
  v1::GetInfoResponse info;
  const grpc::Status status = controller_.admin().session->GetInfo(&call, {}, &info);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("999"));
}

// Whoever signed it: good is only what the store knows.
TEST_F(OperatorsTest, ACertificateThatIsNotInTheStoreIsRefused) {
  const base::SystemClock clock;
  const auto installation = LoadInstallation(controller_.folder() + "/state", clock);
  const pki::Identity admin{controller_.trust_domain(), pki::Role::kAdmin, "admin"};
  const std::string key = *pki::GeneratePrivateKey();
  const std::string chain = *installation->authority->Issue(*pki::MakeRequest(key, admin), admin,
                                                            pki::kCertificateLifetime);
  const rpc::CredentialFiles files{controller_.folder() + "/forged.pem",
                                   controller_.admin_files().ca};
  ASSERT_TRUE(base::WriteFileDurably(files.identity, key + chain).ok());
  OperatorClient forger = controller_.ClientWith(files);
  EXPECT_EQ(Info(forger).error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(OperatorsTest, RenewsTheCallersOwnCertificateWhateverTheRequestSays) {
  const std::string key = *pki::GeneratePrivateKey();
  v1::RenewCertificateRequest request;
  request.set_certificate_request_pem(
      *pki::MakeRequest(key, {"elsewhere", pki::Role::kController, ""}));
  v1::RenewCertificateResponse response;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().session->RenewCertificate(&call, request, &response).ok());
  EXPECT_EQ(pki::ReadCertificate(response.certificate_chain_pem())->identity,
            (pki::Identity{controller_.trust_domain(), pki::Role::kAdmin, "admin"}));
}

TEST_F(OperatorsTest, StopsInTimeWithOpenStreams) {
  std::thread follower([&] { EXPECT_EQ(controller_.AwaitEvent("never", "host/never"), 0); });
  ASSERT_FALSE(controller_.AddHost("a").secret.empty());
  ASSERT_NE(controller_.AwaitEvent("host.added", "host/a"), 0);
  const auto before = std::chrono::steady_clock::now();
  controller_.Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
  follower.join();
}

// ---- Joining.

TEST_F(OperatorsTest, AHostJoinsWithItsToken) {
  controller_.Join("a", a_);
  const v1::Host host = controller_.GetHost("a");
  EXPECT_EQ(host.state(), v1::HOST_STATE_READY);
  EXPECT_TRUE(host.can_encrypt());
  EXPECT_EQ(host.capabilities().cpu_model(), "Fictional CPU");
  EXPECT_GT(host.certificate_not_after_ms(), host.last_seen_ms());
}

TEST_F(OperatorsTest, TheJoinCommandNamesTheControllersOwnAddress) {
  v1::AddHostRequest request;
  request.set_name("a");
  request.set_address("192.0.2.7");
  v1::AddHostResponse response;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().hosts->Add(&call, request, &response).ok());
  EXPECT_THAT(response.join_command(), HasSubstr("sealift-agentd join --controller 127.0.0.1:"));
  EXPECT_THAT(response.join_command(), HasSubstr(response.token()));
  EXPECT_EQ(response.host().address(), "192.0.2.7:7432");
  EXPECT_EQ(response.host().state(), v1::HOST_STATE_JOINING);
}

TEST_F(OperatorsTest, EveryBadTokenGetsTheSameAnswer) {
  const pki::JoinToken used = controller_.AddHost("a");
  ASSERT_TRUE(controller_.Enrol(used, "a").ok());
  const grpc::Status reused = controller_.Enrol(used, "a");
  const grpc::Status wrong_host = controller_.Enrol(controller_.AddHost("b"), "a");
  pki::JoinToken damaged = controller_.AddHost("c");
  damaged.secret[0] ^= std::byte{1};
  const grpc::Status guessed = controller_.Enrol(damaged, "c");
  const grpc::Status unknown = controller_.Enrol(damaged, "nobody");
  EXPECT_EQ(reused.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  for (const grpc::Status& status : {wrong_host, guessed, unknown}) {
    EXPECT_EQ(status.error_code(), reused.error_code());
    EXPECT_EQ(status.error_message(), reused.error_message());
  }
}

TEST_F(OperatorsTest, AnExpiredTokenIsRefused) {
  const pki::JoinToken token = controller_.AddHost("a");
  controller_.Stop();
  {
    const auto store = store::OpenSqliteStore(controller_.database());
    ASSERT_TRUE((*store)->PutJoinToken({"a", pki::Sha256Hex(token.secret), 1}).ok());
  }
  controller_.Start();
  EXPECT_EQ(controller_.Enrol(token, "a").error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(OperatorsTest, AHostMayJoinAgainAndItsOldCertificateIsRevoked) {
  controller_.Join("a", a_);
  const std::string old_serial = SerialOf(controller_.folder() + "/a.pem");
  v1::AddHostRequest request;
  request.set_name("a");
  request.set_renew_token(true);
  v1::AddHostResponse response;
  ShortCall call;
  ASSERT_TRUE(controller_.admin().hosts->Add(&call, request, &response).ok());
  EXPECT_EQ(response.host().state(), v1::HOST_STATE_JOINING);
  a_.Stop();
  rpc::CredentialFiles files;
  ASSERT_TRUE(controller_.Enrol(*pki::DecodeJoinToken(response.token()), "a", &files).ok());
  controller_.Reconnect("a", a_);
  controller_.Stop();
  const auto store = store::OpenSqliteStore(controller_.database());
  EXPECT_TRUE(*(*store)->IsRevoked(old_serial));
  EXPECT_FALSE(*(*store)->IsRevoked(SerialOf(files.identity)));
}

TEST_F(OperatorsTest, AHostThatAnswersWithARevokedCertificateIsNotSpokenTo) {
  controller_.Join("a", a_);
  controller_.Stop();
  {
    const auto store = store::OpenSqliteStore(controller_.database());
    ASSERT_TRUE((*store)->RevokeCertificate(SerialOf(controller_.folder() + "/a.pem"), 1).ok());
  }
  const int heard = a_.Called("GetStatus");
  controller_.Start();
  ASSERT_NE(controller_.AwaitEvent("host.unreachable", "host/a"), 0);
  EXPECT_EQ(controller_.GetHost("a").state(), v1::HOST_STATE_UNREACHABLE);
  EXPECT_EQ(a_.Called("GetStatus"), heard);
}

TEST_F(OperatorsTest, RefusesAHostNameTakenOrMalformed) {
  ASSERT_FALSE(controller_.AddHost("a").secret.empty());
  v1::AddHostRequest request;
  request.set_address("192.0.2.7");
  v1::AddHostResponse response;
  for (const auto& [name, code] : {std::pair{"a", grpc::StatusCode::ALREADY_EXISTS},
                                   std::pair{"A/b", grpc::StatusCode::INVALID_ARGUMENT},
                                   std::pair{"", grpc::StatusCode::INVALID_ARGUMENT}}) {
    request.set_name(name);
    ShortCall call;
    EXPECT_EQ(controller_.admin().hosts->Add(&call, request, &response).error_code(), code) << name;
  }
}

TEST_F(OperatorsTest, RemovingAHostRevokesItAtOnceButNotWhileItOwnsVms) {
  controller_.Join("a", a_);
  ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  const grpc::Status owns = Remove("a");
  EXPECT_EQ(owns.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(owns.error_message(), HasSubstr("web1"));
  ASSERT_TRUE(Stop("web1").ok());
  ASSERT_TRUE(Delete("web1").ok());
  ASSERT_TRUE(Remove("a").ok());
  const int heard = a_.Called("GetStatus");
  EXPECT_EQ(Remove("never-added").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(a_.Called("GetStatus"), heard);
  controller_.Stop();
  const auto store = store::OpenSqliteStore(controller_.database());
  EXPECT_TRUE(*(*store)->IsRevoked(SerialOf(controller_.folder() + "/a.pem")));
}

TEST_F(OperatorsTest, ReportsAHostThatFallsSilent) {
  controller_.Join("a", a_);
  controller_.Lose("a", a_);
  const v1::Host host = controller_.GetHost("a");
  EXPECT_EQ(host.state(), v1::HOST_STATE_UNREACHABLE);
  EXPECT_THAT(host.state_reason(), HasSubstr("host a"));
  controller_.Reconnect("a", a_);
  EXPECT_EQ(controller_.GetHost("a").state(), v1::HOST_STATE_READY);
}

TEST_F(OperatorsTest, RenewsAHostsCertificateBeforeItExpires) {
  controller_.Join("a", a_);
  const std::string first = SerialOf(controller_.folder() + "/a.pem");
  a_.Change([](v1::AgentStatus& status) {
    status.set_certificate_not_after_ms(
        base::UnixMillis(base::SystemClock().Now() + std::chrono::hours(24)));
  });
  ASSERT_NE(controller_.AwaitEvent("host.certificate_renewed", "host/a"), 0);
  const auto info = pki::ReadCertificate(a_.installed_chain());
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->identity, (pki::Identity{controller_.trust_domain(), pki::Role::kHost, "a"}));
  EXPECT_EQ(controller_.GetHost("a").certificate_not_after_ms(), base::UnixMillis(info->not_after));
  // The report after the one that brought the new date has it revoked the old one.
  const int heard = a_.Called("GetStatus");
  while (a_.Called("GetStatus") < heard + 3) std::this_thread::yield();
  controller_.Stop();
  const auto store = store::OpenSqliteStore(controller_.database());
  EXPECT_TRUE(*(*store)->IsRevoked(first));
  EXPECT_FALSE(*(*store)->IsRevoked(info->serial));
}

// ---- VMs.

TEST_F(OperatorsTest, CreatesAndStartsAVmOnTheOnlyHost) {
  controller_.Join("a", a_);
  v1::Vm vm;
  const grpc::Status status = controller_.CreateVm(kVm, "", &vm);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(vm.host(), "a");
  EXPECT_EQ(vm.state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(vm.encryption(), v1::ENCRYPTION_MODE_OPPORTUNISTIC);
  EXPECT_EQ(vm.epoch(), 1U);
  EXPECT_EQ(vm.memory_bytes(), std::uint64_t{512} << 20);
  EXPECT_THAT(vm.uuid(),
              ::testing::MatchesRegex(
                  "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_THAT(vm.definition_yaml(), HasSubstr(vm.uuid()));
  const v1::PutVmRequest put = a_.last_put();
  EXPECT_EQ(put.epoch(), 1U);
  EXPECT_EQ(put.policy_version(), 1U);
  EXPECT_EQ(put.encryption(), v1::ENCRYPTION_MODE_OPPORTUNISTIC);
  EXPECT_EQ(controller_.GetHost("a").vms(), 1U);
}

TEST_F(OperatorsTest, RefusesBadCreations) {
  EXPECT_EQ(controller_.CreateVm(kVm, "").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  controller_.Join("a", a_);
  controller_.Join("b", b_);
  const grpc::Status which = controller_.CreateVm(kVm, "");
  EXPECT_EQ(which.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(which.error_message(), HasSubstr("a, b"));
  EXPECT_EQ(controller_.CreateVm(kVm, "c").error_code(), grpc::StatusCode::NOT_FOUND);
  const grpc::Status yaml = controller_.CreateVm("name: web1\nmemori: 1GiB\n", "a");
  EXPECT_EQ(yaml.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(yaml.error_message(), HasSubstr("line 2"));
  ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  const grpc::Status taken = controller_.CreateVm(kVm, "b");
  EXPECT_EQ(taken.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(taken.error_message(), HasSubstr("web1"));
}

TEST_F(OperatorsTest, AVmThatItsHostDoesNotTakeIsNotCreated) {
  controller_.Join("a", a_);
  a_.Fail("CheckVm", {grpc::StatusCode::FAILED_PRECONDITION, "disk /x is missing"});
  EXPECT_THAT(controller_.CreateVm(kVm, "a").error_message(), HasSubstr("disk /x is missing"));
  EXPECT_EQ(a_.Called("PutVm"), 0);
  a_.Fail("CheckVm", grpc::Status::OK);
  a_.Fail("PutVm", {grpc::StatusCode::INTERNAL, "disk full"});
  EXPECT_THAT(controller_.CreateVm(kVm, "a").error_message(), HasSubstr("disk full"));
  a_.Fail("PutVm", grpc::Status::OK);
  EXPECT_TRUE(controller_.CreateVm(kVm, "a").ok());
}

TEST_F(OperatorsTest, AChangedModeReachesTheAgentAlsoAfterAnAbsence) {
  controller_.Join("a", a_);
  ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  ASSERT_TRUE(SetMode("web1", v1::ENCRYPTION_MODE_REQUIRED).ok());
  EXPECT_EQ(a_.last_put().encryption(), v1::ENCRYPTION_MODE_REQUIRED);
  EXPECT_EQ(a_.last_put().policy_version(), 2U);
  EXPECT_TRUE(controller_.HasEvent("vm.encryption_changed", "vm/web1"));

  controller_.Lose("a", a_);
  ASSERT_TRUE(SetMode("web1", v1::ENCRYPTION_MODE_DISABLED).ok());
  const int puts = a_.Called("PutVm");
  controller_.Reconnect("a", a_);
  while (a_.Called("PutVm") == puts) std::this_thread::yield();
  EXPECT_EQ(a_.last_put().encryption(), v1::ENCRYPTION_MODE_DISABLED);
  EXPECT_EQ(a_.last_put().policy_version(), 3U);
}

TEST_F(OperatorsTest, AnUnreachableHostsVmsAreUnknown) {
  controller_.Join("a", a_);
  ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  controller_.Lose("a", a_);
  const v1::Vm vm = controller_.GetVm("web1");
  EXPECT_EQ(vm.state(), v1::VM_STATE_UNKNOWN);
  EXPECT_THAT(vm.state_reason(), HasSubstr("host a"));
  EXPECT_EQ(Stop("web1").error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Delete("web1").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(OperatorsTest, DeletesOnlyAStoppedVm) {
  controller_.Join("a", a_);
  ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  EXPECT_EQ(Delete("web1").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  ASSERT_TRUE(Stop("web1").ok());
  EXPECT_EQ(controller_.GetVm("web1").state(), v1::VM_STATE_STOPPED);
  ASSERT_TRUE(Delete("web1").ok());
  EXPECT_EQ(a_.Report().vms_size(), 0);
  EXPECT_EQ(Delete("never-created").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(OperatorsTest, TheConsoleIsRelayedBothWaysUntilTheAgentEndsIt) {
  controller_.Join("a", a_);
  ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  ShortCall call;
  const auto stream = controller_.admin().vms->Console(&call);
  v1::ConsoleInput input;
  input.set_name("web1");
  ASSERT_TRUE(stream->Write(input));
  v1::ConsoleOutput output;
  ASSERT_TRUE(stream->Read(&output));
  EXPECT_EQ(output.data(), "web1<>");
  input.set_name("");
  for (const char* line : {"ls", "exit"}) {
    input.set_data(line);
    ASSERT_TRUE(stream->Write(input));
    ASSERT_TRUE(stream->Read(&output));
    EXPECT_EQ(output.data(), std::string("<") + line + ">");
  }
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&output));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(status.error_message(), "the guest hung up");
  EXPECT_TRUE(controller_.HasEvent("vm.console_opened", "vm/web1"));
}

TEST_F(OperatorsTest, TheConsoleOfNoVmIsRefusedAndAHangingOneEndsWithItsHost) {
  controller_.Join("a", a_);
  ASSERT_TRUE(controller_.CreateVm(kVm, "a").ok());
  v1::ConsoleInput input;
  v1::ConsoleOutput output;
  {
    ShortCall call;
    const auto stream = controller_.admin().vms->Console(&call);
    input.set_name("nobody");
    ASSERT_TRUE(stream->Write(input));
    EXPECT_FALSE(stream->Read(&output));
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
  }
  ShortCall call;
  const auto stream = controller_.admin().vms->Console(&call);
  input.set_name("web1");
  ASSERT_TRUE(stream->Write(input));
  ASSERT_TRUE(stream->Read(&output));
  a_.Stop();
  EXPECT_FALSE(stream->Read(&output));
  EXPECT_FALSE(stream->Finish().ok());
}

}  // namespace
}  // namespace sealift::controller
