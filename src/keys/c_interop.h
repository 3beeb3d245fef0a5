// Small pieces for calling C libraries that own objects and speak unsigned char.
#pragma once

#include "base/bytes.h"

namespace sealift::keys {

// FreeWith is a std::unique_ptr deleter that calls a C function: FreeWith<::EVP_PKEY_free>.
template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

// Octets views bytes the way C libraries take them.
[[nodiscard]] inline const unsigned char* Octets(base::ByteSpan bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
[[nodiscard]] inline unsigned char* MutableOctets(base::MutableByteSpan bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

}  // namespace sealift::keys
