// The source of a direct copy: guest RAM, the streams that carry it, and the rounds they send.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "mover/control.h"
#include "mover/copy_rounds.h"
#include "mover/page_source.h"

namespace sealift::mover {

// DirectSource belongs to the mover's main thread; the channels it makes belong to their relays,
// and it outlives them.
class DirectSource {
 public:
  // `fds` are those of BeginCopy; `streams` is the number of page streams. INVALID_ARGUMENT when
  // they do not fit together.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<DirectSource>> Create(
      const BeginCopy& begin, std::vector<base::UniqueFd> fds, std::size_t streams);
  DirectSource(const DirectSource&) = delete;
  DirectSource& operator=(const DirectSource&) = delete;

  // MakeChannel makes the end of page stream `index`, whose number is `stream`.
  [[nodiscard]] std::unique_ptr<Channel> MakeChannel(std::uint16_t stream, std::size_t index,
                                                     CopyEvents& events);

  // Each of these returns true when the streams have new orders: wake them.
  [[nodiscard]] bool Begin(base::Duration now);
  [[nodiscard]] bool OnApplied(std::uint32_t round, base::Duration now);
  [[nodiscard]] bool Finish(base::Duration now);
  [[nodiscard]] bool Tick(base::Duration now);

  [[nodiscard]] CopyState State() const;

 private:
  DirectSource(std::vector<SourceBlock> blocks, std::uint64_t total_bytes, base::UniqueFd pagemap,
               base::UniqueFd userfaultfd, std::size_t streams, base::Duration downtime_limit);
  [[nodiscard]] bool PassOrders();
  [[nodiscard]] std::uint64_t CopiedBytes() const;

  const std::vector<SourceBlock> blocks_;
  const std::uint64_t total_bytes_;  // that were populated at the start
  const base::UniqueFd pagemap_;
  const base::UniqueFd userfaultfd_;  // while it is open the kernel tracks the guest's writes
  const std::size_t streams_;
  CopyOrders orders_;
  CopyRounds rounds_;
  std::size_t applied_streams_ = 0;  // of the round under way
  RoundBytes before_round_;          // sent before it
};

}  // namespace sealift::mover
