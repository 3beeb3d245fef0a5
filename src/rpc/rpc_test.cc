// Real servers and clients on the loopback interface: who gets in, and what they are told.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <thread>

#include "base/status.h"
#include "pki/tls_probe.h"
#include "rpc/channel.h"
#include "rpc/credentials.h"
#include "rpc/peer_checks.h"
#include "rpc/protocol.h"
#include "rpc/server.h"
#include "rpc/test_forwarder.h"
#include "rpc/test_installation.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "sealift/v1/enrolment.grpc.pb.h"

namespace sealift::rpc {
namespace {

using absl::StatusCode;
using pki::Role;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

constexpr milliseconds kCallTimeout{20'000};

// Session says who is calling.
class Session final : public v1::SessionService::Service {
 public:
  grpc::Status GetInfo(grpc::ServerContext* context, const v1::GetInfoRequest*,
                       v1::GetInfoResponse* response) override {
    ++calls;
    const absl::StatusOr<Peer> peer = PeerOf(*context);
    if (!peer.ok()) return ToGrpc(peer.status());
    response->set_identity(peer->identity.ToUri());
    response->set_controller_version(peer->certificate_serial);
    return grpc::Status::OK;
  }
  // Fails with as many characters as the request has.
  grpc::Status RenewCertificate(grpc::ServerContext*, const v1::RenewCertificateRequest* request,
                                v1::RenewCertificateResponse*) override {
    ++calls;
    return ToGrpc(absl::AbortedError(request->certificate_request_pem()));
  }

  std::atomic<int> calls = 0;
};

// Events answers no call until it is told to.
class Events final : public v1::EventService::Service {
 public:
  grpc::Status List(grpc::ServerContext*, const v1::ListEventsRequest*,
                    grpc::ServerWriter<v1::Event>* writer) override {
    writer->Write(v1::Event());
    released_.wait();
    return grpc::Status::OK;
  }
  void Release() { release_.set_value(); }

 private:
  std::promise<void> release_;
  std::shared_future<void> released_ = release_.get_future().share();
};

class Enrolment final : public v1::EnrolmentService::Service {
 public:
  grpc::Status Enrol(grpc::ServerContext* context, const v1::EnrolRequest*,
                     v1::EnrolResponse* response) override {
    response->set_certificate_chain_pem(base::MessageOf(PeerOf(*context).status()));
    return grpc::Status::OK;
  }
};

class RpcTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { RequireTls13(); }

  std::unique_ptr<Server> Serve(std::shared_ptr<grpc::ServerCredentials> credentials,
                                grpc::Service& service) {
    auto server = Server::Start({.address = {"127.0.0.1", 0},
                                 .credentials = std::move(credentials),
                                 .services = {&service}});
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }

  // A server of the controller that accepts operators.
  std::unique_ptr<Server> ServeOperators(Admit admit = nullptr) {
    return Serve(MakeServerCredentials(site_.Enrol("controller.pem", site_.Controller()),
                                       site_.trust_domain(), {Role::kOperator}, std::move(admit)),
                 session_);
  }

  std::shared_ptr<grpc::ChannelCredentials> CredentialsOf(const pki::Identity& client) {
    return MakeChannelCredentials(site_.Enrol("client.pem", client), site_.Controller());
  }

  static std::shared_ptr<grpc::Channel> ChannelTo(
      const Server& server, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    return MakeChannel({"127.0.0.1", server.port()}, credentials);
  }

  static absl::StatusOr<v1::GetInfoResponse> GetInfo(
      const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    PrepareCall(context, kCallTimeout);
    v1::GetInfoResponse response;
    const auto stub = v1::SessionService::NewStub(channel);
    const absl::Status status = FromGrpc(stub->GetInfo(&context, {}, &response));
    if (!status.ok()) return status;
    return response;
  }

  // Expects that a client with these credentials does not get as far as a method.
  void ExpectNoEntry(const Server& server,
                     const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    const absl::Status status = GetInfo(ChannelTo(server, credentials)).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
    EXPECT_EQ(session_.calls, 0);
  }

  TestInstallation site_;
  Session session_;
};

// Eventually asks again, on a connection of its own each time, until the answer is the one hoped
// for.
bool Eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (std::chrono::steady_clock::now() < deadline) {
    if (holds()) return true;
    std::this_thread::sleep_for(milliseconds(50));
  }
  return false;
}

// ---- Who gets in ----

TEST_F(RpcTest, AnOperatorGetsInAndIsKnownByItsCertificate) {
  const auto server = ServeOperators();
  const auto credentials = CredentialsOf(site_.Operator("admin"));
  const absl::StatusOr<v1::GetInfoResponse> info = GetInfo(ChannelTo(*server, credentials));
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->identity(), site_.Operator("admin").ToUri());
  const std::string pem = *base::ReadFile(site_.folder() + "/client.pem");
  EXPECT_EQ(info->controller_version(), pki::ReadCertificate(pem)->serial);
}

