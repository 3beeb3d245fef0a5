// For tests: a real controller with its own CA, state folder, SQLite file and ports, and clients of
// it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/testing.h"
#include "controller/controller.h"
#include "controller/fake_agent.h"
#include "keys/random.h"
#include "pki/join_token.h"
#include "rpc/channel.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "sealift/v1/enrolment.grpc.pb.h"

namespace sealift::controller {

// ShortCall is a context for a call that should not take long.
struct ShortCall : grpc::ClientContext {
  ShortCall() { rpc::PrepareCall(*this, std::chrono::seconds(20)); }
};

// OperatorClient holds a stub of every service for one identity.
struct OperatorClient {
  explicit OperatorClient(const std::shared_ptr<grpc::Channel>& channel);
  std::unique_ptr<v1::HostService::Stub> hosts;
  std::unique_ptr<v1::VmService::Stub> vms;
  std::unique_ptr<v1::MigrationService::Stub> migrations;
  std::unique_ptr<v1::EventService::Stub> events;
  std::unique_ptr<v1::SessionService::Stub> session;
  std::unique_ptr<v1::PolicyService::Stub> policy;
  std::unique_ptr<v1::UserService::Stub> users;
};

// TestController is initialised and running once made; its folder goes with it.
class TestController {
 public:
  TestController();
  ~TestController();

  void Start();
  void Stop() { controller_.reset(); }
  // Backup makes a backup without the CA's key and names it. Restore puts it in the place of what
  // there is, the key beside it; the controller does not run then.
  [[nodiscard]] std::string Backup();
  void Restore(const std::string& backup, const std::vector<std::string>& joined_since = {});
  // What the next Start takes.
  [[nodiscard]] Settings& settings() { return settings_; }

  // Admin is the first operator's client, made anew after each Start.
  [[nodiscard]] OperatorClient& admin() { return *admin_; }
  // AddUser makes a user and gives the client of that user.
  [[nodiscard]] OperatorClient AddUser(const std::string& name, v1::UserRole role,
                                       const std::vector<std::string>& rights = {});
  // ClientWith connects to the operator port with any identity file.
  [[nodiscard]] OperatorClient ClientWith(const rpc::CredentialFiles& files);
  [[nodiscard]] rpc::CredentialFiles admin_files() const {
    return {folder_ / "admin.pem", ca_file_};
  }
  // HostFiles is the identity of a host that has joined.
  [[nodiscard]] rpc::CredentialFiles HostFiles(const std::string& host) const {
    return {folder_ / (host + ".pem"), ca_file_};
  }
  [[nodiscard]] const StateFiles& files() const { return files_; }
  [[nodiscard]] const std::string& folder() const { return folder_.path(); }
  [[nodiscard]] std::string trust_domain() const { return context_.trust_domain; }
  [[nodiscard]] std::string database() const { return files_.database; }

  // FreePort is one of 127.0.0.1 that nobody listens at.
  [[nodiscard]] static std::uint16_t FreePort();
  // AddHost gives the token of a new host at a free port of 127.0.0.1; Enrol uses a token, for any
  // host name.
  [[nodiscard]] pki::JoinToken AddHost(const std::string& name);
  [[nodiscard]] std::string AddressOf(const std::string& name);
  [[nodiscard]] grpc::Status Enrol(const pki::JoinToken& token, const std::string& host,
                                   rpc::CredentialFiles* files = nullptr);
  // Join adds a host, enrols it, serves its agent and waits until the controller has heard it.
  void Join(const std::string& name, FakeAgent& agent);
  // Lose ends an agent and waits until the controller has noticed.
  void Lose(const std::string& name, FakeAgent& agent);
  // Reconnect serves an agent again at its address and waits until the controller has heard it.
  void Reconnect(const std::string& name, FakeAgent& agent);

  // Events gives all so far; AwaitEvent blocks until one of `type` about `subject` comes after
  // number `after`, and returns its number (0 after 20 s).
  [[nodiscard]] std::vector<v1::Event> Events();
  [[nodiscard]] std::int64_t LastEvent();
  [[nodiscard]] bool HasEvent(const std::string& type, const std::string& subject);
  [[nodiscard]] std::int64_t AwaitEvent(const std::string& type, const std::string& subject,
                                        std::int64_t after = 0);

  [[nodiscard]] v1::Vm GetVm(const std::string& name);
  [[nodiscard]] v1::Host GetHost(const std::string& name);
  [[nodiscard]] grpc::Status CreateVm(const std::string& yaml, const std::string& host,
                                      v1::Vm* vm = nullptr);
  // AwaitMigration watches a migration until `wanted` says so or it has ended, and returns the last
  // view.
  [[nodiscard]] v1::Migration AwaitMigration(
      const std::string& id, const std::function<bool(const v1::Migration&)>& wanted);

 private:
  const base::TestFolder folder_;
  std::string ca_file_;
  StateFiles files_;
  AdminContext context_;
  Settings settings_;
  base::SystemClock clock_;
  keys::SystemRandom random_;
  std::unique_ptr<Controller> controller_;
  std::unique_ptr<OperatorClient> admin_;
  int lost_ = 0;  // states that were replaced
};

}  // namespace sealift::controller
