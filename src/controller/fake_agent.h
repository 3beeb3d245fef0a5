// For tests: an agent whose hosts and guests are fictional and whose gRPC, TLS and HPKE are real.
// The test says what it reports.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "keys/hpke.h"
#include "keys/secret_bytes.h"
#include "rpc/credentials.h"
#include "rpc/server.h"
#include "sealift/v1/agent.grpc.pb.h"

namespace sealift::controller {

// FakeAgent serves until it is stopped. Thread-safe.
class FakeAgent final : public v1::AgentService::Service {
 public:
  FakeAgent();
  ~FakeAgent() override { Stop(); }

  // Serve listens at 127.0.0.1 (port 0: any). Stop is the agent going away: what it holds stays.
  void Serve(const rpc::CredentialFiles& files, const std::string& trust_domain,
             std::uint16_t port);
  void Stop();
  [[nodiscard]] std::uint16_t port() const { return port_; }

  // Change alters what the agent reports.
  void Change(const std::function<void(v1::AgentStatus&)>& change);
  [[nodiscard]] v1::AgentStatus Report();
  // TakeOver and Copy make it hold what another agent holds of a VM, under an epoch: the other no
  // longer does, or does so, too.
  void TakeOver(FakeAgent& from, const std::string& vm, std::uint64_t epoch, v1::VmState state);
  void Copy(FakeAgent& from, const std::string& vm, std::uint64_t epoch, v1::VmState state);
  // Lose makes it forget a VM.
  void Lose(const std::string& vm);
  // Epoch is the one it holds a VM under; 0: it does not have it.
  [[nodiscard]] std::uint64_t Epoch(const std::string& vm);
  // SetPhase is the local view of the only migration held.
  void SetPhase(v1::MigrationPhase phase, const std::string& detail = "");
  // ShowReceipt is what the only migration held shows of its source's commit.
  void ShowReceipt(const std::string& receipt);
  // Fail makes a method answer with an error, until it is OK again.
  void Fail(const std::string& method, const grpc::Status& status);
  // Hold makes a method (GetStatus, PrepareDestination or PutVm) wait for Release.
  void Hold(const std::string& method);
  void Release();

  // Called says how often a method was called; WaitFor blocks until it was called so often, or 10 s
  // have passed (false).
  [[nodiscard]] int Called(const std::string& method);
  [[nodiscard]] bool WaitFor(const std::string& method, int times = 1);

  // What arrived.
  [[nodiscard]] v1::PutVmRequest last_put();
  [[nodiscard]] v1::MigrationSpec last_spec();
  [[nodiscard]] v1::PrepareSourceRequest last_prepare_source();
  [[nodiscard]] std::uint64_t last_epoch();
  [[nodiscard]] std::string installed_chain();
  // The receipt that the source was given.
  [[nodiscard]] std::string last_receipt();
  // OpenedKey is the migration key, opened with the mover's private key; empty if it did not open.
  [[nodiscard]] std::string OpenedKey();

  // AgentService.
  grpc::Status GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*,
                         v1::AgentStatus* response) override;
  grpc::Status CheckVm(grpc::ServerContext*, const v1::CheckVmRequest*,
                       v1::CheckVmResponse*) override;
  grpc::Status PutVm(grpc::ServerContext*, const v1::PutVmRequest* request,
                     v1::AgentVm* response) override;
  grpc::Status GetVm(grpc::ServerContext*, const v1::AgentVmRequest* request,
                     v1::AgentVmRecord* response) override;
  grpc::Status StartVm(grpc::ServerContext*, const v1::AgentVmRequest* request,
                       v1::AgentVm* response) override;
  grpc::Status StopVm(grpc::ServerContext*, const v1::AgentStopVmRequest* request,
                      v1::AgentVm* response) override;
  grpc::Status ForgetVm(grpc::ServerContext*, const v1::AgentVmRequest* request,
                        v1::ForgetVmResponse*) override;
  // Console echoes.
  grpc::Status Console(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>* stream) override;
  grpc::Status PrepareDestination(grpc::ServerContext*,
                                  const v1::PrepareDestinationRequest* request,
                                  v1::PrepareDestinationResponse* response) override;
  grpc::Status PrepareSource(grpc::ServerContext*, const v1::PrepareSourceRequest* request,
                             v1::PrepareSourceResponse* response) override;
  grpc::Status StartMigration(grpc::ServerContext*, const v1::StartAgentMigrationRequest* request,
                              v1::StartAgentMigrationResponse*) override;
  grpc::Status WatchMigration(grpc::ServerContext* context,
                              const v1::AgentMigrationRequest* request,
                              grpc::ServerWriter<v1::AgentMigration>* writer) override;
  grpc::Status CancelMigration(grpc::ServerContext*, const v1::AgentMigrationRequest* request,
                               v1::AgentMigration* response) override;
  grpc::Status TellDecision(grpc::ServerContext*, const v1::TellDecisionRequest* request,
                            v1::AgentMigration* response) override;
  grpc::Status ForgetMigration(grpc::ServerContext*, const v1::ForgetMigrationRequest* request,
                               v1::ForgetMigrationResponse*) override;
  grpc::Status MakeCertificateRequest(grpc::ServerContext*,
                                      const v1::MakeCertificateRequestRequest*,
                                      v1::MakeCertificateRequestResponse* response) override;
  grpc::Status InstallCertificate(grpc::ServerContext*,
                                  const v1::InstallCertificateRequest* request,
                                  v1::InstallCertificateResponse*) override;

 private:
  // All below need mutex_.
  [[nodiscard]] grpc::Status Enter(const std::string& method);
  void WaitUntilReleased(std::unique_lock<std::mutex>& lock, const std::string& method);
  [[nodiscard]] v1::AgentMigration* Find(const std::string& id);
  [[nodiscard]] grpc::Status Prepare(const v1::MigrationSpec& spec, v1::AgentMigrationRole role,
                                     std::string& public_key);
  v1::AgentVm& Vm(const std::string& name);
  [[nodiscard]] bool IsOnItsWay(const std::string& vm);
  void Remove(const std::string& vm);

  std::unique_ptr<rpc::Server> server_;
  std::uint16_t port_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  v1::AgentStatus status_;
  std::map<std::string, int> calls_;
  std::map<std::string, grpc::Status> failures_;
  std::string held_;  // the method, if any
  std::uint64_t version_ = 0;
  enum class Serving { kYes, kNo } serving_ = Serving::kNo;
  v1::PutVmRequest put_;
  std::map<std::string, std::string> definitions_;  // of VMs, by name
  v1::MigrationSpec spec_;
  v1::PrepareSourceRequest prepare_source_;
  std::uint64_t epoch_ = 0;
  std::string chain_;
  std::string sealed_key_;
  std::string receipt_;
  std::unique_ptr<keys::HpkeReceiver> receiver_;
};

}  // namespace sealift::controller