TEST_F(RpcTest, AClientMayHoldItsPemTextInMemory) {
  const auto server = ServeOperators();
  const CredentialFiles files = site_.Enrol("client.pem", site_.Operator("admin"));
  const CredentialPem pem{*base::ReadFile(files.identity), *base::ReadFile(files.ca)};
  std::filesystem::remove(files.identity);
  EXPECT_TRUE(GetInfo(ChannelTo(*server, MakeChannelCredentials(pem, site_.Controller()))).ok());
  EXPECT_FALSE(GetInfo(ChannelTo(*server, MakeChannelCredentials(pem, site_.Host("a")))).ok());
}

TEST_F(RpcTest, AHostServesTheController) {
  const CredentialFiles host = site_.Enrol("host.pem", site_.Host("a"));
  const auto server =
      Serve(MakeServerCredentials(host, site_.trust_domain(), {Role::kController}), session_);
  const CredentialFiles controller = site_.Enrol("controller.pem", site_.Controller());
  const auto info =
      GetInfo(ChannelTo(*server, MakeChannelCredentials(controller, site_.Host("a"))));
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->identity(), site_.Controller().ToUri());
}

TEST_F(RpcTest, AnAgentCannotPoseAsAnOperator) {
  const auto server = ServeOperators();
  ExpectNoEntry(*server, CredentialsOf(site_.Host("a")));
}

TEST_F(RpcTest, ARoleThatIsNotAcceptedDoesNotGetIn) {
  const auto server = ServeOperators();
  ExpectNoEntry(*server, CredentialsOf(site_.Controller()));
}

TEST_F(RpcTest, AnOperatorCannotPoseAsTheControllerToAHost) {
  const CredentialFiles host = site_.Enrol("host.pem", site_.Host("a"));
  const auto server =
      Serve(MakeServerCredentials(host, site_.trust_domain(), {Role::kController}), session_);
  const CredentialFiles person = site_.Enrol("person.pem", site_.Operator("admin"));
  ExpectNoEntry(*server, MakeChannelCredentials(person, site_.Host("a")));
}

TEST_F(RpcTest, NobodyElseCanPoseAsTheControllerToAHost) {
  const auto server = Serve(MakeServerCredentials(site_.Enrol("host.pem", site_.Host("a")),
                                                  site_.trust_domain(), {Role::kController}),
                            session_);
  TestInstallation other;
  CredentialFiles foreign = other.Enrol("controller.pem", other.Controller());
  foreign.ca = site_.ca();  // trusts this server all the same
  const ShiftedClock past(-hours(48));
  for (const CredentialFiles& impostor :
       {foreign, site_.Enrol("b.pem", site_.Host("b")), site_.Enrol("a.pem", site_.Host("a")),
        site_.Enrol("old.pem", site_.Controller(), hours(24), past)}) {
    SCOPED_TRACE(impostor.identity);
    ExpectNoEntry(*server, MakeChannelCredentials(impostor, site_.Host("a")));
  }
  ExpectNoEntry(*server, MakeEnrolmentChannelCredentials(site_.authority().certificate_pem(),
                                                         site_.Host("a")));
}

TEST_F(RpcTest, ACertificateOfAnotherAuthorityDoesNotGetIn) {
  const auto server = ServeOperators();
  TestInstallation other;
  CredentialFiles files = other.Enrol("client.pem", other.Operator("admin"));
  files.ca = site_.ca();  // trusts this server all the same
  ExpectNoEntry(*server, MakeChannelCredentials(files, site_.Controller()));
}

TEST_F(RpcTest, AnExpiredCertificateDoesNotGetIn) {
  const auto server = ServeOperators();
  const CredentialFiles files =
      site_.Enrol("client.pem", site_.Operator("admin"), hours(24), ShiftedClock(-hours(48)));
  ExpectNoEntry(*server, MakeChannelCredentials(files, site_.Controller()));
}

