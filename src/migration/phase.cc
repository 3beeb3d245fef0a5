#include "migration/phase.h"

namespace sealift::migration {
namespace {

struct Namer {
  PhaseName operator()(const Preparing& /*phase*/) const { return PhaseName::kPreparing; }
  PhaseName operator()(const Copying& /*phase*/) const { return PhaseName::kCopying; }
  PhaseName operator()(const Receiving& /*phase*/) const { return PhaseName::kCopying; }
  PhaseName operator()(const Switching& /*phase*/) const { return PhaseName::kSwitching; }
  PhaseName operator()(const Ready& /*phase*/) const { return PhaseName::kSwitching; }
  PhaseName operator()(const Committed& /*phase*/) const { return PhaseName::kCommitted; }
  PhaseName operator()(const Completed& /*phase*/) const { return PhaseName::kCompleted; }
  PhaseName operator()(const Ended& phase) const {
    return phase.why == Ended::Why::kCancelled ? PhaseName::kCancelled : PhaseName::kFailed;
  }
};

}  // namespace

PhaseName NameOf(const SourcePhase& phase) { return std::visit(Namer{}, phase); }
PhaseName NameOf(const DestinationPhase& phase) { return std::visit(Namer{}, phase); }

}  // namespace sealift::migration
