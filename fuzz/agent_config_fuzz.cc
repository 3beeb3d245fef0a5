// agent.yaml: any text is read or refused as INVALID_ARGUMENT, and what is read holds together:
// FIPS leaves no backend but OpenSSL.
#include <cstddef>
#include <cstdint>
#include <string>

#include "agent/config.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift;
  const std::string yaml(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<agent::Config> config = agent::ParseConfig(yaml);
  if (!config.ok()) {
    SEALIFT_CHECK(absl::IsInvalidArgument(config.status()));
    return 0;
  }
  const agent::Crypto& crypto = config->crypto;
  if (crypto.provider == keys::Provider::kFips) {
    SEALIFT_CHECK(crypto.backend == record::AeadBackend::kOpenssl && !crypto.off);
  }
  SEALIFT_CHECK(config->migration_first_port <= config->migration_last_port);
  return 0;
}
