// The source's end of one page stream: finds the pages that the guest has written and sends them.
//
// Guest RAM is cut into stripes, and stripe n belongs to page stream n modulo their number, in
// every round. So all copies of a page travel on one stream, which delivers in order: an old copy
// never lands on a newer one, whatever the other streams do.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

#include "mover/channel.h"
#include "mover/guest_memory.h"
#include "mover/page_message.h"
#include "mover/write_scanner.h"

namespace sealift::mover {

// ---- Chosen by us ----

// Payload of the data records of page streams. Larger records save system calls and
// acknowledgements, smaller ones stay in the CPU's cache between sealing and sending.
inline constexpr std::size_t kPagePayload = std::size_t{128} * 1024;

// CopyEvents is told what happens. Calls come from a relay's thread.
class CopyEvents {
 public:
  virtual ~CopyEvents() = default;
  // The destination has everything of `round` that belongs to `stream` in memory.
  virtual void OnApplied(std::uint16_t stream, std::uint32_t round) = 0;
};

// CopyOrders are what the sources are to do, and what they have done together.
struct CopyOrders {
  std::atomic<std::uint32_t> round{0};       // send all rounds to this one
  std::atomic<bool> end{false};              // then end the stream
  std::atomic<std::uint64_t> data_pages{0};  // sent since the start
  std::atomic<std::uint64_t> zero_pages{0};  // named since the start
};

// SourceBlock is one block of guest RAM at the source.
struct SourceBlock {
  GuestMemory memory;
  std::uint64_t address = 0;  // in the VM's process
};

class PageSource final : public Channel {
 public:
  // The page stream `index` of `count`; `stream` is its number for `events`. All references and
  // the descriptors of `process` outlive it.
  PageSource(std::uint16_t stream, std::size_t index, std::size_t count,
             const std::vector<SourceBlock>& blocks, const TrackedProcess& process,
             CopyOrders& orders, CopyEvents& events);

  [[nodiscard]] absl::Status Send(transport::Stream& stream) override;
  [[nodiscard]] bool HasMore() const override;
  [[nodiscard]] absl::Status Receive(const transport::Delivery& delivery) override;
  [[nodiscard]] bool Flush() override { return true; }
  [[nodiscard]] pollfd WaitFor(bool /*room*/) const override { return {-1, 0, 0}; }

 private:
  struct Stripe {
    std::uint16_t block;
    std::uint64_t first;
    std::uint64_t end;
  };

  [[nodiscard]] absl::Status SendPages(transport::Stream& stream);
  [[nodiscard]] absl::Status SendZeroPages(transport::Stream& stream);
  [[nodiscard]] absl::Status SendData(transport::Stream& stream);
  [[nodiscard]] absl::Status SendMessage(transport::Stream& stream, const PageMessage& message);
  [[nodiscard]] absl::Status EndRound(transport::Stream& stream);
  [[nodiscard]] absl::Status LookAt(const Stripe& stripe);
  [[nodiscard]] absl::StatusOr<std::vector<PageRange>> Candidates(const Stripe& stripe);
  void Sort(const PageRange& range);
  [[nodiscard]] base::ByteSpan BytesOf(const PageRange& range) const;

  const std::uint16_t stream_;
  const std::vector<SourceBlock>& blocks_;
  CopyOrders& orders_;
  CopyEvents& events_;
  std::vector<Stripe> stripes_;         // of this stream
  std::vector<WriteScanner> scanners_;  // one for each block

  std::uint32_t round_ = 1;      // that is being sent, or comes next
  std::size_t next_stripe_ = 0;  // of the round
  std::deque<PageRange> to_announce_;
  std::deque<PageRange> zeros_;
  std::deque<PageRange> announced_;  // their bytes come next
  AppliedMessage sent_;              // what the peer is to confirm
  std::uint32_t confirmed_ = 0;      // round
  bool ended_ = false;
};

}  // namespace sealift::mover