TEST_F(RpcTest, ACertificateOfTheFutureDoesNotGetIn) {
  const auto server = ServeOperators();
  const CredentialFiles files =
      site_.Enrol("client.pem", site_.Operator("admin"), hours(24), ShiftedClock(hours(48)));
  ExpectNoEntry(*server, MakeChannelCredentials(files, site_.Controller()));
}

TEST_F(RpcTest, AStrangerWithoutACertificateDoesNotGetIn) {
  const auto server = ServeOperators();
  ExpectNoEntry(*server, MakeEnrolmentChannelCredentials(site_.authority().certificate_pem(),
                                                         site_.Controller()));
}

TEST_F(RpcTest, AnotherTrustDomainDoesNotGetInEvenIfItsAuthorityIsTrusted) {
  const CredentialFiles files = site_.Enrol("controller.pem", site_.Controller());
  const auto server =
      Serve(MakeServerCredentials(files, "sealift-other", {Role::kOperator}), session_);
  ExpectNoEntry(*server, CredentialsOf(site_.Operator("admin")));
}

TEST_F(RpcTest, PlainTextDoesNotGetIn) {
  const auto server = ServeOperators();
  ExpectNoEntry(*server, grpc::InsecureChannelCredentials());
}

// ---- Whom a client trusts ----

TEST_F(RpcTest, AClientRefusesAServerOfAnotherName) {
  const CredentialFiles host = site_.Enrol("host.pem", site_.Host("b"));
  const auto server =
      Serve(MakeServerCredentials(host, site_.trust_domain(), {Role::kController}), session_);
  const CredentialFiles controller = site_.Enrol("controller.pem", site_.Controller());
  const absl::Status status =
      GetInfo(ChannelTo(*server, MakeChannelCredentials(controller, site_.Host("a")))).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("/host/b answers where"));
  EXPECT_EQ(session_.calls, 0);
}

TEST_F(RpcTest, AClientMayRefuseACertificateOfTheServer) {
  const auto server = ServeOperators();
  const CredentialFiles files = site_.Enrol("client.pem", site_.Operator("admin"));
  const std::string serial =
      pki::ReadCertificate(*base::ReadFile(site_.folder() + "/controller.pem"))->serial;
  const auto all_but = [](const std::string& refused) {
    return [refused](const Peer& peer) {
      return peer.certificate_serial == refused ? absl::PermissionDeniedError("it is revoked")
                                                : absl::OkStatus();
    };
  };
  EXPECT_TRUE(GetInfo(ChannelTo(*server, MakeChannelCredentials(files, site_.Controller(),
                                                                all_but("another"))))
                  .ok());
  const absl::Status status =
      GetInfo(
          ChannelTo(*server, MakeChannelCredentials(files, site_.Controller(), all_but(serial))))
          .status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("it is revoked"));
}

TEST_F(RpcTest, AClientRefusesAServerOfAnotherAuthority) {
  TestInstallation other;
  const CredentialFiles imposter = other.Enrol("controller.pem", other.Controller());
  const auto server =
      Serve(MakeServerCredentials(imposter, other.trust_domain(), {Role::kOperator}), session_);
  CredentialFiles files = other.Enrol("client.pem", other.Operator("admin"));
  files.ca = site_.ca();
  ExpectNoEntry(*server, MakeChannelCredentials(files, other.Controller()));
}

TEST_F(RpcTest, AClientRefusesAnExpiredServer) {
  const auto server = ServeOperators();
  site_.Enrol("controller.pem", site_.Controller(), hours(24), ShiftedClock(-hours(48)));
  const auto credentials = CredentialsOf(site_.Operator("admin"));
  EXPECT_TRUE(Eventually([&] { return !GetInfo(ChannelTo(*server, credentials)).ok(); }));
}

// ---- Enrolment ----

