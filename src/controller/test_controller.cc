#include "controller/test_controller.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/socket.h"
#include "base/status.h"
#include "controller/backup.h"

namespace sealift::controller {

OperatorClient::OperatorClient(const std::shared_ptr<grpc::Channel>& channel)
    : hosts(v1::HostService::NewStub(channel)),
      vms(v1::VmService::NewStub(channel)),
      migrations(v1::MigrationService::NewStub(channel)),
      events(v1::EventService::NewStub(channel)),
      session(v1::SessionService::NewStub(channel)),
      policy(v1::PolicyService::NewStub(channel)),
      users(v1::UserService::NewStub(channel)) {}

TestController::TestController() : ca_file_(folder_ / "state/ca.crt"), files_(folder_ / "state") {
  spdlog::set_level(spdlog::level::err);  // or a failure is lost among events
  rpc::RequireTls13();
  const absl::Status made =
      InitInstallation(folder_ / "state", {"127.0.0.1", 1}, clock_, [&](const AdminContext& admin) {
        context_ = admin;
        return base::WriteFileDurably(admin_files().identity, admin.identity_pem);
      });
  SEALIFT_CHECK(made.ok());
  settings_.state_dir = folder_ / "state";
  settings_.listen = "127.0.0.1:0";
  settings_.enrolment_listen = "127.0.0.1:0";
  Start();
}

TestController::~TestController() { Stop(); }

void TestController::Start() {
  auto controller = Controller::Start(
      settings_, clock_, random_,
      {.heartbeat = std::chrono::milliseconds(50), .enrolment = {.peer = 1000, .overall = 1000}});
  SEALIFT_CHECK(controller.ok());
  controller_ = *std::move(controller);
  admin_ = std::make_unique<OperatorClient>(ClientWith(admin_files()));
}

std::string TestController::Backup() {
  const std::string to = fmt::format("{}/backup-{}", folder_.path(), LastEvent());
  const absl::Status made = BackUp(settings_.state_dir, to, CaKey::kLeftOut, nullptr, clock_);
  SEALIFT_CHECK(made.ok());
  return to;
}

void TestController::Restore(const std::string& backup,
                             const std::vector<std::string>& joined_since) {
  Stop();
  const std::string lost = fmt::format("{}/lost-{}", folder_.path(), ++lost_);
  std::filesystem::rename(settings_.state_dir, lost);
  const auto restored =
      controller::Restore(backup, settings_.state_dir, joined_since, nullptr, clock_);
  SEALIFT_CHECK(restored.ok());
  std::filesystem::copy_file(lost + "/ca.key", files_.ca_key);
}

OperatorClient TestController::AddUser(const std::string& name, v1::UserRole role,
                                       const std::vector<std::string>& rights) {
  const std::string key = *pki::GeneratePrivateKey();
  v1::AddUserRequest request;
  request.set_name(name);
  request.set_role(role);
  request.mutable_rights()->Assign(rights.begin(), rights.end());
  request.set_certificate_request_pem(
      *pki::MakeRequest(key, {trust_domain(), pki::Role::kAdmin, name}));
  v1::AddUserResponse response;
  ShortCall call;
  SEALIFT_CHECK(admin_->users->Add(&call, request, &response).ok());
  const rpc::CredentialFiles files{folder_ / (name + ".user.pem"), ca_file_};
  SEALIFT_CHECK(
      base::WriteFileDurably(files.identity, key + response.certificate_chain_pem()).ok());
  return ClientWith(files);
}

OperatorClient TestController::ClientWith(const rpc::CredentialFiles& files) {
  const pki::Identity server{trust_domain(), pki::Role::kController, ""};
  return OperatorClient(rpc::MakeChannel({"127.0.0.1", controller_->port()},
                                         rpc::MakeChannelCredentials(files, server)));
}

std::uint16_t TestController::FreePort() {
  const auto listener = base::ListenTcp("127.0.0.1", 0, 0);
  SEALIFT_CHECK(listener.ok());
  return listener->second;
}

pki::JoinToken TestController::AddHost(const std::string& name) {
  v1::AddHostRequest request;
  request.set_name(name);
  request.set_address(fmt::format("127.0.0.1:{}", FreePort()));
  v1::AddHostResponse response;
  ShortCall call;
  SEALIFT_CHECK(admin_->hosts->Add(&call, request, &response).ok());
  return *pki::DecodeJoinToken(response.token());
}

std::string TestController::AddressOf(const std::string& name) { return GetHost(name).address(); }

grpc::Status TestController::Enrol(const pki::JoinToken& token, const std::string& host,
                                   rpc::CredentialFiles* files) {
  const std::string key = *pki::GeneratePrivateKey();
  const pki::Identity controller{trust_domain(), pki::Role::kController, ""};
  const auto stub = v1::EnrolmentService::NewStub(
      rpc::MakeChannel({"127.0.0.1", controller_->enrolment_port()},
                       rpc::MakeEnrolmentChannelCredentials(token.ca_certificate_pem, controller)));
  v1::EnrolRequest request;
  request.set_token_secret(std::string(base::AsText(token.secret)));
  request.set_host(host);
  request.set_certificate_request_pem(
      *pki::MakeRequest(key, {trust_domain(), pki::Role::kHost, host}));
  v1::EnrolResponse response;
  ShortCall call;
  const grpc::Status status = stub->Enrol(&call, request, &response);
  if (status.ok() && files != nullptr) {
    *files = HostFiles(host);
    SEALIFT_CHECK(
        base::WriteFileDurably(files->identity, key + response.certificate_chain_pem()).ok());
  }
  return status;
}

void TestController::Join(const std::string& name, FakeAgent& agent) {
  rpc::CredentialFiles files;
  SEALIFT_CHECK(Enrol(AddHost(name), name, &files).ok());
  Reconnect(name, agent);
}

void TestController::Lose(const std::string& name, FakeAgent& agent) {
  const std::int64_t before = LastEvent();
  agent.Stop();
  SEALIFT_CHECK(AwaitEvent("host.unreachable", "host/" + name, before) != 0);
}

void TestController::Reconnect(const std::string& name, FakeAgent& agent) {
  const std::int64_t before = LastEvent();
  const auto address = base::ParseHostPort(AddressOf(name), 0);
  agent.Serve(HostFiles(name), trust_domain(), address->port);
  SEALIFT_CHECK(AwaitEvent("host.ready", "host/" + name, before) != 0);
}

std::int64_t TestController::LastEvent() {
  const std::vector<v1::Event> events = Events();
  return events.empty() ? 0 : events.back().number();
}

std::vector<v1::Event> TestController::Events() {
  ShortCall call;
  const auto stream = admin_->events->List(&call, {});
  std::vector<v1::Event> events;
  v1::Event event;
  while (stream->Read(&event)) events.push_back(event);
  SEALIFT_CHECK(stream->Finish().ok());
  return events;
}

bool TestController::HasEvent(const std::string& type, const std::string& subject) {
  for (const v1::Event& event : Events()) {
    if (event.type() == type && event.subject() == subject) return true;
  }
  return false;
}

std::int64_t TestController::AwaitEvent(const std::string& type, const std::string& subject,
                                        std::int64_t after) {
  v1::ListEventsRequest request;
  request.set_after_number(after);
  request.set_follow(true);
  request.set_subject(subject);
  ShortCall call;
  const auto stream = admin_->events->List(&call, request);
  v1::Event event;
  while (stream->Read(&event)) {
    if (event.type() == type) return event.number();
  }
  return 0;
}

v1::Vm TestController::GetVm(const std::string& name) {
  v1::GetVmRequest request;
  request.set_name(name);
  v1::Vm vm;
  ShortCall call;
  SEALIFT_CHECK(admin_->vms->Get(&call, request, &vm).ok());
  return vm;
}

v1::Host TestController::GetHost(const std::string& name) {
  v1::GetHostRequest request;
  request.set_name(name);
  v1::Host host;
  ShortCall call;
  SEALIFT_CHECK(admin_->hosts->Get(&call, request, &host).ok());
  return host;
}

grpc::Status TestController::CreateVm(const std::string& yaml, const std::string& host,
                                      v1::Vm* vm) {
  v1::CreateVmRequest request;
  request.set_definition_yaml(yaml);
  request.set_host(host);
  request.set_start(true);
  v1::Vm created;
  ShortCall call;
  const grpc::Status status = admin_->vms->Create(&call, request, &created);
  if (vm != nullptr) *vm = created;
  return status;
}

v1::Migration TestController::AwaitMigration(
    const std::string& id, const std::function<bool(const v1::Migration&)>& wanted) {
  v1::WatchMigrationRequest request;
  request.set_id(id);
  ShortCall call;
  const auto stream = admin_->migrations->Watch(&call, request);
  v1::Migration last;
  v1::Migration view;
  while (stream->Read(&view)) {
    last = view;
    if (wanted(view)) break;
  }
  return last;
}

}  // namespace sealift::controller
