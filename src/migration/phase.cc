#include "migration/phase.h"

#include <algorithm>
#include <cstddef>

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

// Places in a phase's variant.
struct Transition {
  std::size_t from;
  std::size_t to;

  bool operator==(const Transition&) const = default;
};

template <typename Phase, typename Alternative>
std::size_t PlaceOf() {
  return Phase(Alternative{}).index();
}

#define TRANSITION(side, from, to) TRANSITION_##side(from, to)

#define TRANSITION_source(from, to) {PlaceOf<SourcePhase, from>(), PlaceOf<SourcePhase, to>()},
#define TRANSITION_destination(from, to)
const Transition kSourceTransitions[] = {
#include "migration/transitions.inc"
};
#undef TRANSITION_source
#undef TRANSITION_destination

#define TRANSITION_source(from, to)
#define TRANSITION_destination(from, to) \
  {PlaceOf<DestinationPhase, from>(), PlaceOf<DestinationPhase, to>()},
const Transition kDestinationTransitions[] = {
#include "migration/transitions.inc"
};
#undef TRANSITION_source
#undef TRANSITION_destination

}  // namespace

PhaseName NameOf(const SourcePhase& phase) { return std::visit(Namer{}, phase); }
PhaseName NameOf(const DestinationPhase& phase) { return std::visit(Namer{}, phase); }

bool IsTransition(const SourcePhase& from, const SourcePhase& to) {
  return std::ranges::count(kSourceTransitions, Transition{from.index(), to.index()}) > 0;
}
bool IsTransition(const DestinationPhase& from, const DestinationPhase& to) {
  return std::ranges::count(kDestinationTransitions, Transition{from.index(), to.index()}) > 0;
}

}  // namespace sealift::migration