TEST_F(RpcTest, EnrolmentNeedsNoCertificateOfTheClient) {
  Enrolment enrolment;
  const auto server = Serve(
      MakeEnrolmentServerCredentials(site_.Enrol("controller.pem", site_.Controller())), enrolment);
  const auto stub = v1::EnrolmentService::NewStub(ChannelTo(
      *server,
      MakeEnrolmentChannelCredentials(site_.authority().certificate_pem(), site_.Controller())));
  grpc::ClientContext context;
  PrepareCall(context, kCallTimeout);
  v1::EnrolResponse response;
  const absl::Status status = FromGrpc(stub->Enrol(&context, {}, &response));
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(response.certificate_chain_pem(), "the call carries no certificate");
  grpc::ClientContext without_version;
  EXPECT_EQ(stub->Enrol(&without_version, {}, &response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(RpcTest, AJoinerTrustsTheControllerOfItsTokenOnly) {
  const auto trusts = [&](const CredentialFiles& server_files, const std::string& ca) {
    Session session;
    const auto server = Serve(MakeEnrolmentServerCredentials(server_files), session);
    (void)GetInfo(ChannelTo(*server, MakeEnrolmentChannelCredentials(ca, site_.Controller())));
    return session.calls == 1;
  };
  TestInstallation other;
  const std::string& ca = site_.authority().certificate_pem();
  EXPECT_TRUE(trusts(site_.Enrol("controller.pem", site_.Controller()), ca));
  EXPECT_FALSE(trusts(site_.Enrol("host.pem", site_.Host("a")), ca)) << "a host of ours";
  EXPECT_FALSE(trusts(other.Enrol("controller.pem", other.Controller()), ca));
  for (const char* nothing :
       {"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}) {
    EXPECT_FALSE(trusts(site_.Enrol("controller.pem", site_.Controller()), nothing)) << nothing;
  }
}

// ---- What is checked at every call ----

class VersionTest : public RpcTest, public testing::WithParamInterface<std::vector<std::string>> {};

TEST_P(VersionTest, IsRefusedWithBothVersionsAndTheRemedy) {
  const auto server = ServeOperators();
  const auto stub =
      v1::SessionService::NewStub(ChannelTo(*server, CredentialsOf(site_.Operator("admin"))));
  grpc::ClientContext context;
  context.AddMetadata(kVersionKey, "7.8.9");
  for (const std::string& version : GetParam()) context.AddMetadata(kApiVersionKey, version);
  v1::GetInfoResponse response;
  const absl::Status status = FromGrpc(stub->GetInfo(&context, {}, &response));
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("(sealift 7.8.9) speaks API version"));
  EXPECT_THAT(
      base::MessageOf(status),
      HasSubstr(fmt::format("(sealift {}) serves 1 to 1: upgrade sealift where", kVersion)));
  EXPECT_EQ(session_.calls, 0);
}

INSTANTIATE_TEST_SUITE_P(Other, VersionTest,
                         testing::Values(std::vector<std::string>{}, std::vector<std::string>{"2"},
                                         std::vector<std::string>{"01"},
                                         std::vector<std::string>{"1", "1"}));

TEST(CheckApiVersion, ServesTheVersionBeforeAndRefusesAllOthersWithTheRemedy) {
  constexpr ApiVersions kServed{4, 5};
  EXPECT_TRUE(CheckApiVersion("4", "1.4", kServed).ok());
  EXPECT_TRUE(CheckApiVersion("5", "1.5", kServed).ok());
  const absl::Status newer = CheckApiVersion("6", "1.6", kServed);
  EXPECT_EQ(base::MessageOf(newer),
            fmt::format("the caller (sealift 1.6) speaks API version 6, the called (sealift {}) "
                        "serves 4 to 5: upgrade sealift where it is called",
                        kVersion));
  for (const char* old : {"3", "0", "", "05", "-5", "5 ", "99999999999"}) {
    const absl::Status status = CheckApiVersion(old, "", kServed);
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << old;
    EXPECT_THAT(base::MessageOf(status), HasSubstr("where it is called from")) << old;
  }
}

TEST_F(RpcTest, ARevokedPeerIsRefusedOnItsOpenConnection) {
  std::atomic<bool> revoked = false;
  const auto server = ServeOperators([&](const Peer& peer) {
    return revoked ? absl::PermissionDeniedError(peer.identity.ToUri() + " is revoked")
                   : absl::OkStatus();
  });
  const auto channel = ChannelTo(*server, CredentialsOf(site_.Operator("admin")));
  ASSERT_TRUE(GetInfo(channel).ok());
  revoked = true;
  const absl::Status status = GetInfo(channel).status();
  EXPECT_EQ(status.code(), StatusCode::kPermissionDenied);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("/operator/admin is revoked"));
  EXPECT_EQ(session_.calls, 1);
}

TEST_F(RpcTest, ACertificateThatExpiresOnAnOpenConnectionIsRefused) {
  const auto server = ServeOperators();
  const CredentialFiles files = site_.Enrol("client.pem", site_.Operator("admin"), hours(1),
                                            ShiftedClock(seconds(4) - hours(1)));
  const auto channel = ChannelTo(*server, MakeChannelCredentials(files, site_.Controller()));
  ASSERT_TRUE(GetInfo(channel).ok());
  EXPECT_TRUE(Eventually([&] {
    const absl::Status status = GetInfo(channel).status();
    return absl::IsUnauthenticated(status) &&
           base::MessageOf(status).find("/operator/admin expired at") != std::string::npos;
  }));
}

// ---- Renewal ----

TEST_F(RpcTest, ARenewedServerCertificateIsUsedWithoutARestart) {
  const auto server = ServeOperators();
  const CredentialFiles files = site_.Enrol("client.pem", site_.Operator("admin"));
  ASSERT_TRUE(GetInfo(ChannelTo(*server, MakeChannelCredentials(files, site_.Controller()))).ok());
  // Another name makes the change visible.
  site_.Enrol("controller.pem", site_.Host("renamed"));
  const auto renewed = MakeChannelCredentials(files, site_.Host("renamed"));
  EXPECT_TRUE(Eventually([&] { return GetInfo(ChannelTo(*server, renewed)).ok(); }));
}

TEST_F(RpcTest, ARenewedClientCertificateIsUsedWithoutARestart) {
  const auto server = ServeOperators();
  const auto credentials = CredentialsOf(site_.Operator("admin"));
  const std::string before = GetInfo(ChannelTo(*server, credentials))->controller_version();
  const CredentialFiles files = site_.Enrol("client.pem", site_.Operator("admin"));
  const std::string after = pki::ReadCertificate(*base::ReadFile(files.identity))->serial;
  ASSERT_NE(before, after);
  EXPECT_TRUE(Eventually(
      [&] { return GetInfo(ChannelTo(*server, credentials))->controller_version() == after; }));
}

// ---- TLS version, addresses, connections ----

TEST_F(RpcTest, OnlyTls13IsSpoken) {
  const auto server = ServeOperators();
  const base::HostPort address{"127.0.0.1", server->port()};
  EXPECT_EQ(*pki::ProbeTls(address, pki::TlsVersion::k12, seconds(10)), false);
  EXPECT_EQ(*pki::ProbeTls(address, pki::TlsVersion::k13, seconds(10)), true);
  EXPECT_TRUE(VerifyTls13Only(address.ToString()).ok());
}

TEST_F(RpcTest, AnAddressInUseIsNamed) {
  const auto server = ServeOperators();
  const auto second = Server::Start({.address = {"127.0.0.1", server->port()},
                                     .credentials = MakeEnrolmentServerCredentials(
                                         {site_.folder() + "/controller.pem", site_.ca()}),
                                     .services = {&session_}});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(base::MessageOf(second.status()),
              HasSubstr(fmt::format("127.0.0.1:{}", server->port())));
  EXPECT_THAT(base::MessageOf(second.status()), HasSubstr("Address already in use"));
}

TEST_F(RpcTest, AServerWithoutACertificateDoesNotStart) {
  const auto server = Server::Start(
      {.address = {"127.0.0.1", 0},
       .credentials = MakeEnrolmentServerCredentials({site_.folder() + "/missing.pem", site_.ca()}),
       .services = {&session_}});
  ASSERT_FALSE(server.ok());
  EXPECT_THAT(base::MessageOf(server.status()), HasSubstr("TLS 1.3"));
}

TEST_F(RpcTest, AClientReconnectsToAServerThatCameBack) {
  auto server = ServeOperators();
  const std::uint16_t port = server->port();
  const auto channel = ChannelTo(*server, CredentialsOf(site_.Operator("admin")));
  ASSERT_TRUE(GetInfo(channel).ok());
  server.reset();
  EXPECT_EQ(GetInfo(channel).status().code(), StatusCode::kUnavailable);
  auto again = Server::Start(
      {.address = {"127.0.0.1", port},
       .credentials = MakeServerCredentials({site_.folder() + "/controller.pem", site_.ca()},
                                            site_.trust_domain(), {Role::kOperator}),
       .services = {&session_}});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(Eventually([&] { return GetInfo(channel).ok(); }));
}

TEST_F(RpcTest, ASilentPeerEndsAWaitingCallWithinSeconds) {
  Events events;
  const auto server = Serve(MakeServerCredentials(site_.Enrol("controller.pem", site_.Controller()),
                                                  site_.trust_domain(), {Role::kOperator}),
                            events);
  TestForwarder forwarder(server->port());
  const auto stub = v1::EventService::NewStub(
      MakeChannel({"127.0.0.1", forwarder.port()}, CredentialsOf(site_.Operator("admin"))));
  grpc::ClientContext context;
  PrepareStream(context);
  const auto reader = stub->List(&context, {});
  v1::Event event;
  ASSERT_TRUE(reader->Read(&event));
  const auto silent_since = std::chrono::steady_clock::now();
  forwarder.Freeze();
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_LT(std::chrono::steady_clock::now() - silent_since, seconds(15));
  events.Release();
}

TEST_F(RpcTest, ProxiesOfTheEnvironmentAreNotUsed) {
  const auto server = ServeOperators();
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  const bool reached = GetInfo(ChannelTo(*server, CredentialsOf(site_.Operator("admin")))).ok();
  unsetenv("http_proxy");
  EXPECT_TRUE(reached);
}

// ---- Status ----

TEST_F(RpcTest, AnErrorKeepsItsCodeHoweverLongItsText) {
  const auto server = ServeOperators();
  const auto stub =
      v1::SessionService::NewStub(ChannelTo(*server, CredentialsOf(site_.Operator("admin"))));
  for (const std::size_t size : {10U, 2000U, 100'000U}) {
    grpc::ClientContext context;
    PrepareCall(context, kCallTimeout);
    v1::RenewCertificateRequest request;
    for (std::size_t i = 0; i < size; i += 2)
      *request.mutable_certificate_request_pem() += "\xc3\xa4";
    v1::RenewCertificateResponse response;
    const absl::Status status = FromGrpc(stub->RenewCertificate(&context, request, &response));
    EXPECT_EQ(status.code(), StatusCode::kAborted) << status;
    EXPECT_THAT(base::MessageOf(status), testing::StartsWith("\xc3\xa4"));
  }
}

TEST(Status, APeersTextBecomesOneLineOfUtf8) {
  const absl::Status status =
      FromGrpc({grpc::StatusCode::INTERNAL, "a\xff\nb" + std::string(10'000, 'x')});
  EXPECT_THAT(base::MessageOf(status), testing::StartsWith("a? bxxx"));
  EXPECT_EQ(status.message().size(), 4000U);
}

TEST(Status, ACallWhoseConnectionWasLostIsUnavailableWhateverGrpcCallsIt) {
  EXPECT_EQ(FromGrpc({grpc::StatusCode::UNKNOWN, "Stream removed"}).code(),
            StatusCode::kUnavailable);
  EXPECT_EQ(FromGrpc({grpc::StatusCode::UNKNOWN, "a bug of ours"}).code(), StatusCode::kUnknown);
}

TEST(Status, TranslatesBothWays) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<StatusCode>(code), "text");
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  }
}

// ---- Files ----

TEST_F(RpcTest, CheckCredentialsSaysWhatIsWrong) {
  const base::WallTime now = base::SystemClock().Now();
  const CredentialFiles good = site_.Enrol("host.pem", site_.Host("a"));
  EXPECT_EQ(CheckCredentials(good, now)->identity, site_.Host("a"));

  const auto error = [&](const CredentialFiles& files) {
    return base::MessageOf(CheckCredentials(files, now).status());
  };
  EXPECT_THAT(error({site_.folder() + "/none.pem", site_.ca()}), HasSubstr("/none.pem"));
  EXPECT_THAT(error(site_.Enrol("old.pem", site_.Host("a"), hours(1), ShiftedClock(-hours(9)))),
              HasSubstr("expired at"));
  TestInstallation other;
  EXPECT_THAT(error({good.identity, other.ca()}), HasSubstr("was not signed by " + other.ca()));
  const std::string mixed = *pki::GeneratePrivateKey() + *base::ReadFile(good.identity);
  ASSERT_TRUE(base::WriteFileDurably(site_.folder() + "/mixed.pem", mixed).ok());
  const std::string text = error({site_.folder() + "/mixed.pem", site_.ca()});
  EXPECT_THAT(text, HasSubstr("do not belong together"));
  EXPECT_THAT(text, Not(HasSubstr("PRIVATE KEY")));
}

}  // namespace
}  // namespace sealift::rpc
