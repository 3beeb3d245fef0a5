// The record layer alone, one thread, records of 64 KiB: sealing and opening with each backend,
// against the AEAD of ipsec-mb called directly.
#include <benchmark/benchmark.h>
#include <intel-ipsec-mb.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "keys/testing.h"
#include "record/aead.h"
#include "record/opener.h"
#include "record/sealer.h"

namespace sealift::record {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint16_t kStream = 1;
constexpr std::size_t kRecordSize = kHeaderSize + kPreferredPayload + kTagSize;
// More than a second-level cache, as guest memory is.
constexpr std::size_t kRecords = 256;

keys::KeySchedule Schedule() {
  keys::testing::CountingRandom random;
  return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(), keys::SpecHash{})
      .value();
}

Sealer MakeSealer(const keys::KeySchedule& schedule, AeadBackend backend) {
  return Sealer::Create(schedule, backend, kStream, keys::Direction::kToDestination,
                        keys::Protection::kSealed)
      .value();
}

base::Bytes Memory() { return base::Bytes(kRecords * kPreferredPayload, std::byte{0x5a}); }

void CountBytes(benchmark::State& state, std::size_t bytes_per_iteration) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes_per_iteration));
}

void BM_Seal(benchmark::State& state, AeadBackend backend) {
  const keys::KeySchedule schedule = Schedule();
  Sealer sealer = MakeSealer(schedule, backend);
  const base::Bytes memory = Memory();
  base::Bytes record(kRecordSize);
  std::size_t at = 0;
  for ([[maybe_unused]] auto _ : state) {
    const base::ByteSpan payload = base::ByteSpan(memory).subspan(at, kPreferredPayload);
    benchmark::DoNotOptimize(sealer.Seal(RecordType::kData, payload, record).value());
    at = (at + kPreferredPayload) % memory.size();
  }
  CountBytes(state, kPreferredPayload);
}

// Opens kRecords records at a time; only that is timed, not the sealing before.
void BM_Open(benchmark::State& state, AeadBackend backend) {
  const keys::KeySchedule schedule = Schedule();
  Sealer sealer = MakeSealer(schedule, backend);
  RecordOpener opener =
      RecordOpener::Create(schedule, backend, kStream, keys::Direction::kToDestination,
                           keys::Protection::kSealed)
          .value();
  const base::Bytes payload(kPreferredPayload, std::byte{0x5a});
  base::Bytes records(kRecords * kRecordSize);
  const base::MutableByteSpan all(records);
  for ([[maybe_unused]] auto _ : state) {
    for (std::size_t i = 0; i < kRecords; ++i) {
      benchmark::DoNotOptimize(
          sealer.Seal(RecordType::kData, payload, all.subspan(i * kRecordSize, kRecordSize))
              .value());
    }
    const Clock::time_point start = Clock::now();
    for (std::size_t i = 0; i < kRecords; ++i) {
      if (opener.Open(all.subspan(i * kRecordSize, kRecordSize)).verdict != Verdict::kOpened) {
        state.SkipWithError("a record was rejected");
        return;
      }
    }
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
  CountBytes(state, kRecords * kPreferredPayload);
}

void BM_IpsecMbAlone(benchmark::State& state) {
  IMB_MGR* manager = ::alloc_mb_mgr(0);
  ::init_mb_mgr_auto(manager, nullptr);
  const std::array<std::uint8_t, 32> key{1, 2, 3};
  gcm_key_data prepared;
  IMB_AES256_GCM_PRE(manager, key.data(), &prepared);
  const std::vector<std::uint8_t> memory(kRecords * kPreferredPayload, 0x5a);
  std::vector<std::uint8_t> record(kRecordSize);
  std::array<std::uint8_t, kIvSize> iv{};
  std::size_t at = 0;
  for ([[maybe_unused]] auto _ : state) {
    gcm_context_data context;
    ++iv[0];
    IMB_AES256_GCM_ENC(manager, &prepared, &context, record.data() + kHeaderSize,
                       memory.data() + at, kPreferredPayload, iv.data(), record.data(), kHeaderSize,
                       record.data() + kHeaderSize + kPreferredPayload, kTagSize);
    benchmark::DoNotOptimize(record.data());
    benchmark::ClobberMemory();
    at = (at + kPreferredPayload) % memory.size();
  }
  CountBytes(state, kPreferredPayload);
  ::free_mb_mgr(manager);
}

BENCHMARK(BM_IpsecMbAlone)->UseRealTime();
BENCHMARK_CAPTURE(BM_Seal, ipsec_mb, AeadBackend::kIpsecMb)->UseRealTime();
BENCHMARK_CAPTURE(BM_Seal, openssl, AeadBackend::kOpenssl)->UseRealTime();
BENCHMARK_CAPTURE(BM_Open, ipsec_mb, AeadBackend::kIpsecMb)->UseManualTime();
BENCHMARK_CAPTURE(BM_Open, openssl, AeadBackend::kOpenssl)->UseManualTime();

}  // namespace
}  // namespace sealift::record
