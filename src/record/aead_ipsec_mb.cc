#include <intel-ipsec-mb.h>

#include <array>
#include <cstdint>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "keys/c_interop.h"
#include "record/aead_backends.h"
#include "record/record_format.h"

namespace sealift::record {
namespace {

using keys::MutableOctets;
using keys::Octets;

constexpr std::uint64_t kCpuFeatures =
    IMB_FEATURE_SSE4_2 | IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;

absl::Status CheckManager(IMB_MGR* manager) {
  if (manager == nullptr) return absl::ResourceExhaustedError("ipsec-mb: out of memory");
  if ((manager->features & kCpuFeatures) != kCpuFeatures) {
    return absl::UnavailableError("ipsec-mb: this CPU lacks AES-NI or PCLMULQDQ");
  }
  if (::imb_get_errno(manager) != 0 || (manager->features & IMB_FEATURE_SELF_TEST_PASS) == 0) {
    return absl::InternalError("ipsec-mb: the library's power-on self-test did not pass");
  }
  return absl::OkStatus();
}

absl::StatusOr<const IMB_MGR*> MakeManager() {
  IMB_MGR* manager = ::alloc_mb_mgr(0);
  if (manager != nullptr) ::init_mb_mgr_auto(manager, nullptr);
  const absl::Status status = CheckManager(manager);
  if (status.ok()) return manager;
  ::free_mb_mgr(manager);
  return status;
}

// The manager is a table of functions for this CPU. Only its direct GCM functions are called, which
// keep no state in it, so all threads share one for the life of the process.
absl::StatusOr<const IMB_MGR*> Manager() {
  static const absl::StatusOr<const IMB_MGR*> manager = MakeManager();
  return manager;
}

class IpsecMbAead final : public Aead {
 public:
  // What lies in secret memory: round keys and GHASH table, and the state of the call under way.
  struct State {
    gcm_key_data key;
    gcm_context_data context;
  };

  IpsecMbAead(const IMB_MGR& manager, keys::SecretBytes memory, const keys::SecretBytes& key)
      : manager_(manager), memory_(std::move(memory)), state_(*new (memory_.bytes().data()) State) {
    manager_.gcm256_pre(key.bytes().data(), &state_.key);
  }

  void Seal(base::ByteSpan iv, base::ByteSpan aad, base::ByteSpan plaintext,
            base::MutableByteSpan ciphertext, base::MutableByteSpan tag) override {
    SEALIFT_CHECK(iv.size() == kIvSize && tag.size() == kTagSize &&
                  ciphertext.size() == plaintext.size());
    manager_.gcm256_enc(&state_.key, &state_.context, MutableOctets(ciphertext), Octets(plaintext),
                        plaintext.size(), Octets(iv), Octets(aad), aad.size(), MutableOctets(tag),
                        tag.size());
  }

  bool Open(base::ByteSpan iv, base::ByteSpan aad, base::ByteSpan ciphertext, base::ByteSpan tag,
            base::MutableByteSpan plaintext) override {
    SEALIFT_CHECK(iv.size() == kIvSize && tag.size() == kTagSize &&
                  ciphertext.size() == plaintext.size());
    // The right tag of a forged record is not for anyone to find on the stack.
    std::array<std::byte, kTagSize> right_tag{};
    manager_.gcm256_dec(&state_.key, &state_.context, MutableOctets(plaintext), Octets(ciphertext),
                        ciphertext.size(), Octets(iv), Octets(aad), aad.size(),
                        MutableOctets(right_tag), right_tag.size());
    const bool authentic = keys::ConstantTimeEqual(right_tag, tag);
    keys::Cleanse(right_tag);
    if (!authentic) keys::Cleanse(plaintext);
    return authentic;
  }

 private:
  const IMB_MGR& manager_;
  keys::SecretBytes memory_;
  State& state_;  // in memory_
};

}  // namespace

absl::StatusOr<std::unique_ptr<Aead>> MakeIpsecMbAead(const keys::SecretBytes& key) {
  SEALIFT_ASSIGN_OR_RETURN(const IMB_MGR* manager, Manager());
  SEALIFT_ASSIGN_OR_RETURN(keys::SecretBytes memory,
                           keys::SecretBytes::Allocate(sizeof(IpsecMbAead::State)));
  return std::make_unique<IpsecMbAead>(*manager, std::move(memory), key);
}

}  // namespace sealift::record
