// Two reactors, one per side. Each direction has one message in flight: what is read from one side
// is written to the other, and only then is the next one read.
//
//   operator ── read ──▶ agent write      end of the operator's input: agent's writes done
//   operator ◀── write ── agent read      end of the agent's stream: its status is the operator's
//
// gRPC runs callbacks of the two reactors at the same time; what both touch is guarded by
// OperatorSide::mutex_. The agent's side holds its stream open (AddHold) until its last read, so
// that the operator's side may use it until then.
#include "controller/console_relay.h"

#include <mutex>
#include <optional>
#include <utility>

#include "rpc/channel.h"

namespace sealift::controller {
namespace {

class AgentSide;

// OperatorSide is the server's half. It keeps itself until its stream is done; the agent's half
// keeps it until that one is done too.
class OperatorSide final : public grpc::ServerBidiReactor<v1::ConsoleInput, v1::ConsoleOutput> {
 public:
  explicit OperatorSide(FindConsole find) : find_(std::move(find)) {}
  void Begin(std::shared_ptr<OperatorSide> self) {
    self_ = std::move(self);
    StartRead(&input_);
  }

  // Called by the agent's side.
  void Send(const std::string& data);
  void ReadOn() { StartRead(&input_); }
  void AgentReadsNoMore();
  void AgentDone(const grpc::Status& status);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  void Open();

  const FindConsole find_;
  std::shared_ptr<OperatorSide> self_;
  v1::ConsoleInput input_;
  v1::ConsoleOutput output_;
  enum class Opened { kNo, kYes } opened_ = Opened::kNo;  // read callbacks only

  std::mutex mutex_;
  AgentSide* agent_ = nullptr;             // until its last read; guarded by mutex_
  bool cancelled_ = false;                 // by the operator; guarded by mutex_
  bool writing_ = false;                   // a message is on its way; guarded by mutex_
  std::optional<grpc::Status> last_word_;  // the agent's, kept while writing_; guarded by mutex_
};

// AgentSide is the client of the agent. It frees itself when its stream is done.
class AgentSide final
    : public grpc::ClientBidiReactor<v1::AgentConsoleInput, v1::AgentConsoleOutput> {
 public:
  AgentSide(std::shared_ptr<OperatorSide> operator_side, std::shared_ptr<AgentConnection> agent)
      : operator_(std::move(operator_side)),
        agent_(std::move(agent)),
        membership_(agent_->calls(), context_) {
    rpc::PrepareStream(context_);
    agent_->stub().async()->Console(&context_, this);
    AddHold();
  }

  void Begin(const v1::ConsoleInput& first) {
    Send(first);
    ReadOn();
    StartCall();
  }
  void Send(const v1::ConsoleInput& input) {
    input_.set_name(input.name());
    input_.set_data(input.data());
    StartWrite(&input_);
  }
  void ReadOn() { StartRead(&output_); }
  void Cancel() { context_.TryCancel(); }

  void OnWriteDone(bool ok) override {
    if (ok) operator_->ReadOn();
  }
  void OnReadDone(bool ok) override {
    if (ok) return operator_->Send(output_.data());
    operator_->AgentReadsNoMore();
    RemoveHold();
  }
  void OnDone(const grpc::Status& status) override {
    operator_->AgentDone(rpc::ToGrpc(agent_->Explain(status)));
    delete this;
  }

 private:
  const std::shared_ptr<OperatorSide> operator_;
  const std::shared_ptr<AgentConnection> agent_;
  grpc::ClientContext context_;
  const CallGroup::Membership membership_;
  v1::AgentConsoleInput input_;
  v1::AgentConsoleOutput output_;
};

void OperatorSide::OnReadDone(bool ok) {
  if (opened_ == Opened::kNo) {
    opened_ = Opened::kYes;
    if (ok) return Open();
    return Finish({grpc::StatusCode::INVALID_ARGUMENT, "the first message names the VM"});
  }
  const std::lock_guard lock(mutex_);
  if (agent_ == nullptr) return;
  ok ? agent_->Send(input_) : agent_->StartWritesDone();
}

void OperatorSide::Open() {
  auto connection = find_(input_.name());
  if (!connection.ok()) return Finish(rpc::ToGrpc(connection.status()));
  auto* agent = new AgentSide(self_, *std::move(connection));  // frees itself
  const std::lock_guard lock(mutex_);
  agent_ = agent;
  agent_->Begin(input_);
  if (cancelled_) agent_->Cancel();
}

void OperatorSide::Send(const std::string& data) {
  const std::lock_guard lock(mutex_);
  writing_ = true;
  output_.set_data(data);
  StartWrite(&output_);
}

// Also after a write that failed: the agent's stream, cancelled by then, is read to its end.
void OperatorSide::OnWriteDone(bool) {
  const std::lock_guard lock(mutex_);
  writing_ = false;
  if (agent_ != nullptr) return agent_->ReadOn();
  if (last_word_) Finish(*last_word_);
}

void OperatorSide::OnCancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (agent_ != nullptr) agent_->Cancel();
}

void OperatorSide::AgentReadsNoMore() {
  const std::lock_guard lock(mutex_);
  agent_ = nullptr;
}

void OperatorSide::AgentDone(const grpc::Status& status) {
  const std::lock_guard lock(mutex_);
  last_word_ = status;
  if (!writing_) Finish(status);
}

}  // namespace

grpc::ServerBidiReactor<v1::ConsoleInput, v1::ConsoleOutput>* RelayConsole(FindConsole find) {
  auto relay = std::make_shared<OperatorSide>(std::move(find));
  relay->Begin(relay);
  return relay.get();
}

}  // namespace sealift::controller
