#include "mover/direct_source.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace sealift::mover {

absl::StatusOr<std::unique_ptr<DirectSource>> DirectSource::Create(const BeginCopy& begin,
                                                                   std::vector<base::UniqueFd> fds,
                                                                   std::size_t streams) {
  if (begin.blocks.empty() || fds.size() != 2 + begin.blocks.size() || streams == 0) {
    return absl::InvalidArgumentError("wrong number of descriptors of guest memory");
  }
  std::vector<SourceBlock> blocks;
  std::uint64_t total_bytes = 0;
  for (std::size_t i = 0; i < begin.blocks.size(); ++i) {
    const RamBlock& block = begin.blocks[i];
    SEALIFT_ASSIGN_OR_RETURN(GuestMemory memory, GuestMemory::Map(std::move(fds[2 + i]), block.size,
                                                                  MemoryAccess::kRead));
    SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t populated, memory.PopulatedBytes());
    total_bytes += populated;
    blocks.push_back({std::move(memory), block.address});
  }
  return std::unique_ptr<DirectSource>(
      new DirectSource(std::move(blocks), total_bytes, std::move(fds[0]), std::move(fds[1]),
                       streams, std::chrono::milliseconds(begin.downtime_limit_ms)));
}

DirectSource::DirectSource(std::vector<SourceBlock> blocks, std::uint64_t total_bytes,
                           base::UniqueFd pagemap, base::UniqueFd userfaultfd, std::size_t streams,
                           base::Duration downtime_limit)
    : blocks_(std::move(blocks)),
      total_bytes_(total_bytes),
      pagemap_(std::move(pagemap)),
      userfaultfd_(std::move(userfaultfd)),
      streams_(streams),
      rounds_(downtime_limit) {}

std::unique_ptr<Channel> DirectSource::MakeChannel(std::uint16_t stream, std::size_t index,
                                                   CopyEvents& events) {
  return std::make_unique<PageSource>(stream, index, streams_, blocks_,
                                      TrackedProcess{userfaultfd_.get(), pagemap_.get()}, orders_,
                                      events);
}

bool DirectSource::Begin(base::Duration now) {
  rounds_.Begin(now);
  return PassOrders();
}

bool DirectSource::OnApplied(std::uint32_t round, base::Duration now) {
  if (round != rounds_.round() || ++applied_streams_ < streams_) return false;
  applied_streams_ = 0;
  const RoundBytes sent{CopiedBytes(), orders_.zero_pages.load() * kPageSize};
  rounds_.RoundApplied(now, {sent.data - before_round_.data, sent.zeros - before_round_.zeros});
  before_round_ = sent;
  return PassOrders();
}

bool DirectSource::Finish(base::Duration now) {
  rounds_.Finish(now);
  return PassOrders();
}

bool DirectSource::Tick(base::Duration now) {
  rounds_.Tick(now);
  return PassOrders();
}

bool DirectSource::PassOrders() {
  const bool end = rounds_.phase() == CopyPhase::kFinished;
  if (orders_.round.load() == rounds_.round() && orders_.end.load() == end) return false;
  orders_.round = rounds_.round();
  orders_.end = end;
  return true;
}

std::uint64_t DirectSource::CopiedBytes() const { return orders_.data_pages.load() * kPageSize; }

CopyState DirectSource::State() const {
  CopyState state;
  state.phase = rounds_.phase();
  state.round = rounds_.round();
  state.stalls = rounds_.stalls();
  state.copied_bytes = CopiedBytes();
  state.total_bytes = total_bytes_;
  state.remaining_bytes = state.round <= 1 ? total_bytes_ - std::min(total_bytes_, CopiedBytes())
                                           : rounds_.expected_bytes();
  state.dirty_bytes_per_second = rounds_.dirty_bytes_per_second();
  return state;
}

}  // namespace sealift::mover
